"""The same command again goes on where it was: each promise of that, through the real program."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from interrupting import interrupted
from stored import decompressed, keys, stored
from waiting import wait_until

from polygon_async.model.layout import LEDGER
from polygon_async.model.units import NEW_YORK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)
DAYS = ("--from", f"{DAY}", "--to", f"{DAY}")
UNPACED = ("--rate", "unlimited", "--json")
CHAIN = ("--concurrency", "1")
"""One page after another: no windows."""
SIZE = 100


def run(program: Program, box: Sandbox, *arguments: str) -> Ended:
    ended = program(*arguments, *UNPACED, box=box)
    assert ended.code == 0, ended.err
    return ended


def half_fetched(program: Program, box: Sandbox, *arguments: str, page: int = 3) -> None:
    """Interrupt a run that has all but one ticker's first pages behind it."""
    with program.running(*arguments, *UNPACED, box=box) as process:
        wait_until(lambda: page in {request.page for request in box.requests}, process)
        interrupted(process, signal.SIGINT)
    box.set_troubles([])


def pages_of(box: Sandbox, symbol: str) -> int:
    return -(-len(box.market.days(symbol, DAY, DAY)) // SIZE)


def test_what_is_uploaded_is_told_and_not_fetched_again(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    first = run(program, box, "--tickers", "AAPL", "QQ", "NODATA", *DAYS)
    requests, objects = len(box.requests), stored(box)
    again = run(program, box, "--tickers", "AAPL", "QQ", "NODATA", *DAYS)
    assert len(box.requests) == requests, "no data is a result, too"
    assert stored(box) == objects
    assert again.summary["tickers"] == first.summary["tickers"] | {"earlier": 2}
    assert {done["ticker"]: done["key"] for done in again.summary["done"]} == {o.tags["symbol"]: o.key for o in objects}
    assert "AAPL uploaded in an earlier run, " in again.err
    assert again.summary["bars"] == first.summary["bars"]


def test_an_object_whose_csv_was_deleted_is_still_done(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS)
    (program.directory / "output" / "QQ_historical.csv").unlink()
    requests = len(box.requests)
    assert run(program, box, "--tickers", "QQ", *DAYS).summary["tickers"]["earlier"] == 1
    assert len(box.requests) == requests


def test_force_starts_afresh(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=SIZE)
    run(program, box, "--tickers", "QQ", *DAYS)
    requests = len(box.requests)
    assert run(program, box, "--tickers", "QQ", *DAYS, "--force").summary["tickers"]["earlier"] == 0
    assert len(box.requests) == 2 * requests


def test_what_was_saved_only_is_uploaded_from_its_csv(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", "AAPL", *DAYS, "--no-upload")
    requests = len(box.requests)
    again = run(program, box, "--tickers", "QQ", "AAPL", *DAYS, "--no-upload")
    assert again.summary["tickers"]["earlier"] == 2
    run(program, box, "--tickers", "QQ", "AAPL", *DAYS)
    assert len(box.requests) == requests
    assert [decompressed(item).decode() for item in stored(box)] == [
        csv_of(box.market.days(symbol, DAY, DAY)) for symbol in ("AAPL", "QQ")
    ]


@pytest.mark.parametrize("damage", ["changed", "gone", "cut"])
def test_a_csv_that_is_not_the_units_any_more_is_fetched_again(
    damage: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS, "--no-upload")
    path = program.directory / "output" / "QQ_historical.csv"
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(
        content[:-9] if damage == "cut" else content[:-9] + b"7" * 9
    )
    requests = len(box.requests)
    run(program, box, "--tickers", "QQ", *DAYS)
    assert len(box.requests) > requests
    assert path.read_bytes() == content
    assert decompressed(stored(box)[0]) == content


@pytest.mark.parametrize("symbol", ["QQ", "X:BTCUSD", "C:EURUSD"])
def test_a_half_fetched_ticker_goes_on_from_its_last_whole_page(
    symbol: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(f"{symbol} 3 stall", page_size=SIZE)
    half_fetched(program, box, "--tickers", symbol, *DAYS, *CHAIN)
    begun = len(box.requests)
    (part,) = (program.directory / "output").glob("*.part")
    # A kill may come between a page's rows and the ledger's entry: what is too much is cut back.
    with part.open("ab") as file:
        file.write(b"1,2,3,")
    run(program, box, "--tickers", symbol, *DAYS, *CHAIN)
    name = symbol.replace(":", "-")
    written = (program.directory / "output" / f"{name}_historical.csv").read_text()
    assert written == csv_of(box.market.days(symbol, DAY, DAY))
    assert len(box.requests) - begun <= pages_of(box, symbol) - 2
    assert names(program.directory / "output") == [f"{name}_historical.csv"]


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "another day"])
def test_a_part_that_cannot_be_gone_on_with_is_begun_anew(
    damage: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("QQ 3 stall", page_size=SIZE)
    half_fetched(program, box, "--tickers", "QQ", *DAYS, *CHAIN)
    begun = len(box.requests)
    (part,) = (program.directory / "output").glob("*.part")
    content = part.read_bytes()
    match damage:
        case "changed":
            part.write_bytes(content.replace(b"1", b"2", 3))
        case "cut":
            part.write_bytes(content[:-30])
        case "gone":
            part.unlink()
        case _:
            # Adjusted prices may have changed overnight.
            program.ledger("UPDATE unit SET day = '2026-03-04'")
    run(program, box, "--tickers", "QQ", *DAYS)
    assert len(box.requests) - begun >= pages_of(box, "QQ")
    written = (program.directory / "output" / "QQ_historical.csv").read_text()
    assert written == csv_of(box.market.days("QQ", DAY, DAY))


def test_unadjusted_prices_do_not_change_overnight(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 3 stall", page_size=SIZE)
    half_fetched(program, box, "--tickers", "QQ", *DAYS, *CHAIN, "--no-adjusted")
    begun = len(box.requests)
    program.ledger("UPDATE unit SET day = '2026-03-04'")
    run(program, box, "--tickers", "QQ", *DAYS, "--no-adjusted")
    assert len(box.requests) - begun < pages_of(box, "QQ")


def test_a_resumed_run_keeps_its_collection_time(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """No second object appears, and those that come later stand beside the first ones."""
    box = sandbox("STUCK 2 stall", page_size=SIZE)
    half_fetched(program, box, "--tickers", "QQ", "STUCK", *DAYS, page=2)
    # As if the first run had been hours ago.
    program.ledger("UPDATE run SET collected = 1772500000")
    run(program, box, "--tickers", "QQ", "STUCK", *DAYS)
    assert len(stored(box)) == 2
    assert any("202603030106" in key for key in keys(box))
    assert program.ledger("SELECT state FROM run") == [("done",)]


def test_failed_tickers_are_tried_again(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD * status=404")
    ended = program("--tickers", "QQ", "BAD", *DAYS, *UNPACED, box=box)
    assert ended.code == 1
    assert program.ledger("SELECT ticker FROM unit WHERE state = 'failed'") == [("BAD",)]
    box.set_troubles([])
    assert run(program, box, "--tickers", "QQ", "BAD", *DAYS).summary["tickers"]["earlier"] == 1
    assert sorted(item.tags["symbol"] for item in stored(box)) == ["BAD", "QQ"]


def test_other_days_and_prices_are_other_work(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS, "--no-upload")
    for other in (("--no-adjusted",), ("--to", "2026-03-03")):
        assert run(program, box, "--tickers", "QQ", *DAYS, *other, "--no-upload").summary["tickers"]["earlier"] == 0


def test_a_range_that_is_not_over_is_never_done_for_good(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    today = dt.datetime.now(NEW_YORK).date()
    days = ("--from", f"{today - dt.timedelta(days=7)}", "--to", f"{today + dt.timedelta(days=1)}")
    run(program, box, "--tickers", "X:BTCUSD", *days, "--no-upload")
    requests = len(box.requests)
    assert run(program, box, "--tickers", "X:BTCUSD", *days, "--no-upload").summary["tickers"]["earlier"] == 0
    assert len(box.requests) == 2 * requests


def test_without_days_an_unfinished_run_goes_on_with_those_that_it_had(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("STUCK 2 stall", page_size=20_000)
    half_fetched(program, box, "--tickers", "STUCK", *CHAIN, page=2)
    # As if that had been a day earlier.
    program.ledger("UPDATE run SET first_day = date(first_day, '-1 day'), last_day = date(last_day, '-1 day')")
    program.ledger("UPDATE unit SET first_day = date(first_day, '-1 day'), last_day = date(last_day, '-1 day')")
    ((first, last),) = program.ledger("SELECT first_day, last_day FROM run")
    again = run(program, box, "--tickers", "STUCK")
    assert (again.summary["from"], again.summary["to"]) == (first, last)
    assert run(program, box, "--tickers", "STUCK").summary["from"] != first


def test_an_object_whose_entry_is_missing_is_recognised(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Killed between the store's answer and the ledger's entry."""
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS)
    before = stored(box)
    program.ledger("UPDATE upload SET state = 'uploading'")
    # Whichever run comes next: the entry names the key under which the object was begun.
    program.ledger("UPDATE run SET state = 'running', collected = collected - 7200")
    again = run(program, box, "--tickers", "QQ", *DAYS)
    assert stored(box) == before
    assert [done["existed"] for done in again.summary["done"]] == [True]


def test_a_csv_whose_entry_is_missing_is_recognised(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Killed between the renaming of the part and the ledger's entry."""
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS, "--no-upload")
    requests = len(box.requests)
    program.ledger("UPDATE unit SET state = 'fetching', sha256 = NULL")
    run(program, box, "--tickers", "QQ", *DAYS)
    assert len(box.requests) == requests
    assert decompressed(stored(box)[0]).decode() == csv_of(box.market.days("QQ", DAY, DAY))


def test_what_a_kill_left_behind_is_taken_away(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox("BAD * status=404"), program.directory / "output"
    run(program, box, "--tickers", "QQ", *DAYS)
    for name in ("QQ", "BAD", "AAPL"):
        (output / f"{name}_historical.csv.lzo").write_bytes(b"half a file")
    program("--tickers", "QQ", "BAD", "AAPL", *DAYS, *UNPACED, "--no-keep-csv", box=box)
    assert names(output) == ["failed.csv"], "neither compressed files, nor the CSV that was to go"


def test_another_store_gets_its_own_object(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS)
    with contextlib.closing(box.s3_client()) as s3:
        s3.create_bucket(Bucket=f"{box.bucket}-2")
    requests = len(box.requests)
    again = run(program, box, "--tickers", "QQ", *DAYS, "--bucket", f"{box.bucket}-2")
    assert len(box.requests) == requests
    assert [done["bucket"] for done in again.summary["done"]] == [f"{box.bucket}-2"]


def test_the_ledger_holds_no_secret(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS)
    secrets = [box.api_key, box.environment["AWS_SECRET_ACCESS_KEY"]]
    files: list[Path] = list((program.directory / "output").glob(f"{LEDGER}*"))
    assert files
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content]


def test_a_day_that_was_not_over_is_fetched_again_when_the_run_is_resumed(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, before = sandbox(f"QQ * late={DAY}", "SLOW * stall"), dt.date(2026, 2, 27)
    command = ("--tickers", "QQ", "SLOW", "--from", f"{before}", "--to", f"{DAY}")
    with program.running(*command, *UNPACED, box=box) as process:
        wait_until(lambda: bool(stored(box)), process)
        interrupted(process, signal.SIGINT)
    box.set_troubles([])
    # As if it had been fetched on that day.
    program.ledger("UPDATE unit SET day = '2026-03-02'")
    again = run(program, box, *command)
    assert again.summary["tickers"]["earlier"] == 0
    whole = csv_of(box.market.days("QQ", before, DAY))
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == whole
    assert whole in {decompressed(item).decode() for item in stored(box)}


@pytest.mark.parametrize("trouble", ["QQ * other_ticker", "QQ * not_found", "QQ * stall"])
def test_what_could_not_be_fetched_again_costs_nobody_else_anything(
    trouble: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """Nothing is known any more of how many bars it has."""
    box = sandbox()
    run(program, box, "--tickers", "QQ", *DAYS)
    box.set_troubles([trouble])
    box.forget_requests()
    with program.running("--tickers", "QQ", *DAYS, *UNPACED, "--force", box=box) as process:
        wait_until(lambda: bool(box.requests) or process.poll() is not None, process)
        process.kill() if "stall" in trouble else process.wait(30)
    run(program, box, "--tickers", "AAPL", *DAYS)
    assert program("plan", "--offline", "--tickers", "QQ", *DAYS, box=box).code == 0
    # As a ledger of an older version has it.
    program.ledger("UPDATE unit SET coverage = '{\"with_bars\": 3}' WHERE ticker = 'QQ'")
    run(program, box, "--tickers", "MSFT", *DAYS)
