"""The file under a ticker's name is its local history: it grows, and never loses a bar that is nowhere else."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from stored import decompressed, keys, stored
from waiting import wait_until

from polygon_async.ledger.ledger import open_ledger
from polygon_async.model.units import today
from polygon_async.settings.values import default_range

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

MONDAY = dt.date(2026, 3, 2)
TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (MONDAY + dt.timedelta(days=days) for days in (1, 2, 3, 4))
NEXT_MONDAY = dt.date(2026, 3, 9)
NAME = "QQ_historical.csv"
QQ = ("--tickers", "QQ", "--rate", "unlimited")


def days(first: dt.date, last: dt.date) -> tuple[str, ...]:
    return "--from", f"{first}", "--to", f"{last}"


def truth(box: Sandbox, first: dt.date, last: dt.date) -> str:
    return csv_of(box.market.days("QQ", first, last))


@pytest.mark.parametrize("upload", [(), ("--no-upload",)], ids=["uploaded", "saved"])
def test_a_run_that_continues_it_extends_it(
    upload: tuple[str, ...], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), program.directory / "output"
    assert program(*QQ, *upload, *days(MONDAY, TUESDAY), box=box).code == 0
    for night in (WEDNESDAY, THURSDAY, FRIDAY, NEXT_MONDAY):
        ended = program(*QQ, *upload, "--from", "last", "--to", f"{night}", box=box)
        assert ended.code == 0, ended.err
    assert (output / NAME).read_text() == truth(box, MONDAY, NEXT_MONDAY)
    assert names(output) == [NAME]
    if upload:
        return
    # An object holds what was new on its night only.
    nights = [(MONDAY, TUESDAY), (WEDNESDAY, WEDNESDAY), (THURSDAY, THURSDAY), (FRIDAY, FRIDAY)]
    nights.append((FRIDAY + dt.timedelta(days=1), NEXT_MONDAY))
    told = {(item.metadata["from"], item.metadata["to"]): decompressed(item).decode() for item in stored(box)}
    assert told == {(f"{first}", f"{last}"): truth(box, first, last) for first, last in nights}


def test_the_same_command_again_asks_nothing(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    first, second = (*QQ, "--no-upload", *days(MONDAY, TUESDAY)), (*QQ, "--no-upload", *days(WEDNESDAY, THURSDAY))
    assert (program(*first, box=box).code, program(*second, box=box).code) == (0, 0)
    before = (program.directory / "output" / NAME).read_bytes()
    box.forget_requests()
    for command in (first, second):
        ended = program(*command, "--json", box=box)
        assert (ended.code, ended.summary["tickers"]["earlier"]) == (0, 1), ended.err
    assert box.requests == []
    assert (program.directory / "output" / NAME).read_bytes() == before


def test_what_was_saved_is_uploaded_out_of_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    for first, last in ((MONDAY, TUESDAY), (WEDNESDAY, THURSDAY)):
        assert program(*QQ, "--no-upload", *days(first, last), box=box).code == 0
    box.forget_requests()
    for first, last in ((MONDAY, TUESDAY), (WEDNESDAY, THURSDAY)):
        ended = program(*QQ, "--no-reference", *days(first, last), box=box)
        assert ended.code == 0, ended.err
    assert box.requests == []
    assert {decompressed(item).decode() for item in stored(box)} == {
        truth(box, MONDAY, TUESDAY),
        truth(box, WEDNESDAY, THURSDAY),
    }
    assert names(program.directory / "output") == [NAME]


def test_a_range_that_covers_it_replaces_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    for first, last in ((WEDNESDAY, THURSDAY), (TUESDAY, THURSDAY), (MONDAY, FRIDAY)):
        assert program(*QQ, "--no-upload", *days(first, last), box=box).code == 0
        assert (program.directory / "output" / NAME).read_text() == truth(box, first, last)


@pytest.mark.parametrize(
    ("first", "last"),
    [(TUESDAY, TUESDAY), (MONDAY, TUESDAY), (MONDAY - dt.timedelta(days=7), MONDAY), (NEXT_MONDAY,) * 2],
)
def test_any_other_range_is_refused_before_a_request(
    first: dt.date, last: dt.date, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, *days(MONDAY, WEDNESDAY), box=box).code == 0
    before = path.read_text()
    box.forget_requests()

    refused = program(*QQ, *days(first, last), box=box)

    assert (refused.code, box.requests) == (2, []), refused.err
    assert refused.error == (
        f"polygon-async: error: output/{NAME} holds {before.count(chr(10)) - 1:,} bars of {MONDAY} to {WEDNESDAY}:"
        f" {first} to {last} neither covers nor continues that, so bars would be lost;"
        " choose another --output-dir, another range, or --force to replace it"
    )
    assert path.read_text() == before
    assert len(keys(box)) == 1
    assert program(*QQ, *days(first, last), "--output-dir", "other", box=box).code == 0
    assert program(*QQ, *days(first, last), "--force", box=box).code == 0
    assert path.read_text() == truth(box, first, last)


def test_other_prices_do_not_continue_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    assert program(*QQ, "--no-upload", *days(MONDAY, TUESDAY), box=box).code == 0
    box.forget_requests()
    ended = program(*QQ, "--no-upload", "--no-adjusted", *days(WEDNESDAY, WEDNESDAY), box=box)
    assert (ended.code, box.requests) == (2, [])
    assert "of other prices or another source" in ended.error


@pytest.mark.parametrize("touch", ["cut", "edited", "dated"])
def test_a_file_that_somebody_touched_is_judged_by_what_it_holds(
    touch: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(MONDAY, TUESDAY), box=box).code == 0
    text = path.read_text()
    if touch == "cut":
        path.write_text(text[: len(text) // 2])
    elif touch == "edited":
        path.write_text("".join(text.splitlines(keepends=True)[:-5]))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = path.read_text()
    box.forget_requests()
    ended = program(*QQ, "--no-upload", *days(WEDNESDAY, WEDNESDAY), box=box)
    if touch == "dated":
        assert ended.code == 0, ended.err
        assert path.read_text() == truth(box, MONDAY, WEDNESDAY)
        return
    assert (ended.code, box.requests) == (2, [])
    assert path.read_text() == before
    # What covers it, and has no fewer bars, replaces it.
    assert program(*QQ, "--no-upload", *days(MONDAY, WEDNESDAY), box=box).code == 0
    assert path.read_text() == truth(box, MONDAY, WEDNESDAY)


def files_in(program: Program) -> list[tuple[str, str, int]]:
    """What `status` says of units' files: ticker, what became of it, and the bytes that are there."""
    return [(row["ticker"], row["file"], row["csv_bytes"]) for row in program("status", "--json").summary["tickers"]]


