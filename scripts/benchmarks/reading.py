"""A bench in; what reading stored bars back takes, against a loop with boto3, lzop and pandas, out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import programs
from bench import HERE, WrongResult, median_of, seconds
from figures import Figure, Section
from workload import full_pages

if TYPE_CHECKING:
    from bench import Bench
    from programs import Run
    from workload import Size

__all__ = ["read_back"]

_MB = 1e6


def read_back(bench: Bench, size: Size) -> Section:
    """Many tickers of two years in one DataFrame."""
    job = full_pages(*size.read)
    bench.tool(job, output="read")
    count = sum(bench.bars[job].values())
    section = Section(f"Read back: {len(job.tickers)} tickers, {count:,} bars, one object each, in one DataFrame")
    commands = {
        "loop": [sys.executable, str(HERE / "read_script.py")],
        "read_bars": [sys.executable, str(HERE / "read_tool.py"), str(job.start), str(job.end), *job.tickers],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    said = set()
    for _ in range(bench.repeat):
        for name, command in commands.items():
            # The tool's own directory has no ledger: the bucket's listing is what both go by.
            run = programs.run(command, bench.environment, cwd=bench.scratch, memory=True)
            runs[name].append(run)
            said.add(run.output)
    if said != {run.output for run in runs["loop"]} or not next(iter(said)).startswith(f"{count} "):
        raise WrongResult(f"the two read different bars: {said}")
    took = {name: median_of(several, seconds) for name, several in runs.items()}
    peaks = {name: median_of(several, _peak) / _MB for name, several in runs.items()}
    section.figures = [
        Figure(name="loop with boto3, lzop and pandas", value=took["loop"], unit="s", note=f"{peaks['loop']:.0f} MB"),
        Figure(name="read_bars", value=took["read_bars"], unit="s", note=f"{peaks['read_bars']:.0f} MB"),
        Figure(name="loop / read_bars", value=took["loop"] / took["read_bars"], unit="times"),
        Figure(name="read_bars: peak memory / the loop's", value=peaks["read_bars"] / peaks["loop"], unit="times"),
    ]
    return section


def _peak(run: Run) -> float:
    assert run.memory is not None  # noqa: S101 (for the type checker; it was asked for)
    return run.memory.pss or run.memory.rss
