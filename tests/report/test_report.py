"""The run's report: it says what the run did, needs nothing but itself, and can be made again from the ledger."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from polygon_async.report.html import html_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """What a page says and refers to; it complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def report_in(directory: Path) -> dict[str, Any]:
    """The report as programs read it."""
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return report


def test_a_run_leaves_its_report_and_the_ledger_can_make_it_again(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("BAD * status=403", "QQ 1 status=503 1x", page_size=2000)
    days = ("--from", "2026-01-05", "--to", "2026-03-31", "--rate", "50/s")
    ended = program("--tickers", "AAPL", "QQ", "BAD", "NODATA", *days, "--json", box=box)
    assert ended.code == 1
    output = program.directory / "output"
    text, report, summary = (output / "report.html").read_text(), report_in(output), ended.summary
    for name in ("exit_code", "tickers", "bars", "requests", "retries", "from", "to", "seconds_in", "latency_ms"):
        assert report[name] == summary[name], name
    assert report["seconds"] < summary["seconds"], "the whole run's, its report included"
    assert report["failures"] == summary["failed"]
    assert report["no_data_tickers"] == ["NODATA"]
    assert {row["ticker"] for row in report["slowest"]} == {"AAPL", "QQ", "BAD", "NODATA"}
    sent = sum(point[1] for point in report["series"]["points"]) * report["series"]["seconds"]
    assert round(sent) == sum(count for _, count in report["latencies"]) == summary["requests"]
    assert [month[0] for month in report["coverage"]["months"]] == ["2026-01", "2026-02", "2026-03"]
    sessions = {done["ticker"]: done["sessions"] for done in summary["done"]}
    for row in report["coverage"]["tickers"]:
        assert {name: row[name] for name in sessions[row["ticker"]]} == sessions[row["ticker"]]

    page = Reader(text)
    assert {"2 of 4", "BAD", "NODATA", f"{summary['bars']:,}", summary["failed"][0]["error"]} <= set(page.words)
    assert "script" not in page.tags
    assert [reference for reference in page.references if not reference.startswith(("data:", "#"))] == []
    assert re.findall(r"url\(|@import", text) == []
    assert {"svg", "table"} <= page.tags
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for secret in (box.api_key, box.environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in text + (output / "report.json").read_text()

    for name in ("report.html", "report.json"):
        (output / name).unlink()
    again = program("report")
    assert (again.code, again.out) == (0, "output/report.html\n")
    assert report_in(output) == report
    assert Reader((output / "report.html").read_text()).words[:40] == page.words[:40]
    assert program("report", "--run", "1", "--json").summary == report
    for name in ("report-run-1.html", "report-run-1.json"):
        (output / name).unlink()
    unknown = program("report", "--run", "7")
    assert (unknown.code, unknown.err) == (
        2,
        "polygon-async: error: output/ledger.sqlite: there is no run 7; status --json lists them\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "output/ledger.sqlite does not exist; --output-dir must name the directory of a download"),
        (("--run", "x"), "--run 'x': must be a whole number, 1 or more"),
        (("--output-dir", ""), "--output-dir '': the value is empty"),
    ],
)
def test_what_cannot_be_reported_is_one_line(arguments: tuple[str, ...], said: str, program: Program) -> None:
    ended = program("report", *arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"polygon-async: error: {said}\n")


def test_what_an_answer_says_cannot_become_part_of_the_page() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    report: dict[str, Any] = {
        "version": evil, "exit_code": 2, "error": evil, "collected": "2026-03-02T10:00:00", "from": "last",
        "to": "2026-03-02", "adjusted": False, "bars": 0, "csv_bytes": 0, "stored_bytes": 0,
        "requests": 1, "estimate": None, "retries": {},
        "seconds": 1.0, "tickers": {"done": 0, "total": 1, "failed": 1, "no_data": 1},
        "seconds_in": {}, "latency_ms": {}, "latencies": [], "series": {"seconds": 1.0, "points": []},
        "slowest": [{"ticker": evil, "seconds": 1.0, "bars": 0, "state": evil}],
        "failures": [{"ticker": evil, "error": evil}], "no_data_tickers": [evil], "settings": {evil: evil},
        "coverage": {
            "months": [["2026-03", 1, 2]], "of": 1, "with_gaps": 1,
            "tickers": [{"ticker": evil, "missing": ["2026-03-03"], "months": {"2026-03": [1, 2]}}],
        },
    }  # fmt: skip
    page = Reader(html_of(report))
    assert {"script", "img"}.isdisjoint(page.tags)
    assert evil in page.words


def report_of(months: int = 3, **changes: Any) -> dict[str, Any]:
    """A report of AAPL and of MSFT, which has a gap, over so many months; with changes."""
    names = [f"{2020 + number // 12}-{number % 12 + 1:02}" for number in range(months)]
    whole = {name: [20, 20] for name in names}
    report: dict[str, Any] = {
        "version": "1", "exit_code": 0, "error": None, "collected": "2026-03-02T10:00:00", "from": "2020-01-01",
        "to": "2026-03-02", "adjusted": True, "bars": 10, "csv_bytes": 1000, "stored_bytes": 500,
        "requests": 4, "estimate": None, "retries": {}, "seconds": 2.0,
        "tickers": {"done": 2, "total": 2, "failed": 0, "no_data": 0, "unfinished": 0},
        "seconds_in": {"tokens": 9.0, "network": 1.0}, "latency_ms": {"p50": 10.0}, "latencies": [[10.0, 3], [20.0, 1]],
        "series": {"seconds": 1.0, "points": [[0, 3.0, 0, 0, 5.0], [1, 1.0, 0, 0, 5.0]]},
        "slowest": [], "failures": [], "no_data_tickers": [], "again": None,
        "settings": {"rate": "5/min", "upload": False, "keep_csv": True, "output_dir": "out", "since_last": False},
        "coverage": {
            "months": [[name, 39, 40] for name in names], "of": 2, "with_gaps": 1,
            "tickers": [
                {"ticker": "MSFT", "missing": [f"{names[0]}-07"], "months": whole | {names[0]: [19, 20]}},
                {"ticker": "AAPL", "missing": [], "months": whole},
            ],
        },
    }  # fmt: skip
    return report | changes


def test_the_order_is_that_of_the_questions() -> None:
    counts = {"done": 2, "total": 9, "failed": 6, "no_data": 0, "unfinished": 1}
    failures = [{"ticker": f"BAD{number}", "error": "HTTP 404"} for number in range(6)]
    page = Reader(
        html_of(
            report_of(
                exit_code=1,
                tickers=counts,
                failures=failures,
                causes=[{"cause": "HTTP 404", "tickers": 6, "first": [f"BAD{number}" for number in range(5)]}],
                unfinished_tickers=["LAST"],
                again="polygon-async --universe out/failed.csv",
                command=["--tickers", "AAPL", "a b"],
                files=[{"ticker": "AAPL", "state": "saved", "bars": 5, "csv": "out/AAPL.csv", "key": None}],
            )
        )
    )
    titles = [
        "What is left to do", "Failures by cause", "Failed", "Not finished", "Is it complete?", "Sessions without bars",
        "Sessions with bars", "What was slow, and why?", "Where the time went", "Files and objects", "Settings",
    ]  # fmt: skip
    assert [page.words.index(title) for title in titles] == sorted(page.words.index(title) for title in titles)
    assert {
        "6 tickers failed and 1 ticker not finished.",
        "6 tickers: HTTP 404: BAD0, BAD1, BAD2, BAD3, BAD4 and 1 more",
        "polygon-async --universe out/failed.csv",
        "polygon-async --tickers AAPL 'a b'",
        "LAST",
        (
            "1 of 2 tickers has sessions without bars between the first and the last one. 7 tickers that failed or were"
            " not finished are not among them."
        ),
        "90% of the tickers' time went to waiting for the rate limit (--rate 5/min).",
        "out/AAPL.csv",
    } <= set(page.words)
    # In the words of the flags: what is on by itself is not told, nor the bucket that was not used.
    settings = page.words[page.words.index("Settings") :]
    assert [word for word in settings if word.startswith("--")] == ["--rate", "--output-dir", "--no-upload"]


def test_the_newest_months_come_first_and_none_is_cut_off() -> None:
    page = Reader(html_of(report_of(months=75)))
    heads = page.words[page.words.index("Sessions with bars") :]
    heads = [word for word in heads[: heads.index("all 2 tickers")] if word not in {"", "Sessions with bars", "ticker"}]
    assert heads[:2] == ["26-03", "26-02"]
    assert heads[22:] == ["24-05", "24-04", "2024", "2023", "2022", "2021", "2020"]
    msft = page.words[page.words.index("MSFT", page.words.index("all 2 tickers")) :]
    shown = [word for word in msft if word][1:30]
    assert shown == ["100"] * 28 + ["99"], "a year with a gap is not whole"


def test_a_chart_of_one_bar_is_a_sentence() -> None:
    single = report_of(
        latencies=[[12.5, 4]], series={"seconds": 1.0, "points": [[0, 4.0, 0, 0, None]]}, seconds_in={"network": 2.0}
    )
    page = Reader(html_of(single))
    assert "svg" not in page.tags
    assert {
        "All 4 requests took up to 12.5 ms.",
        "4 requests, all within 1 s.",
        "network, request to last byte: 2.0 s, all tickers together.",
    } <= set(page.words)
    assert "svg" in Reader(html_of(report_of())).tags


def test_an_earlier_runs_report_stands_beside_the_newest(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    days = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")
    assert program("--tickers", "AAPL", *days, box=box).code == 0
    assert program("--tickers", "QQ", *days, "--bucket", f"s3://{box.bucket}/p", box=box).code == 0
    output = program.directory / "output"
    newest = (output / "report.html").read_text()
    ended = program("report", "--run", "1")
    assert (ended.code, ended.out) == (0, "output/report-run-1.html\n")
    assert (output / "report.html").read_text() == newest
    first = json.loads((output / "report-run-1.json").read_text())
    (file,) = first["files"]
    assert (file["ticker"], file["csv"]) == ("AAPL", "output/AAPL_historical.csv")
    assert file["key"].startswith("stocks/AAPL/")
    assert first["command"][:2] == ["--tickers", "AAPL"]
    assert report_in(output)["files"][0]["key"].startswith("p/stocks/QQ/")
    page = Reader(newest)
    assert {"--key-prefix", "p", "--from", "2026-03-02"} <= set(page.words)
