"""The ledger is true whenever it is opened, and goes on with the right run."""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from polygon_async.errors import DiskUnusable
from polygon_async.ledger.entries import Run, RunRequest
from polygon_async.ledger.events import (
    Begun,
    Empty,
    Event,
    Failed,
    Fetched,
    NotUploaded,
    Progressed,
    Resumed,
    Uploaded,
    Uploading,
)
from polygon_async.ledger.inventory import recorded_units
from polygon_async.ledger.ledger import open_ledger
from polygon_async.ledger.overview import open_overview
from polygon_async.model.layout import LEDGER
from polygon_async.model.states import FetchState, RunState, UploadState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Progress, Receipt, Unit

if TYPE_CHECKING:
    from polygon_async.ledger.entries import UnitRecord
    from polygon_async.ledger.ledger import Ledger

DAY = dt.date(2026, 3, 2)
NOW = dt.datetime(2026, 3, 5, 12, 30, 7, tzinfo=dt.UTC)
ORDER = RunRequest(
    source="polygon",
    universe="abc",
    first_day=DAY,
    last_day=DAY,
    adjusted=True,
    days_given=True,
    settings={"concurrency": 8},
)
UNIT = Unit(ticker=Ticker("AAPL", AssetType.STOCKS, "unknown", "USD"), start=DAY, end=DAY, adjusted=True)
PROGRESS = Progress(size=100, crc=7, bars=3, first=1, last=3, duplicates=0, resume_at=4)
SOURCE, DESTINATION = "polygon", "s3://bucket"


def csv_in(directory: Path, *, sha256: str = "ab" * 32) -> CsvFile:
    path = directory / "AAPL_historical.csv"
    return CsvFile(path=path, bars=3, first=1, last=3, duplicates=0, size=100, sha256=sha256)


def begin(ledger: Ledger, order: RunRequest = ORDER, *, now: dt.datetime = NOW, force: bool = False) -> Run:
    return ledger.begin(order, now=now, force=force)


def apply(ledger: Ledger, run: Run, event: Event) -> None:
    ledger.apply([event], run=run, source=SOURCE, destination=DESTINATION)


def standing(ledger: Ledger, unit: Unit = UNIT, destination: str | None = DESTINATION) -> UnitRecord | None:
    return ledger.standings([unit], source=SOURCE, destination=destination).get(unit.ticker.symbol)


def known(ledger: Ledger, unit: Unit = UNIT, destination: str | None = DESTINATION) -> UnitRecord:
    found = standing(ledger, unit, destination)
    assert found is not None
    return found


@pytest.mark.parametrize("state", [None, RunState.INTERRUPTED, RunState.STOPPED])
def test_a_run_that_did_not_end_is_gone_on_with(tmp_path: Path, state: RunState | None) -> None:
    with open_ledger(tmp_path) as ledger:
        first = begin(ledger)
        if state is not None:
            ledger.end(first, state)
    with open_ledger(tmp_path) as ledger:
        again = begin(ledger, now=NOW + dt.timedelta(hours=3))
    assert again == replace(first, resumed=True)
    assert first.collected == NOW


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, universe="abd"),
        replace(ORDER, adjusted=False),
        replace(ORDER, source="elsewhere"),
        replace(ORDER, last_day=DAY + dt.timedelta(days=1)),
        replace(ORDER, days_given=False),
    ],
)
def test_another_order_is_another_run(tmp_path: Path, other: RunRequest) -> None:
    with open_ledger(tmp_path) as ledger:
        first, second = begin(ledger), begin(ledger, other)
        assert (second.resumed, second.id) == (False, first.id + 1)


