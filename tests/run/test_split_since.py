"""When bars with adjusted prices are out of date, and what a nightly run does about it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from stored import decompressed, stored

from polygon_async.ledger.held import Fetch
from polygon_async.model.splits import Split
from polygon_async.model.units import today
from polygon_async.run.splits import is_out_of_date

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

MONDAY = dt.date(2026, 3, 2)
NIGHTS = [MONDAY + dt.timedelta(days=days) for days in (0, 1, 2, 3)]
PACE = ("--rate", "unlimited", "--no-reference")
SPLIT = Split("A", dt.date(2026, 6, 10), "1", "2")
LEARNED = 1000.0


def fetch(first: int, last: int, day: int, began: float = 0.0) -> Fetch:
    """Days of June 2026."""
    return Fetch(dt.date(2026, 6, first), dt.date(2026, 6, last), dt.date(2026, 6, day), began)


@pytest.mark.parametrize(
    ("held", "today_", "expected"),
    [
        ([fetch(1, 8, 9)], 10, True),
        ([fetch(1, 8, 11)], 11, False),
        # On the day itself, once the list had it; and once more when the day is over.
        ([fetch(1, 9, 10, LEARNED + 1)], 10, False),
        ([fetch(1, 9, 10, LEARNED - 1)], 10, True),
        ([fetch(1, 9, 10, LEARNED + 1)], 11, True),
        # What was fetched anew stands for what was fetched before.
        ([fetch(1, 5, 6), fetch(6, 8, 9), fetch(1, 10, 11)], 11, False),
        ([fetch(1, 5, 6), fetch(6, 8, 9), fetch(6, 10, 11)], 11, True),
        # Bars from the day of the split on are on the new basis, whenever they were fetched.
        ([fetch(10, 10, 9)], 12, False),
    ],
)
def test_what_is_held_is_out_of_date(held: list[Fetch], today_: int, expected: bool) -> None:
    day = dt.date(2026, 6, today_)
    assert is_out_of_date(held, SPLIT, learned=LEARNED, today=day) is expected


@pytest.mark.parametrize("upload", [(), ("--no-upload",)], ids=["uploaded", "saved"])
def test_a_nightly_run_fetches_anew_what_was_split(
    upload: tuple[str, ...], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), program.directory / "output"
    flags = ("--tickers", "AAPL", "MSFT", *PACE, *upload)
    assert program(*flags, "--from", f"{MONDAY}", "--to", f"{MONDAY}", box=box).code == 0
    assert program(*flags, "--from", "last", "--to", f"{NIGHTS[1]}", box=box).code == 0
    box.split("AAPL", today(), after=4)
    forget_splits(program)

    nightly = (*flags, "--from", "last", "--to", f"{NIGHTS[2]}")
    planned = program("plan", *nightly, box=box)
    assert "  split     1 ticker, to be refetched in full: AAPL" in planned.out.splitlines()
    box.forget_requests()
    ended = program(*nightly, box=box)
    assert ended.code == 0, ended.err
    assert "  split     AAPL, since it was last fetched: refetched in full" in ended.out.splitlines()
    asked = [request.ticker for request in box.requests]
    assert asked.count("splits") == 0, "the plan has asked"
    for symbol in ("AAPL", "MSFT"):
        truth = csv_of(box.market.days(symbol, MONDAY, NIGHTS[2]))
        assert (output / f"{symbol}_historical.csv").read_text() == truth
    if not upload:
        told = {(item.key.split("/")[1], item.metadata["from"]): decompressed(item).decode() for item in stored(box)}
        assert told["AAPL", f"{MONDAY}"] == csv_of(box.market.days("AAPL", MONDAY, NIGHTS[2]))
        assert told["MSFT", f"{NIGHTS[2]}"] == csv_of(box.market.days("MSFT", NIGHTS[2], NIGHTS[2]))
    # The next night gets what is new only.
    box.forget_requests()
    ended = program(*flags, "--from", "last", "--to", f"{NIGHTS[3]}", "--json", box=box)
    assert ended.summary["fetched_anew"] == []
    assert all(f"/{NIGHTS[3]}/{NIGHTS[3]}" in request.path_qs for request in box.requests)
    assert names(output) == ["AAPL_historical.csv", "MSFT_historical.csv"]


@pytest.mark.parametrize("upload", [(), ("--no-upload",)], ids=["uploaded", "saved"])
def test_what_was_split_is_fetched_anew_also_where_the_range_is_the_same(
    upload: tuple[str, ...], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    flags = ("--tickers", "AAPL", *PACE, *upload, "--to", f"{NIGHTS[1]}")
    assert program(*flags, "--from", f"{MONDAY}", box=box).code == 0
    box.split("AAPL", today(), after=4)
    ended = program(*flags, "--from", "last", "--json", box=box)
    assert (ended.code, ended.summary["tickers"]["earlier"], ended.summary["fetched_anew"]) == (0, 0, ["AAPL"]), (
        ended.err
    )
    truth = csv_of(box.market.days("AAPL", MONDAY, NIGHTS[1]))
    assert (program.directory / "output" / "AAPL_historical.csv").read_text() == truth
    if not upload:
        assert truth in [decompressed(item).decode() for item in stored(box)]


def forget_splits(program: Program) -> None:
    """As if the ledger's answer were of another day."""
    program.ledger("DELETE FROM split_query")