def test_status_says_what_became_of_an_uploaded_file(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    tickers = ("CUT", "EDITED", "GONE", "KEPT", "TOUCHED")
    assert program("--tickers", *tickers, *QQ[2:], *days(MONDAY, MONDAY), box=box).code == 0
    assert program("--tickers", "NOT_KEPT", "--no-keep-csv", *QQ[2:], *days(MONDAY, MONDAY), box=box).code == 0
    sizes = {path.name.partition("_hist")[0]: path.stat().st_size for path in output.glob("*_historical.csv")}
    os.truncate(output / "CUT_historical.csv", sizes["CUT"] // 2)
    edited = output / "EDITED_historical.csv"
    edited.write_bytes(edited.read_bytes()[::-1])
    (output / "GONE_historical.csv").rename(output / "elsewhere.csv")
    os.utime(output / "TOUCHED_historical.csv", (1_000_000_000, 1_000_000_000))

    assert files_in(program) == [
        ("CUT", "changed", 0), ("EDITED", "changed", 0), ("GONE", "none", 0), ("KEPT", "there", sizes["KEPT"]),
        ("NOT_KEPT", "none", 0), ("TOUCHED", "there", sizes["TOUCHED"]),
    ]  # fmt: skip
    told = program("status", "--json").summary
    assert told["csv_bytes"] == sizes["KEPT"] + sizes["TOUCHED"]
    assert told["files"] == {"there": 2, "changed": 2, "missing": 0, "replaced": 0, "none": 2}
    lines = program("status").out.splitlines()
    assert "  files     changed for 2 units, none for 2 units" in lines
    states = {line.split()[0]: line.partition("  uploaded")[2].split("  ")[0] for line in lines if "uploaded" in line}
    assert states.items() >= {
        "CUT": ", file changed", "GONE": ", no local copy", "NOT_KEPT": ", no local copy", "KEPT": "",
    }.items()  # fmt: skip


def test_status_says_which_bars_are_no_longer_in_a_file(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    assert program(*QQ, "--no-upload", *days(MONDAY, TUESDAY), box=box).code == 0
    assert program(*QQ, "--no-upload", *days(WEDNESDAY, WEDNESDAY), box=box).code == 0
    (program.directory / "output" / NAME).rename(program.directory / NAME)
    assert program(*QQ, "--no-upload", *days(THURSDAY, THURSDAY), box=box).code == 0
    assert [file for _, file, _ in files_in(program)] == ["replaced", "replaced", "there"]
    assert "saved, file replaced" in program("status").out


def test_what_is_up_to_date_is_saved_only_if_its_file_is_there(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), program.directory / "output"
    nightly = ("--tickers", "QQ", "AAPL", *QQ[2:], "--no-upload", "--from", "last", "--json")
    for ticker, first in (("QQ", MONDAY), ("AAPL", TUESDAY)):
        assert program("--tickers", ticker, *QQ[2:], "--no-upload", *days(first, TUESDAY), box=box).code == 0
    assert program(*nightly, "--to", f"{WEDNESDAY}", box=box).code == 0
    box.forget_requests()
    again = program(*nightly, "--to", f"{TUESDAY}", box=box)
    assert (again.code, again.summary["tickers"]["earlier"], box.requests) == (0, 2, [])

    (output / NAME).rename(program.directory / NAME)
    planned = program("plan", "--offline", *nightly, "--to", f"{TUESDAY}", box=box)
    assert planned.summary["tickers"] | {"done": 1} == planned.summary["tickers"], planned.out
    again = program(*nightly, "--to", f"{TUESDAY}", box=box)
    assert (again.code, again.summary["tickers"]["earlier"]) == (0, 1), again.err
    assert {request.ticker for request in box.requests} == {"QQ"}
    assert (output / NAME).read_text() == truth(box, WEDNESDAY, WEDNESDAY)

    (output / NAME).write_text("cut")
    box.forget_requests()
    assert program(*nightly, "--to", f"{TUESDAY}", box=box).code == 0
    assert (output / NAME).read_text() == truth(box, WEDNESDAY, WEDNESDAY)


def test_status_says_what_became_of_the_only_copy(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    assert program("--tickers", "QQ", "AAPL", "MSFT", *QQ[2:], "--no-upload", *days(MONDAY, MONDAY), box=box).code == 0
    assert program(*QQ, "--no-upload", *days(TUESDAY, TUESDAY), box=box).code == 0
    (output / "AAPL_historical.csv").unlink()
    (output / "MSFT_historical.csv").write_text("cut")
    found = json.loads(program("status", "--json", box=None).out)["tickers"]
    assert [(row["ticker"], row["file"]) for row in found] == [
        ("AAPL", "missing"), ("MSFT", "changed"), ("QQ", "there"), ("QQ", "there"),
    ]  # fmt: skip
    text = program("status", box=None).out
    assert "saved, file missing" in text
    assert "saved, file changed" in text


def test_the_only_copy_is_never_replaced_by_fewer_bars(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, path = sandbox(), program.directory / "output" / NAME
    path.parent.mkdir()
    # The file of another program, or of an API that has lost a bar since.
    first, rest = truth(box, MONDAY, FRIDAY).split("\n", 1)
    path.write_text(f"{first}\n0.5,0.5,0.5,0.5,1,,{box.market.days('QQ', MONDAY, MONDAY)[0].t - 60_000},,\n{rest}")
    before = path.read_text()
    wide = days(MONDAY, FRIDAY)

    ended = program(*QQ, "--no-upload", *wide, box=box)
    assert ended.code == 1, ended.err
    assert "not in any store; move it away, or replace it with --force" in ended.err
    assert path.read_text() == before
    assert names(path.parent) == [NAME, "failed.csv"]
    assert program(*QQ, "--no-upload", *wide, "--force", box=box).code == 0
    assert path.read_text() == truth(box, MONDAY, FRIDAY)


def test_the_only_copy_does_not_lose_a_day_to_a_wider_range(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """There are more bars, but one day that was there is late this time."""
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(TUESDAY, THURSDAY), box=box).code == 0
    before = path.read_text()
    box.set_troubles([f"QQ * late={WEDNESDAY}"])
    wider = days(MONDAY - dt.timedelta(days=10), FRIDAY)
    ended = program(*QQ, "--no-upload", *wider, box=box)
    assert ended.code == 1, ended.err
    bars = [len(box.market.days("QQ", day, day)) for day in (TUESDAY, WEDNESDAY, THURSDAY)]
    told = f"the API has {bars[0] + bars[2]:,} bars of {TUESDAY} to {THURSDAY}, and output/{NAME} holds {sum(bars):,}"
    assert f"{told} not in any store" in ended.err
    assert path.read_text() == before
    box.set_troubles([])
    assert program(*QQ, "--no-upload", *wider, box=box).code == 0
    assert path.read_text() == truth(box, MONDAY - dt.timedelta(days=10), FRIDAY)


def test_without_keeping_csvs_a_history_is_left_alone(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, *days(MONDAY, WEDNESDAY), box=box).code == 0
    before = path.read_bytes()
    for first, last in ((TUESDAY, TUESDAY), (THURSDAY, THURSDAY), (MONDAY, FRIDAY)):
        assert program(*QQ, "--no-keep-csv", *days(first, last), box=box).code == 0
        assert path.read_bytes() == before
    assert names(path.parent) == [NAME]
    assert len(keys(box)) == 4


def test_a_ledger_without_histories_knows_the_file_that_it_wrote(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """As an older version left it: the table is filled from what the ledger knows of units."""
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(MONDAY, TUESDAY), box=box).code == 0
    take_histories_away(path.parent)
    assert program(*QQ, "--no-upload", *days(WEDNESDAY, WEDNESDAY), box=box).code == 0
    assert path.read_text() == truth(box, MONDAY, WEDNESDAY)


def take_histories_away(directory: Path) -> None:
    """Bring a ledger back to the version of the tables that knew no histories."""
    with open_ledger(directory) as ledger:
        ledger._connection.executescript(
            "DROP TABLE split; DROP TABLE split_query; DROP TABLE history; ALTER TABLE unit DROP COLUMN remarks;"
            " PRAGMA user_version = 4;"
        )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "other line ends": lambda text: text.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "blank lines": lambda text: text + b"\n\n",
    "zeros at its end": lambda text: text[:-25_000] + bytes(25_000),
    "another tool's": lambda _: b"date,close\n" + b"2026-03-02,1.5\n" * 10,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_read_is_not_taken_for_nothing(
    damage: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """It may be the only copy of bars, or somebody else's file."""
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(MONDAY, TUESDAY), box=box).code == 0
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = path.read_bytes()
    box.forget_requests()
    for range_ in (days(WEDNESDAY, THURSDAY), ("--from", "last", "--to", f"{WEDNESDAY}")):
        ended = program(*QQ, "--no-upload", *range_, box=box)
        assert (ended.code, path.read_bytes()) == (2, before), ended.err
        assert "QQ" not in {request.ticker for request in box.requests}
        assert f"output/{NAME} cannot be read as this program's CSV of bars" in ended.error
    assert len(program("status", "--json").summary["runs"]) == 1, "what was refused is no run"
    # Objects may be stored meanwhile, and what is fetched again as a whole loses nothing.
    assert program(*QQ, "--no-keep-csv", *days(WEDNESDAY, WEDNESDAY), box=box).code == 0
    assert path.read_bytes() == before
    assert program(*QQ, "--no-upload", *days(MONDAY, WEDNESDAY), box=box).code == 0
    assert path.read_text() == truth(box, MONDAY, WEDNESDAY)


def test_a_file_that_comes_while_the_run_goes_on_is_not_replaced(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, path = sandbox("QQ * latency=1"), program.directory / "output" / NAME
    with program.running(*QQ, "--no-upload", *days(MONDAY, MONDAY), box=box) as process:
        wait_until(lambda: bool(box.requests), process)
        path.write_text(truth(box, TUESDAY, FRIDAY))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"output/{NAME} has come while the run went on" in err
    assert path.read_text() == truth(box, TUESDAY, FRIDAY)


def test_a_day_that_was_not_over_is_not_built_upon(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """A history that was fetched on its last day lacks what came after that: it is continued from that day on."""
    box, output = sandbox("QQ * late=2026-03-04"), program.directory / "output"
    assert program(*QQ, "--no-upload", *days(MONDAY, WEDNESDAY), box=box).code == 0
    box.set_troubles([])
    # As if it had been fetched on Wednesday.
    wednesday = int(dt.datetime(2026, 3, 4, 18, tzinfo=dt.UTC).timestamp())
    os.utime(output / NAME, (wednesday, wednesday))
    program.ledger("UPDATE history SET modified = ?", (wednesday * 10**9,))
    program.ledger("UPDATE unit SET day = '2026-03-04'")
    before = (output / NAME).read_text()
    ended = program(*QQ, "--no-upload", *days(THURSDAY, FRIDAY), box=box)
    assert (ended.code, (output / NAME).read_text()) == (2, before)
    assert f"{THURSDAY} to {FRIDAY} neither covers nor continues that" in ended.error
    assert program(*QQ, "--no-upload", *days(WEDNESDAY, FRIDAY), box=box).code == 0
    assert (output / NAME).read_text() == truth(box, MONDAY, FRIDAY)


def test_a_nightly_run_says_whose_history_is_gone(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    flags = ("--tickers", "QQ", "AAPL", *QQ[2:], "--no-upload")
    assert program(*flags, *days(MONDAY, TUESDAY), box=box).code == 0
    (output / NAME).rename(program.directory / NAME)
    ended = program(*flags, "--from", "last", "--to", f"{WEDNESDAY}", box=box)
    assert ended.code == 0
    told = (
        f"1 ticker in output has no file any more (QQ), and gets one of its newest bars only; --from {MONDAY} fetches"
        " all of them again"
    )
    assert next(line for line in ended.err.splitlines() if "no file any more" in line).endswith(told)
    assert (output / NAME).read_text() == truth(box, WEDNESDAY, WEDNESDAY)
    assert "no file any more" not in program(*flags, "--from", "last", "--to", f"{THURSDAY}", box=box).err
    # As the line says.
    assert program(*flags, *days(MONDAY, THURSDAY), box=box).code == 0
    assert (output / NAME).read_text() == truth(box, MONDAY, THURSDAY)


@pytest.mark.parametrize("last", [TUESDAY, WEDNESDAY])
def test_a_file_that_lacks_what_the_ledger_holds_gets_it_from_a_later_night(
    last: dt.date, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """As after a kill between the ledger's entry and the file's new name, and then for other tickers."""
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(MONDAY, MONDAY), box=box).code == 0
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert program(*QQ, "--no-upload", "--from", "last", "--to", f"{TUESDAY}", box=box).code == 0
    path.write_bytes(before[0])
    os.utime(path, ns=(before[1],) * 2)
    nightly = ("--tickers", "QQ", "AAPL", *QQ[2:], "--no-upload", "--from", "last", "--to", f"{last}")
    ended = program(*nightly, box=box)
    assert ended.code == 0, ended.err
    assert path.read_text() == truth(box, MONDAY, last)


def test_what_a_night_still_lacks_is_put_between_the_bars_of_later_nights(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """A night that was killed goes on with its own days, when its file has those of later nights already."""
    box, path = sandbox(), program.directory / "output" / NAME
    nightly = (*QQ, "--no-upload", "--from", "last")
    assert program(*QQ, "--no-upload", *days(MONDAY, MONDAY), box=box).code == 0
    box.set_troubles([f"QQ * late={TUESDAY}"])
    assert program(*nightly, "--to", f"{THURSDAY}", box=box).code == 0
    box.set_troubles([])
    ended = program(*nightly, "--to", f"{WEDNESDAY}", box=box)
    assert ended.code == 0, ended.err
    assert path.read_text() == truth(box, MONDAY, THURSDAY)
    assert names(path.parent) == [NAME]
    box.forget_requests()
    assert program(*nightly, "--to", f"{FRIDAY}", box=box).code == 0
    assert path.read_text() == truth(box, MONDAY, FRIDAY)
    assert all(f"/{FRIDAY}/{FRIDAY}" in request.path_qs for request in box.requests)


def test_days_before_a_history_are_put_before_it_by_a_night_for_the_store(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    """Nothing is stored yet, and the night that is resumed ends before the file does."""
    box, path = sandbox(), program.directory / "output" / NAME
    assert program(*QQ, "--no-upload", *days(WEDNESDAY, FRIDAY), box=box).code == 0
    first, _ = default_range(today())
    ended = program(*QQ, "--from", "last", "--to", f"{THURSDAY}", box=box)
    assert ended.code == 0, ended.err
    assert path.read_text() == truth(box, first, FRIDAY)
    (item,) = stored(box)
    assert decompressed(item).decode() == truth(box, first, THURSDAY)


def test_a_split_is_refetched_to_the_end_of_what_is_held(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, path = sandbox(), program.directory / "output" / "AAPL_historical.csv"
    flags = ("--tickers", "AAPL", *QQ[2:], "--no-upload")
    assert program(*flags, *days(MONDAY, THURSDAY), box=box).code == 0
    box.split("AAPL", FRIDAY, after=2)
    program.ledger("UPDATE history SET began = began - 300 * 86400")
    program.ledger("UPDATE unit SET began = began - 300 * 86400, day = date(day, '-300 days')")
    ended = program(*flags, "--from", "last", "--to", f"{TUESDAY}", "--json", box=box)
    assert (ended.code, ended.summary["fetched_anew"]) == (0, ["AAPL"]), ended.err
    assert path.read_text() == csv_of(box.market.days("AAPL", MONDAY, THURSDAY))
