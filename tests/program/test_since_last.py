"""`--from last`: each ticker goes on where the ledger's bars of it end, and no day is left out."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from stored import decompressed, stored

from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.events import Begun, Event, Fetched, Uploaded, Uploading
from polygon_async.ledger.ledger import open_ledger
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Receipt, Unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

PACE = ("--rate", "unlimited")
THURSDAY, FRIDAY = dt.date(2026, 3, 5), dt.date(2026, 3, 6)
SUNDAY, MONDAY = dt.date(2026, 3, 8), dt.date(2026, 3, 9)
A = Ticker("A", AssetType.STOCKS, "unknown", "USD")


def ranges(box: Sandbox) -> list[tuple[str, str, str]]:
    """Ticker, first and last day of every object in the sandbox's bucket."""
    found = []
    with contextlib.closing(box.s3_client()) as s3:
        for entry in s3.list_objects_v2(Bucket=box.bucket).get("Contents", []):
            said = s3.head_object(Bucket=box.bucket, Key=entry["Key"])["Metadata"]
            found.append((entry["Key"].split("/")[1], said["from"], said["to"]))
    return sorted(found)


def test_each_ticker_starts_on_the_day_after_what_is_held_of_it(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    first = program("--tickers", "A", "--from", f"{THURSDAY}", "--to", f"{THURSDAY}", *PACE, box=box)
    second = program("--tickers", "B", "--from", f"{THURSDAY}", "--to", f"{FRIDAY}", *PACE, box=box)
    assert (first.code, second.code) == (0, 0)
    box.forget_requests()
    nightly = ("--tickers", "A", "B", "--from", "last", *PACE, "--json")
    ended = program(*nightly, "--to", f"{FRIDAY}", box=box)
    assert ended.code == 0, ended.err
    # The list of splits is asked once for all; it is empty, which is asked twice.
    asked = [(request.ticker, request.path_qs.count(f"{FRIDAY}")) for request in box.requests]
    assert asked == [("splits", 0), ("splits", 0), ("A", 2)]
    assert ended.summary["tickers"] | {"earlier": 1, "done": 2} == ended.summary["tickers"]
    days = [("A", THURSDAY, THURSDAY), ("A", FRIDAY, FRIDAY), ("B", THURSDAY, FRIDAY)]
    assert ranges(box) == sorted((name, f"{start}", f"{end}") for name, start, end in days)

    box.forget_requests()
    again = program(*nightly, "--to", f"{FRIDAY}", box=box)
    assert (again.code, again.summary["tickers"]["earlier"], len(box.requests)) == (0, 2, 0)

    weekend = program(*nightly, "--to", f"{SUNDAY}", box=box)
    assert (weekend.code, sorted(weekend.summary["no_data"])) == (0, ["A", "B"])
    monday = program(*nightly, "--to", f"{MONDAY}", box=box)
    assert monday.code == 0
    # The days that brought nothing are asked for again: what came late is not lost.
    saturday = f"{FRIDAY + dt.timedelta(days=1)}"
    assert sorted((done["ticker"], done["from"]) for done in monday.summary["done"]) == [
        ("A", saturday),
        ("B", saturday),
    ]


def test_a_ticker_of_which_nothing_is_held_starts_as_without_the_flag(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    flags = ("--tickers", "NODATA", "--no-upload", *PACE)
    # Nothing was ever held, so that a range without a bar is as wrong as ever.
    assert program(*flags, box=box, env={"POLYGON_FROM": "last"}).code == 1
    assert program(*flags, "--output-dir", "other", box=box).code == 1
    assert len(box.requests) == 4
    assert len({request.path_qs for request in box.requests}) == 1


@pytest.mark.parametrize("value", ["LAST", "last"])
def test_a_word_that_is_no_day_is_refused_with_what_is_taken(
    value: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    ended = program("--tickers", "A", "--from", f"{value}week", box=sandbox())
    assert (ended.code, ended.out) == (2, "")
    assert "must be an existing date, YYYY-MM-DD, a month" in ended.err
    assert ended.err.endswith(", or last\n")


def test_only_what_is_where_it_was_to_go_and_was_over_is_held(tmp_path: Path) -> None:
    now = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
    order = RunRequest(
        source="polygon", universe="u", first_day=THURSDAY, last_day=FRIDAY, adjusted=True, days_given=True, settings={}
    )

    def unit(start: dt.date, end: dt.date) -> Unit:
        return Unit(ticker=A, start=start, end=end, adjusted=True)

    def csv(sha256: str) -> CsvFile:
        return CsvFile(path=tmp_path / "A", bars=1, first=1, last=1, duplicates=0, size=1, sha256=sha256)

    with open_ledger(tmp_path) as ledger:
        run = ledger.begin(order, now=now, force=False)

        def fetch(unit: Unit, sha256: str, day: dt.date, *, uploaded: bool) -> None:
            events: list[Event] = [
                Begun(unit=unit, day=day),
                Fetched(unit=unit, csv=csv(sha256)),
                Uploading(unit=unit, csv=csv(sha256), collected=now),
            ]
            if uploaded:
                receipt = Receipt(bucket="b", key="k", size=1, confirmed_by="etag", existed=False, checksum="c")
                events.append(Uploaded(unit=unit, receipt=receipt, tags={}))
            for event in events:
                ledger.apply([event], run=run, source="polygon", destination="s3://b")

        def until(destination: str | None) -> dt.date | None:
            held = ledger.held(source="polygon", destination=destination, adjusted=True, back=30)
            return held["A"].until if held else None

        assert until(None) is None
        fetch(unit(THURSDAY, THURSDAY), "1", MONDAY, uploaded=True)
        fetch(unit(THURSDAY, FRIDAY), "2", MONDAY, uploaded=False)
        assert (until("s3://b"), until("s3://c"), until(None)) == (THURSDAY, None, FRIDAY)
        # Fetched while its last day was not over: that day is not held.
        fetch(unit(FRIDAY, MONDAY), "3", MONDAY, uploaded=True)
        assert until("s3://b") == SUNDAY
        assert ledger.held(source="polygon", destination=None, adjusted=False, back=30) == {}
        assert ledger.held(source="elsewhere", destination=None, adjusted=True, back=30) == {}


# Sessions that the API gets late

WEDNESDAY = dt.date(2026, 3, 4)
NIGHTS = [WEDNESDAY, THURSDAY, FRIDAY, *(MONDAY + dt.timedelta(days=days) for days in range(5))]
QQ = ("--tickers", "QQ", "--no-reference", *PACE, "--json")


def night(program: Program, box: Sandbox, last: dt.date, *arguments: str) -> Ended:
    box.forget_requests()
    return program(*QQ, "--from", "last", "--to", f"{last}", *arguments, box=box)


def held_bars(box: Sandbox) -> dict[int, str]:
    """Every minute that any object holds."""
    rows = [row for item in stored(box) for row in decompressed(item).decode().splitlines()[1:]]
    return {int(row.split(",")[6]): row for row in rows}


@pytest.mark.parametrize("nights_late", [1, 2, 5])
def test_a_session_that_comes_late_arrives_by_itself_and_is_told_until_then(
    nights_late: int, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    assert program(*QQ, "--from", "2026-03-02", "--to", "2026-03-03", box=box).code == 0
    box.set_troubles([f"QQ * late={WEDNESDAY}"])
    for number, last in enumerate(NIGHTS[:nights_late]):
        ended = night(program, box, last)
        if number:
            assert ended.code == 0, ended.err
            [done] = ended.summary["done"]
            assert (done["from"], done["sessions"]["missing"]) == (f"{WEDNESDAY}", [f"{WEDNESDAY}"])
    box.set_troubles([])
    assert night(program, box, NIGHTS[nights_late]).code == 0
    ended = night(program, box, NIGHTS[nights_late + 1])
    truth = csv_of(box.market.days("QQ", dt.date(2026, 3, 2), NIGHTS[nights_late + 1])).splitlines()[1:]
    assert sorted(held_bars(box).values()) == sorted(truth)
    assert (program.directory / "output" / "QQ_historical.csv").read_text().splitlines()[1:] == truth
    # What has arrived is not asked for again.
    [done] = ended.summary["done"]
    assert done["from"] == f"{NIGHTS[nights_late] + dt.timedelta(days=1)}"


def test_what_never_comes_is_let_go_when_it_is_no_longer_among_the_last_sessions(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    assert program(*QQ, "--from", "2026-03-02", "--to", "2026-03-03", box=box).code == 0
    box.set_troubles([f"QQ * late={WEDNESDAY}"])
    begun = []
    for last in NIGHTS[1:7]:
        ended = night(program, box, last, "--look-back", "3")
        assert ended.code == 0, ended.err
        [done] = ended.summary["done"]
        begun.append((done["from"], done["sessions"]["missing"]))
    missing = [f"{WEDNESDAY}"]
    assert begun[:3] == [(f"{WEDNESDAY}", missing)] * 3
    assert begun[3:] == [(f"{last}", []) for last in NIGHTS[4:7]]


def test_without_looking_back_only_what_is_new_is_asked_for(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    box.set_troubles([f"QQ * late={WEDNESDAY}"])
    assert program(*QQ, "--from", "2026-03-02", "--to", f"{THURSDAY}", box=box).code == 0
    ended = night(program, box, FRIDAY, "--look-back", "0")
    assert [done["from"] for done in ended.summary["done"]] == [f"{FRIDAY}"]


def test_a_range_in_the_past_goes_on_where_what_is_held_ends(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, long_ago = sandbox(), dt.date(2023, 3, 14)
    assert program(*QQ, "--from", f"{long_ago}", "--to", f"{long_ago}", box=box).code == 0
    ended = night(program, box, long_ago + dt.timedelta(days=1))
    assert ended.code == 0, ended.err
    assert [done["from"] for done in ended.summary["done"]] == ["2023-03-15"]