def test_a_run_that_is_done_or_forced_is_not_gone_on_with(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first = begin(ledger)
        assert not begin(ledger, force=True).resumed
        second = begin(ledger)
        assert (second.resumed, second.id) == (True, first.id + 1)
        ledger.end(second, RunState.DONE)
        assert not begin(ledger).resumed


def test_without_days_of_its_own_a_run_has_those_of_the_unfinished_one(tmp_path: Path) -> None:
    yesterday = replace(ORDER, days_given=False)
    today = replace(yesterday, first_day=DAY + dt.timedelta(days=1), last_day=DAY + dt.timedelta(days=1))
    with open_ledger(tmp_path) as ledger:
        first = begin(ledger, yesterday)
        again = begin(ledger, today)
        assert (again.first_day, again.last_day, again.id) == (DAY, DAY, first.id)
        ledger.end(again, RunState.DONE)
        assert begin(ledger, today).first_day == today.first_day


def test_a_unit_goes_its_way(tmp_path: Path) -> None:
    csv, receipt = csv_in(tmp_path), Receipt(bucket="bucket", key="k", size=9, confirmed_by="etag", existed=False)
    with open_ledger(tmp_path) as ledger:
        run = begin(ledger)
        assert standing(ledger) is None
        apply(ledger, run, Begun(unit=UNIT, day=DAY))
        assert known(ledger).progress is None
        apply(ledger, run, Progressed(unit=UNIT, progress=PROGRESS))
        assert known(ledger).progress == PROGRESS
        apply(ledger, run, Fetched(unit=UNIT, csv=csv))
        found = standing(ledger)
        assert found is not None
        assert (found.csv, found.progress, found.receipt, found.collected) == (csv, None, None, None)
        apply(ledger, run, Uploading(unit=UNIT, csv=csv, collected=NOW))
        found = standing(ledger)
        assert found is not None
        assert (found.receipt, found.collected) == (None, NOW)
        apply(ledger, run, Uploaded(unit=UNIT, receipt=receipt, tags={"symbol": "AAPL"}))
        assert known(ledger).receipt == replace(receipt, existed=True)
        # Elsewhere it is not.
        assert known(ledger, destination="s3://other").receipt is None
        assert known(ledger, destination=None).receipt is None


def test_what_was_uploaded_counts_for_its_own_content_only(tmp_path: Path) -> None:
    csv, receipt = csv_in(tmp_path), Receipt(bucket="bucket", key="k", size=9, confirmed_by="etag", existed=False)
    with open_ledger(tmp_path) as ledger:
        run = begin(ledger)
        apply(ledger, run, Begun(unit=UNIT, day=DAY))
        apply(ledger, run, Fetched(unit=UNIT, csv=csv))
        apply(ledger, run, Uploading(unit=UNIT, csv=csv, collected=NOW))
        apply(ledger, run, Uploaded(unit=UNIT, receipt=receipt, tags={}))
        apply(ledger, run, Begun(unit=UNIT, day=DAY))
        found = standing(ledger)
        assert found is not None
        assert (found.progress, found.csv, found.receipt) == (None, None, None)
        apply(ledger, run, Fetched(unit=UNIT, csv=csv_in(tmp_path, sha256="cd" * 32)))
        found = standing(ledger)
        assert found is not None
        assert (found.receipt, found.collected) == (None, None)


@pytest.mark.parametrize(
    "other",
    [
        replace(UNIT, adjusted=False),
        replace(UNIT, end=DAY + dt.timedelta(days=1)),
        replace(UNIT, start=dt.date(2026, 1, 1)),
    ],
)
def test_other_parameters_are_another_unit(tmp_path: Path, other: Unit) -> None:
    with open_ledger(tmp_path) as ledger:
        run = begin(ledger)
        apply(ledger, run, Begun(unit=UNIT, day=DAY))
        assert standing(ledger, other) is None
        apply(ledger, run, Begun(unit=other, day=DAY))
        apply(ledger, run, Empty(unit=other))
        assert known(ledger).state is FetchState.FETCHING
        assert known(ledger, other).state is FetchState.NO_DATA


def test_a_failure_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = begin(ledger)
        apply(ledger, run, Begun(unit=UNIT, day=DAY))
        apply(ledger, run, Progressed(unit=UNIT, progress=PROGRESS))
        apply(ledger, run, Failed(unit=UNIT, error="HTTP 404"))
        found = standing(ledger)
        assert found is not None
        assert (found.state, found.progress) == (FetchState.FAILED, None)


def test_a_failed_upload_keeps_the_csv(tmp_path: Path) -> None:
    csv = csv_in(tmp_path)
    with open_ledger(tmp_path) as ledger:
        run = begin(ledger)
        for event in (
            Begun(unit=UNIT, day=DAY),
            Fetched(unit=UNIT, csv=csv),
            Uploading(unit=UNIT, csv=csv, collected=NOW),
            NotUploaded(unit=UNIT, error="HTTP 503"),
        ):
            apply(ledger, run, event)
        found = known(ledger)
        assert (found.state, found.csv, found.receipt, found.collected) == (FetchState.FETCHED, csv, None, NOW)
    (unit,) = recorded_units(tmp_path)
    assert [(upload.state, upload.error) for upload in unit.uploads] == [(UploadState.FAILED, "HTTP 503")]


def test_a_unit_that_goes_on_counts_for_the_run_that_does_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first = begin(ledger)
        apply(ledger, first, Begun(unit=UNIT, day=DAY))
        apply(ledger, first, Progressed(unit=UNIT, progress=PROGRESS))
        second = begin(ledger, force=True)
        apply(ledger, second, Resumed(unit=UNIT))
        found = known(ledger)
        assert (found.run, found.day, found.progress) == (second.id, DAY, PROGRESS)


def test_every_event_can_be_sent_to_another_process(tmp_path: Path) -> None:
    unit = replace(UNIT, ticker=replace(UNIT.ticker, row={"ticker": "AAPL", "sector": "tech"}))
    csv, receipt = csv_in(tmp_path), Receipt(bucket="bucket", key="k", size=9, confirmed_by="etag", existed=False)
    events: list[Event] = [
        Begun(unit=unit, day=DAY),
        Resumed(unit=unit),
        Progressed(unit=unit, progress=PROGRESS),
        Fetched(unit=unit, csv=csv),
        Empty(unit=unit),
        Failed(unit=unit, error="HTTP 404"),
        Uploading(unit=unit, csv=csv, collected=NOW),
        Uploaded(unit=unit, receipt=receipt, tags={"symbol": "AAPL"}),
        NotUploaded(unit=unit, error="HTTP 503"),
    ]
    assert {type(event) for event in events} == set(get_args(Event))
    assert pickle.loads(pickle.dumps(events)) == events  # noqa: S301 (the bytes are its own)


def opened(directory: Path) -> None:
    with open_ledger(directory) as ledger:
        begin(ledger)


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DiskUnusable, match="newer polygon-async"):
        opened(tmp_path)


