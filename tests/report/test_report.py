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