def test_a_list_that_cannot_be_had_fails_who_needs_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("splits * plan403")
    first = ("--from", f"{MONDAY}", "--to", f"{MONDAY}")
    assert program("--tickers", "AAPL", "X:BTCUSD", *first, *PACE, "--no-upload", box=box).code == 0
    flags = ("--tickers", "AAPL", "X:BTCUSD", "QQ", *PACE, "--no-upload", "--from", "last", "--to", f"{NIGHTS[1]}")
    ended = program(*flags, "--json", box=box)
    assert ended.code == 1
    (failed,) = ended.summary["failed"]
    assert failed["ticker"] == "AAPL"
    assert failed["error"].startswith("its splits are not known: HTTP 403: ")
    assert {told["ticker"] for told in ended.summary["done"]} == {"X:BTCUSD", "QQ"}
    assert (program.directory / "output" / "failed.csv").read_text().splitlines()[1].startswith("AAPL,")
    # Unadjusted prices need no list.
    box.forget_requests()
    for range_ in (first, ("--from", "last", "--to", f"{NIGHTS[1]}")):
        raw = program(
            "--tickers", "AAPL", *PACE, "--no-upload", "--no-adjusted", "--output-dir", "raw", *range_, box=box
        )
        assert raw.code == 0, raw.err
    assert "splits" not in {request.ticker for request in box.requests}


