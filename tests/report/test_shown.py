"""How a run's values show themselves in a prompt and in a notebook: short, whatever they hold."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from polygon_async.model.counters import Counters
from polygon_async.model.days import days_between
from polygon_async.model.sessions import coverage, sessions
from polygon_async.model.states import OutcomeState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Outcome, Receipt, Unit
from polygon_async.report.summary import Summary

FIRST, LAST = dt.date(1971, 1, 1), dt.date(2025, 12, 31)
DAYS = days_between(FIRST, LAST)
EVIL = "<script>alert('x')</script> & \"more\""


def ticker(symbol: str, **row: str) -> Ticker:
    return Ticker(symbol, AssetType.CRYPTO, "unknown", "USD", row)


def csv_file() -> CsvFile:
    return CsvFile(
        path=Path("a.csv"), bars=1000, first=0, last=60_000, duplicates=0, size=58_000, sha256="0" * 64, days=DAYS
    )


def outcome(number: int, state: OutcomeState = OutcomeState.UPLOADED, error: str | None = None) -> Outcome:
    done = state is OutcomeState.UPLOADED
    unit = Unit(ticker=ticker(f"X:T{number}", note="n" * 10_000), start=FIRST, end=LAST, adjusted=True)
    receipt = Receipt(bucket="b", key="k", size=30_000, confirmed_by="etag", existed=False)
    return Outcome(
        unit=unit, state=state, csv=csv_file() if done else None, receipt=receipt if done else None, error=error
    )


def summary(*outcomes: Outcome) -> Summary:
    missing = coverage(sessions(AssetType.CRYPTO, FIRST, LAST), 1 | 1 << 20_453)
    return Summary(
        tickers=[each.unit.ticker for each in outcomes],
        outcomes=outcomes,
        counters=Counters(requests=12_345),
        start=FIRST,
        end=LAST,
        adjusted=True,
        collected=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        seconds=75.0,
        directory=Path("output"),
        coverages={each.unit.ticker.symbol: missing for each in outcomes},
    )


class Table(HTMLParser):
    """The rows of a table, and the tags in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)
        self.rows = list(zip(self.cells[::2], self.cells[1::2], strict=True))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 (a parser's method)
        self.tags.add(tag)
        if tag in {"th", "td"}:
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def test_thousands_of_tickers_are_one_line() -> None:
    many = summary(*(outcome(number) for number in range(3000)))
    assert repr(many) == "<Summary: 3,000 of 3,000 tickers done, 3,000,000 bars, exit code 0>"
    assert repr(summary(outcome(1))) == "<Summary: 1 of 1 ticker done, 1,000 bars, exit code 0>"


def test_a_notebook_shows_a_small_table() -> None:
    failed = [outcome(number, OutcomeState.FAILED, f"HTTP {EVIL} {'abc'[number % 3]}") for number in range(3000)]
    odd = [outcome(3000 + number, OutcomeState.FAILED, "no " + "z" * number) for number in range(1, 8)]
    done = [outcome(4000), outcome(4001, OutcomeState.NO_DATA)]
    shown = replace(summary(*failed, *odd, *done), error=f"stopped: {EVIL}")._repr_html_()

    assert len(shown) < 5000
    table = Table(shown)
    assert table.tags == {"table", "tbody", "tr", "th", "td"}, "nothing of what others wrote is a tag"
    assert table.rows[:6] == [
        ("state", "stopped (exit code 2), in 1 min 15 s"),
        ("error", f"stopped: {EVIL}"),
        ("tickers", "1 of 3,009 done, 1 without data, 3,007 failed"),
        ("days", "1971-01-01 to 2025-12-31, adjusted"),
        ("bars", "1,000, 58.0 kB of CSV, 30.0 kB in S3"),
        ("requests", "12,345"),
    ]
    assert [name for name, _ in table.rows[6:]] == ["failed"] * 5 + [""]
    assert table.rows[6][1].startswith("1,000 tickers: HTTP <script>")
    assert table.rows[-1][1] == "and 5 more causes: see summary.failed"


def test_retries_and_earlier_runs_are_told() -> None:
    short = replace(summary(replace(outcome(1), earlier=True)), since_last=True, adjusted=False)
    short.counters.retries.update({"429": 1200, "503": 2, **{f"r{number}": 1 for number in range(9)}})
    rows = dict(Table(short._repr_html_()).rows)
    assert rows["tickers"] == "1 of 1 done, 1 of them in earlier runs"
    assert rows["days"] == "each from its last day to 2025-12-31, not adjusted"
    assert rows["requests"] == "12,345, including retries: 1,200 x 429, 2 x 503, 1 x r0, 1 x r1, 1 x r2, ..."
    assert "error" not in rows


def test_no_value_of_a_run_is_long_or_cannot_be_spelt() -> None:
    whole = summary(outcome(1))
    each = whole.done[0]
    whole.counters.odd["X:T1"].update({str(number): 1 for number in range(1000)})
    whole.counters.notes["X:T1"] += ["note"] * 1000
    for value in (each, each.csv, each.unit, each.unit.ticker, each.receipt, whole.counters, *whole.coverages.values()):
        assert len(repr(value)) < 1000, type(value)
