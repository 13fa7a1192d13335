"""What `status` tells is what the ledger knows: after a run, while one goes on, and of however many tickers."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from stored import stored

from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.events import Begun, Fetched
from polygon_async.ledger.inventory import recorded_units
from polygon_async.ledger.ledger import open_ledger
from polygon_async.model.days import set_of
from polygon_async.model.layout import LEDGER
from polygon_async.model.sessions import coverage, sessions
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Unit
from polygon_async.report.words import day

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")


def names(directory: Path) -> set[str]:
    """What is in a directory."""
    return {path.name for path in directory.iterdir()}


def test_a_run_that_has_ended_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD 1 plan403")
    assert program("--tickers", "QQ", "BAD", "NODATA", *RANGE, box=box).code == 1
    assert program("--tickers", "AAPL", "--no-upload", *RANGE, box=box).code == 0
    (item,) = stored(box)
    ended = program("status", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = ended.summary
    assert told["units"] == {
        "total": 4,
        "uploaded": 1,
        "saved": 1,
        "no_data": 1,
        "pending": 0,
        "abandoned": 0,
        "failed": 1,
    }
    units = {unit["ticker"]: unit for unit in told["tickers"]}
    quiet = units["QQ"]
    csv = (program.directory / "output" / "QQ_historical.csv").read_bytes()
    assert (quiet["bars"], quiet["csv_bytes"]) == (csv.count(b"\n") - 1, len(csv))
    assert (quiet["key"], quiet["stored_bytes"]) == (item.key, len(item.body))
    assert (quiet["from"], quiet["to"], quiet["first"][:10]) == ("2026-03-02", "2026-03-02", "2026-03-02")
    assert told["bars"] == quiet["bars"] + units["AAPL"]["bars"]
    assert told["stored_bytes"] == quiet["stored_bytes"]
    assert [run["state"] for run in told["runs"]] == ["done", "done"]
    assert units["BAD"]["error"].startswith("HTTP 403: ")

    lines = program("status").out.splitlines()
    assert lines[0] == "output/ledger.sqlite: 4 units: 1 uploaded, 1 saved, 1 without data, 1 failed"
    assert lines[2].startswith("  runs      2, the last one done after ")
    assert [line.split()[:2] for line in lines if line.startswith("BAD")] == [["BAD:", "HTTP"], ["BAD", "failed"]]
    assert any(line.startswith("QQ") and "uploaded" in line and "2026-03-02 to 2026-03-02" in line for line in lines)
    misspelt = program("status", "--tickers", "QQ", "NOPE")
    assert (misspelt.code, misspelt.err) == (
        1,
        "polygon-async: the ledger output/ledger.sqlite does not know NOPE\n",
    )
    (only,) = program("status", "--json", "--tickers", "QQ").summary["tickers"]
    assert only == quiet


def test_a_run_that_goes_on_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Reading meanwhile takes nothing away from it, and what it wrote last is seen."""
    box = sandbox("SLOW 1 stall")
    with program.running("--tickers", "QQ", "SLOW", *RANGE, box=box) as process:
        assert process.stderr is not None
        assert any("QQ uploaded" in line for line in process.stderr)
        told = program("status", "--json").summary
        process.terminate()
        process.communicate()
    units = {unit["ticker"]: unit for unit in told["tickers"]}
    assert (units["QQ"]["state"], units["SLOW"]["state"], units["SLOW"]["doing"]) == ("uploaded", "pending", "fetching")
    assert told["runs"][-1]["state"] == "running"
    assert "the last one interrupted after " in program("status").out