def test_another_programs_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        connection.execute("CREATE TABLE cookies (name)")
    connection.close()
    before = (tmp_path / LEDGER).read_bytes()
    with pytest.raises(DiskUnusable, match="belongs to another program"):
        opened(tmp_path)
    assert (tmp_path / LEDGER).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough for a header" * 100, b"SQLite format 3\0" * 999]
)
def test_a_damaged_ledger_is_told_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(DiskUnusable, match=r"is damaged .*move it away|belongs to another program"):
        opened(tmp_path)


@pytest.mark.parametrize("change", ["UPDATE unit SET state = 'elsewhere'", "UPDATE unit SET day = 'someday'"])
def test_a_value_that_this_version_does_not_know_is_told(tmp_path: Path, change: str) -> None:
    with open_ledger(tmp_path) as ledger:
        apply(ledger, begin(ledger), Begun(unit=UNIT, day=DAY))
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        connection.execute(change)
    connection.close()
    told = r"contains what this version cannot read \(.*\); use the version that wrote it"
    with open_ledger(tmp_path) as ledger, pytest.raises(DiskUnusable, match=told):
        standing(ledger)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE run SET state = 'elsewhere'", "RunState"),
        ("UPDATE unit SET state = 'elsewhere'", "OutcomeState"),
        ("UPDATE upload SET state = 'elsewhere'", "OutcomeState"),
    ],
)
def test_a_state_that_this_version_does_not_know_is_told_by_the_overview(
    tmp_path: Path, change: str, said: str
) -> None:
    with open_ledger(tmp_path) as ledger:
        run, csv = begin(ledger), csv_in(tmp_path)
        for event in (
            Begun(unit=UNIT, day=DAY),
            Fetched(unit=UNIT, csv=csv),
            Uploading(unit=UNIT, csv=csv, collected=NOW),
        ):
            apply(ledger, run, event)
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(DiskUnusable, match=f"'elsewhere' is not a valid {said}"), open_overview(tmp_path):
        pass


def test_a_directory_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(DiskUnusable, match="cannot be used"):
        opened(tmp_path)


def test_a_kill_in_the_middle_of_writing_leaves_a_true_ledger(tmp_path: Path) -> None:
    """What was said to be written is there; what was not is not there in parts."""
    writer = textwrap.dedent(
        """
        import sys, pathlib, itertools
        sys.path.insert(0, sys.argv[2])
        from test_ledger import *
        with open_ledger(pathlib.Path(sys.argv[1])) as ledger:
            run = begin(ledger)
            for number in itertools.count():
                unit = replace(UNIT, ticker=Ticker(f"T{number}", AssetType.STOCKS, "unknown", "USD"))
                apply(ledger, run, Begun(unit=unit, day=DAY))
                apply(ledger, run, Progressed(unit=unit, progress=PROGRESS))
                apply(ledger, run, Fetched(unit=unit, csv=csv_in(pathlib.Path(sys.argv[1]))))
                print(number, flush=True)
        """
    )
    command = [sys.executable, "-c", writer, str(tmp_path), str(Path(__file__).parent)]
    said = 0
    for most in (0, 1, 50, 300):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(most + 1):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        with open_ledger(tmp_path) as ledger:
            units = [
                replace(UNIT, ticker=Ticker(f"T{number}", AssetType.STOCKS, "unknown", "USD"))
                for number in range(said + 1)
            ]
            found = ledger.standings(units, source=SOURCE, destination=None)
        assert {standing.state for standing in found.values()} == {FetchState.FETCHED}
        assert len(found) == said + 1


def test_the_words_that_are_stored_do_not_change() -> None:
    """Ledgers that are already out there hold these."""
    assert [*FetchState] == ["fetching", "fetched", "no data", "failed"]
    assert [*UploadState] == ["uploading", "uploaded", "failed", "lost"]
    assert [*RunState] == ["running", "done", "interrupted", "stopped"]
