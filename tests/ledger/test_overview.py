"""How units stand is counted and chosen by SQL, and is what happened to them."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.events import Begun, Empty, Failed, Fetched, NotUploaded, Progressed, Uploaded, Uploading
from polygon_async.ledger.ledger import open_ledger
from polygon_async.ledger.overview import Total, open_overview
from polygon_async.model.layout import LEDGER
from polygon_async.model.states import OutcomeState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Progress, Receipt, Unit, today
from polygon_async.system.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.ledger.events import Event

DAY = dt.date(2026, 3, 2)
NOW = dt.datetime(2026, 3, 5, 12, 30, tzinfo=dt.UTC)
CSV = CsvFile(path=Path("csv"), bars=3, first=1, last=3, duplicates=0, size=100, sha256="ab" * 32)
LATER = replace(CSV, bars=4, sha256="cd" * 32)
RECEIPT = Receipt(bucket="bucket", key="key", size=9, confirmed_by="etag", existed=False)
PROGRESS = Progress(size=50, crc=7, bars=2, first=1, last=2, duplicates=0, resume_at=3)
SOURCE, HERE, ELSEWHERE = "polygon", "s3://here", "s3://elsewhere"


def begun(unit: Unit) -> list[Event]:
    return [Begun(unit=unit, day=today())]


def half(unit: Unit) -> list[Event]:
    return [*begun(unit), Progressed(unit=unit, progress=PROGRESS)]


def empty(unit: Unit) -> list[Event]:
    return [*begun(unit), Empty(unit=unit)]


def failed(unit: Unit) -> list[Event]:
    return [*begun(unit), Failed(unit=unit, error="HTTP 404")]


def saved(unit: Unit) -> list[Event]:
    return [*begun(unit), Fetched(unit=unit, csv=CSV)]


def uploading(unit: Unit) -> list[Event]:
    return [*saved(unit), Uploading(unit=unit, csv=CSV, collected=NOW)]


def uploaded(unit: Unit) -> list[Event]:
    return [*uploading(unit), Uploaded(unit=unit, receipt=RECEIPT, tags={})]


def refused(unit: Unit) -> list[Event]:
    return [*uploading(unit), NotUploaded(unit=unit, error="HTTP 503")]


def uploaded_and_fetched_anew(unit: Unit) -> list[Event]:
    return [*uploaded(unit), *begun(unit), Fetched(unit=unit, csv=LATER)]


HISTORIES: dict[str, tuple[Callable[[Unit], list[Event]], tuple[object, ...]]] = {
    "AGAIN": (uploaded_and_fetched_anew, (None, "uploading", None, 4, None)),
    "BAD": (failed, ("failed", None, "HTTP 404", None, None)),
    "BEGUN": (begun, (None, "fetching", None, None, None)),
    "DONE": (uploaded, ("uploaded", None, None, 3, "key")),
    "EMPTY": (empty, ("no data", None, None, 0, None)),
    "HALF": (half, (None, "fetching", None, 2, None)),
    "LOST": (uploaded, ("failed", None, "it is gone", 3, None)),
    "MOVED": (refused, ("uploaded", None, None, 3, "key")),
    "NOT_MOVED": (uploaded, ("failed", None, "HTTP 503", 3, None)),
    "ON_ITS_WAY": (uploading, (None, "uploading", None, 3, None)),
    "REFUSED": (refused, ("failed", None, "HTTP 503", 3, None)),
    "SAVED": (saved, ("saved", None, None, 3, None)),
}
"""What happens to a ticker; and its state then, what is done, its error, its bars and its key."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a ledger with all of these."""
    order = RunRequest(
        source=SOURCE, universe="u", first_day=DAY, last_day=DAY, adjusted=True, days_given=True, settings={}
    )
    units = {
        symbol: Unit(ticker=Ticker(symbol, AssetType.STOCKS, "unknown", "USD"), start=DAY, end=DAY, adjusted=True)
        for symbol in HISTORIES
    }
    with open_ledger(tmp_path) as ledger:
        run = ledger.begin(order, now=NOW, force=False)
        for symbol, (history, _) in HISTORIES.items():
            for event in history(units[symbol]):
                ledger.apply([event], run=run, source=SOURCE, destination=HERE)
        ledger.lost(units["LOST"], source=SOURCE, destination=HERE, collected=NOW, error="it is gone")
        for symbol, again in (("MOVED", uploaded), ("NOT_MOVED", refused)):
            for event in again(units[symbol])[2:]:
                ledger.apply([event], run=run, source=SOURCE, destination=ELSEWHERE)
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        # The clock may not have moved meanwhile.
        connection.execute("UPDATE upload SET began = began + (destination = ?)", (ELSEWHERE,))
    connection.close()
    return tmp_path