def test_on_a_terminal_few_lines_are_shown(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    tickers = [f"NODATA{number:02}" for number in range(25)]
    program("--tickers", *tickers, "--concurrency", "25", *RANGE, box=box)
    assert sum(line.startswith("NODATA") for line in program("status").out.splitlines()) == 25

    def shown(*arguments: str, width: int = 80) -> list[str]:
        """What a terminal gets."""
        ours, its = os.openpty()
        try:
            command = [sys.executable, "-m", "polygon_async", "status", *arguments]
            wide = {**os.environ, "COLUMNS": str(width)}
            subprocess.run(command, cwd=program.directory, env=wide, stdout=its, stderr=its, check=True, timeout=60)
            return os.read(ours, 100_000).decode().splitlines()
        finally:
            os.close(ours)
            os.close(its)

    box.set_troubles([])
    assert program("--tickers", "AAPL", *RANGE, box=box).code == 0
    for width in (40, 60, 80, 200):
        (line,) = [line for line in shown(width=width) if line.startswith("AAPL")]
        assert len(line) <= width
        assert ("2026-03-02 to 2026-03-02" in line, "kB" in line) == (width >= 80, width == 200)
    lines = shown()
    assert sum(line.startswith("NODATA") for line in lines) == 19
    assert lines[-2:] == ["and 6 more: --all", "(a wider terminal also shows: csv, stored, first bar)"]
    assert sum(line.startswith("NODATA") for line in shown("--all")) == 25


SHOWN = """
import sys, tracemalloc
from pathlib import Path
from polygon_async.ledger.overview import open_overview
from polygon_async.report.status import status_json, status_text

directory = Path(sys.argv[1])

def show(tickers):
    with open_overview(directory, tickers) as overview:
        length = sum(map(len, status_json(overview, directory / "ledger.sqlite")))
        return length, len(status_text(overview, directory / "ledger.sqlite").splitlines())

show(["T1"])  # what is imported for it once is not what is measured
tracemalloc.start()
print(*show(None), tracemalloc.get_traced_memory()[1])
"""


def test_many_units_are_shown_in_little_memory(tmp_path: Path) -> None:
    first, last = dt.date(2024, 11, 26), dt.date(2026, 11, 24)
    days = set_of((first, last))
    found = coverage(sessions(AssetType.STOCKS, first, last), days)
    csv = CsvFile(path=tmp_path, bars=2, first=0, last=1, duplicates=0, size=1, sha256="ab", days=days)
    order = RunRequest(
        source="s", universe="u", first_day=first, last_day=last, adjusted=True, days_given=True, settings={}
    )
    units = [
        Unit(ticker=Ticker(f"T{number}", AssetType.STOCKS, "", ""), start=first, end=last, adjusted=True)
        for number in range(1000)
    ]
    with open_ledger(tmp_path) as ledger:
        run = ledger.begin(order, now=dt.datetime(2026, 11, 25, tzinfo=dt.UTC), force=False)
        for unit in units:
            events = Begun(unit=unit, day=last), Fetched(unit=unit, csv=csv)
            ledger.apply(events, run=run, source="s", destination="")
        ledger.covered([(unit, found) for unit in units], source="s")
    path = tmp_path / LEDGER
    assert path.stat().st_size < 2_000_000
    # In a process of its own: here, other tests' servers take and give back memory meanwhile.
    told = subprocess.run([sys.executable, "-c", SHOWN, tmp_path], capture_output=True, check=True)
    length, rows, most = map(int, told.stdout.split())
    assert (length > 7_000_000, rows > 1000) == (True, True)
    assert most < 2_000_000


def test_what_cannot_be_told_is_one_line(program: Program) -> None:
    ended = program("status")
    assert (ended.code, ended.out) == (2, "")
    advice = "does not exist; --output-dir must name the directory of a download"
    assert ended.err == f"polygon-async: error: output/ledger.sqlite {advice}\n"
    (program.directory / "output").mkdir()
    (program.directory / "output" / "ledger.sqlite").write_bytes(b"")
    assert "ledger.sqlite is empty; no download" in program("status").error
    (program.directory / "output" / "ledger.sqlite").write_bytes(b"no database, whatever it is called" * 100)
    ended = program("status", "--json")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "is damaged" in ended.summary["error"]


def test_a_directory_that_cannot_be_written_is_no_hindrance(
    program: Program, sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program("--tickers", "NODATA", *RANGE, box=sandbox()).code == 1
    output = program.directory / "output"
    before = names(output)
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert [unit.symbol for unit in recorded_units(output)] == ["NODATA"]
    assert names(output) == before


def test_days_are_the_exchanges() -> None:
    """A bar at 19:59 in New York on a Friday is not Saturday's."""
    late = int(dt.datetime(2026, 3, 7, 0, 59, tzinfo=dt.UTC).timestamp() * 1000)
    found = {symbol: day(late, symbol) for symbol in ("AAPL", "O:SPY251219C00650000", "I:SPX", "X:BTCUSD", "C:EURUSD")}
    assert list(found.values()) == ["2026-03-06"] * 3 + ["2026-03-07"] * 2