def test_a_local_history_is_fetched_anew_with_all_of_its_days(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """No object was wanted of its first days: what the store has says nothing of them."""
    box, output = sandbox(), program.directory / "output"
    flags = ("--tickers", "AAPL", *PACE)
    assert program(*flags, "--no-upload", "--from", f"{MONDAY}", "--to", f"{MONDAY}", box=box).code == 0
    assert program(*flags, "--from", f"{NIGHTS[1]}", "--to", f"{NIGHTS[1]}", box=box).code == 0
    # The night's object was fetched after the split, the days before it were not.
    box.split("AAPL", today() - dt.timedelta(days=1), after=2)
    forget_splits(program)
    program.ledger("UPDATE history SET began = began - 3 * 86400")
    nightly = (*flags, "--from", "last", "--to", f"{NIGHTS[2]}")
    assert "refetched in full: AAPL" in program("plan", *nightly, box=box).out
    ended = program(*nightly, "--json", box=box)
    assert (ended.code, ended.summary["fetched_anew"]) == (0, ["AAPL"]), ended.err
    truth = csv_of(box.market.days("AAPL", MONDAY, NIGHTS[2]))
    assert (output / "AAPL_historical.csv").read_text() == truth
    assert truth in [decompressed(item).decode() for item in stored(box)]
    assert program(*flags, "--from", "last", "--to", f"{NIGHTS[3]}", "--json", box=box).summary["fetched_anew"] == []


@pytest.mark.parametrize("upload", [(), ("--no-upload",)], ids=["uploaded", "saved"])
def test_a_range_from_after_a_split_does_not_extend_a_history_from_before_it(
    upload: tuple[str, ...], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), program.directory / "output"
    flags = ("--tickers", "AAPL", "MSFT", *PACE, *upload)
    assert program(*flags, "--from", f"{MONDAY}", "--to", f"{MONDAY}", box=box).code == 0
    before = (output / "AAPL_historical.csv").read_bytes()
    box.split("AAPL", today(), after=4)

    ended = program(*flags, "--from", f"{NIGHTS[1]}", "--to", f"{NIGHTS[1]}", "--json", box=box)

    assert ended.code == 1, ended.err
    (failed,) = ended.summary["failed"]
    assert failed["ticker"] == "AAPL"
    assert failed["error"] == (
        f"it was split (4-for-1 of {today()}) after the bars in output/AAPL_historical.csv were fetched, so that their"
        f" adjusted prices do not match the new ones; --from {MONDAY} fetches them all again, another --output-dir"
        " keeps both"
    )
    assert (output / "AAPL_historical.csv").read_bytes() == before
    assert (output / "MSFT_historical.csv").read_text() == csv_of(box.market.days("MSFT", MONDAY, NIGHTS[1]))
    # As the line says.
    again = ("--universe", "output/failed.csv", *PACE, *upload, "--from", f"{MONDAY}", "--to", f"{NIGHTS[1]}")
    assert program(*again, box=box).code == 0
    assert (output / "AAPL_historical.csv").read_text() == csv_of(box.market.days("AAPL", MONDAY, NIGHTS[1]))
    assert program(*flags, "--from", f"{NIGHTS[2]}", "--to", f"{NIGHTS[2]}", box=box).code == 0


def test_what_was_fetched_before_a_split_is_uploaded_as_it_is(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    flags = ("--tickers", "AAPL", *PACE)
    nights = [("--from", f"{night}", "--to", f"{night}") for night in NIGHTS[:2]]
    truth = [csv_of(box.market.days("AAPL", night, night)) for night in NIGHTS[:2]]
    for night in nights:
        assert program(*flags, "--no-upload", *night, box=box).code == 0
    box.split("AAPL", today(), after=4)
    forget_splits(program)
    box.forget_requests()
    for night in nights:
        ended = program(*flags, *night, box=box)
        assert ended.code == 0, ended.err
    assert not box.requests
    assert sorted(decompressed(item).decode() for item in stored(box)) == sorted(truth)


def test_a_range_does_not_extend_a_history_if_nobody_knows_of_splits(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("splits * plan403")
    flags = ("--tickers", "AAPL", "X:BTCUSD", *PACE, "--no-upload")
    assert program(*flags, "--from", f"{MONDAY}", "--to", f"{MONDAY}", box=box).code == 0
    ended = program(*flags, "--from", f"{NIGHTS[1]}", "--to", f"{NIGHTS[1]}", "--json", box=box)
    assert ended.code == 1
    (failed,) = ended.summary["failed"]
    assert (failed["ticker"], failed["error"][:36]) == ("AAPL", "its splits are not known: HTTP 403: ")


def test_a_ledger_that_knew_no_age_of_histories_finds_it_in_its_units(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    flags = ("--tickers", "QQ", *PACE, "--no-upload")
    for night in NIGHTS[:2]:
        assert program(*flags, "--from", f"{night}", "--to", f"{night}", box=box).code == 0
    ((oldest,),) = program.ledger("SELECT min(began) FROM unit")
    known = program.ledger("SELECT began FROM history")
    program.ledger("ALTER TABLE history DROP COLUMN began")
    program.ledger("PRAGMA user_version = 7")
    # A newer version reads it as it is, and a run brings it up to date.
    assert program("status", "--json").summary["files"]["there"] == 2
    assert program(*flags, "--from", "last", "--to", f"{NIGHTS[1]}", box=box).code == 0
    assert program.ledger("SELECT began FROM history") == known == [(oldest,)] * 2