def test_every_unit_is_told_as_it_stands(directory: Path) -> None:
    with open_overview(directory) as overview:
        rows = list(overview.rows())
        told = {row.ticker: (row.state, row.doing, row.error, row.bars, row.key) for row in rows}
        assert told == {symbol: expected for symbol, (_, expected) in HISTORIES.items()}
        assert list(told) == sorted(told)
        assert overview.totals == {
            None: Total(units=4, bars=9, csv_bytes=250, stored_bytes=0),
            OutcomeState.UPLOADED: Total(units=2, bars=6, csv_bytes=200, stored_bytes=18),
            OutcomeState.SAVED: Total(units=1, bars=3, csv_bytes=100, stored_bytes=0),
            OutcomeState.NO_DATA: Total(units=1, bars=0, csv_bytes=0, stored_bytes=0),
            OutcomeState.FAILED: Total(units=4, bars=9, csv_bytes=300, stored_bytes=0),
        }
        destinations = {row.ticker: row.destination for row in rows}
    assert (destinations["SAVED"], destinations["BAD"], destinations["DONE"]) == (None, None, HERE)
    assert (destinations["MOVED"], destinations["NOT_MOVED"]) == (ELSEWHERE, ELSEWHERE)


def test_what_no_run_will_continue_is_abandoned(tmp_path: Path) -> None:
    """A run goes on when its command is given again; with prices of another day, a part does not."""

    def order(first: dt.date, universe: str) -> RunRequest:
        return RunRequest(
            source=SOURCE, universe=universe, first_day=first, last_day=DAY, adjusted=True, days_given=True, settings={}
        )

    def unit(symbol: str, *, adjusted: bool = True) -> Unit:
        ticker = Ticker(symbol, AssetType.STOCKS, "unknown", "USD")
        return Unit(ticker=ticker, start=DAY, end=DAY, adjusted=adjusted)

    with open_ledger(tmp_path) as ledger:
        other = ledger.begin(order(DAY - dt.timedelta(days=1), "u"), now=NOW, force=False)
        same = ledger.begin(order(DAY, "u"), now=NOW, force=False)
        ledger.apply([Begun(unit=unit("SAME_DAY"), day=today())], run=same, source=SOURCE, destination=HERE)
        ledger.apply([Begun(unit=unit("OTHER_DAY"), day=DAY)], run=same, source=SOURCE, destination=HERE)
        raw = Begun(unit=unit("RAW", adjusted=False), day=DAY)
        ledger.apply([raw], run=same, source=SOURCE, destination=HERE)
        ledger.apply([Begun(unit=unit("OTHER_RUN"), day=today())], run=other, source=SOURCE, destination=HERE)
        ledger.apply(uploading(unit("OLD_UPLOAD")), run=other, source=SOURCE, destination=HERE)
        again = ledger.begin(order(DAY - dt.timedelta(days=1), "u"), now=NOW, force=True)
        assert again.id > same.id > other.id
    expected = {"OLD_UPLOAD": "abandoned", "OTHER_DAY": "abandoned", "OTHER_RUN": "abandoned"}
    with open_overview(tmp_path) as overview:
        assert not overview.is_running
        found = {row.ticker: row.state for row in overview.rows()}
        assert found == {**expected, "RAW": None, "SAME_DAY": None}
        assert overview.totals[OutcomeState.ABANDONED].units == 3
    # The same, while the run of those parts goes on.
    with locked(tmp_path), open_overview(tmp_path) as overview:
        assert overview.is_running
        assert {row.ticker for row in overview.rows(state=OutcomeState.ABANDONED)} == set(expected)


def test_tickers_and_states_are_chosen(directory: Path) -> None:
    with open_overview(directory, ["SAVED", "BAD", "UNKNOWN", "bad"]) as overview:
        assert [row.ticker for row in overview.rows()] == ["BAD", "SAVED"]
        assert [row.ticker for row in overview.rows(state=OutcomeState.FAILED)] == ["BAD"]
        assert {state: total.units for state, total in overview.totals.items()} == {"failed": 1, "saved": 1}
        assert len(overview.runs) == 1
    with open_overview(directory) as overview:
        failures = [row.ticker for row in overview.rows(state=OutcomeState.FAILED)]
        assert failures == ["BAD", "LOST", "NOT_MOVED", "REFUSED"]
        assert [row.ticker for row in overview.rows(state=OutcomeState.FAILED, most=2)] == failures[:2]
        assert [row.ticker for row in overview.rows(most=0)] == []


def test_a_ledger_of_the_version_before_is_read_as_it_is_and_then_brought_up_to_date(directory: Path) -> None:
    def version() -> tuple[int, bool]:
        """Of the tables, and whether the index is there."""
        connection = sqlite3.connect(directory / LEDGER)
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'unit_in_order'").fetchone()
        connection.close()
        return number, bool(found[0])

    newest = version()
    assert newest == (newest[0], True)
    with contextlib.closing(sqlite3.connect(directory / LEDGER)) as connection, connection:
        later = (
            "DROP TABLE split; DROP TABLE split_query; DROP INDEX unit_in_order; DROP TABLE history;"
            " ALTER TABLE unit DROP COLUMN remarks;"
        )
        connection.executescript(f"{later} PRAGMA user_version = 3")
    connection.close()
    with open_overview(directory) as overview:
        assert [row.ticker for row in overview.rows()] == sorted(HISTORIES)
    assert version() == (3, False)
    with open_ledger(directory):
        assert version() == newest
    with open_overview(directory) as overview:
        assert [row.ticker for row in overview.rows()] == sorted(HISTORIES)
