"""`clean` removes what no run will use, after saying so, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import names
from waiting import wait_until

from polygon_async.model.layout import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-03", "--rate", "unlimited")
PART = "SLOW_2026-03-02_2026-03-03_adjusted.csv.part"


def killed(program: Program, box: Sandbox) -> None:
    """A run that was killed while it fetched SLOW's second page."""
    with program.running("--tickers", "QQ", "SLOW", *RANGE, "--no-upload", box=box) as process:
        assert process.stderr is not None
        assert any("QQ saved" in line for line in process.stderr)
        part = program.directory / "output" / PART
        wait_until(lambda: part.exists() and part.stat().st_size > 0, process)
        refused = program("clean")
        assert (refused.code, refused.out) == (2, "")
        assert "another run is using output" in refused.error
        process.kill()
        process.wait()


def begun_yesterday(program: Program) -> None:
    """As if that run had been yesterday's."""
    program.ledger("UPDATE unit SET day = '2026-03-05' WHERE ticker = 'SLOW'")


def test_a_part_stays_as_long_as_a_run_will_continue_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("SLOW 2 stall", page_size=300)
    killed(program, box)
    kept = program("clean")
    assert (kept.code, kept.out) == (0, "nothing to remove; 1 part kept for the run that will continue\n")
    begun_yesterday(program)
    shown = program("clean", "--dry-run")
    size = (program.directory / "output" / PART).stat().st_size
    assert shown.out.splitlines() == [
        f"output/{PART}  {size / 1000:.1f} kB: abandoned: no run will continue it",
        f"would remove 1 file, {size / 1000:.1f} kB",
    ]
    assert f"{PART}" in names(program.directory / "output")
    assert program("status").out.splitlines()[0].endswith("1 saved, 1 abandoned")
    told = program("clean", "--json").summary
    assert (told["removed"], [each["path"] for each in told["files"]]) == (True, [f"output/{PART}"])
    assert names(program.directory / "output") == ["QQ_historical.csv"]
    assert program("clean").out == "nothing to remove\n"
    box.set_troubles([])
    assert program("--tickers", "QQ", "SLOW", *RANGE, "--no-upload", box=box).code == 0


def test_only_our_own_leftovers_are_removed(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD 1 status=404 1x")
    assert program("--tickers", "QQ", "BAD", *RANGE, "--concurrency", "1", box=box).code == 1
    output, cache = program.directory / "output", Path(os.environ["XDG_CACHE_HOME"]) / "polygon_async"
    own = ["QQ_historical.csv.lzo", ".failed.csv.new", ".QQ_historical.csv.new", ".probe-ab12", ".case-Probe-x_y"]
    unit = "QQ_2026-03-02_2026-03-03_adjusted.csv"
    unknown = "ZZ_2026-03-02_2026-03-03_adjusted.csv"
    foreign = ["notes.txt", "data.part", "QQ.csv.lzo", ".hidden.new", unknown]
    for name in (*own, unit, f"{unknown}.part", *foreign):
        (output / name).write_text("x")
    (output / ".QQ_historical.csv.lzo.link").mkdir()
    (output / "A_historical.csv.lzo").symlink_to("notes.txt")
    (cache / "rates.json").write_text(json.dumps({"rates": {"k": {"per_second": 1, "ceiling": None, "learned": 1}}}))
    calendar = cache / "calendar-xnys.json"
    before = calendar.read_text()
    calendar.write_text(before.replace('"library": "', '"library": "0'))

    told = program("clean", "--json").summary
    removed = {Path(each["path"]).name for each in told["files"]}
    links = ".QQ_historical.csv.lzo.link"
    assert removed == {*own, unit, f"{unknown}.part", links, "rates.json", "calendar-xnys.json"}
    assert not any((output / name).exists() for name in (*own, unit, f"{unknown}.part", links))
    assert not list(cache.iterdir())
    assert all((output / name).exists() for name in (*foreign, "QQ_historical.csv", "failed.csv", LEDGER))
    assert (output / "A_historical.csv.lzo").is_symlink()
    # A list goes when what it names is done.
    listed = (output / "failed.csv").read_text()
    assert program("--universe", "output/failed.csv", *RANGE, box=box).code == 0
    (output / "failed.csv").write_text(listed)
    assert [Path(each["path"]).name for each in program("clean", "--json").summary["files"]] == ["failed.csv"]


def test_without_a_ledger_there_is_nothing_to_clean(program: Program) -> None:
    (program.directory / "output").mkdir()
    (program.directory / "output" / PART).write_text("x")
    ended = program("clean")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "output/ledger.sqlite does not exist" in ended.err
    assert (program.directory / "output" / PART).exists()
