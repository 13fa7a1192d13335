"""A bench in; what many tickers of one small page each take, with a store that costs next to nothing, out."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from bench import cpu, median_of, seconds
from figures import Figure, Section
from workload import one_day

if TYPE_CHECKING:
    from bench import Bench, ToolRun
    from workload import Job, Size

__all__ = ["small_tickers"]

_LATENCY = 0.05
_USUAL = ("--concurrency", "16")
_PACE = 150
"""Tickers a second on two cores."""
_SHARE_OF_SCRIPT = 5
"""The script does one in so many of the tickers."""


def small_tickers(bench: Bench, size: Size) -> Section:
    """The script and the tool side by side, and what more cores promise."""
    job = one_day(size.small_tickers)
    part = job.first(size.small_tickers // _SHARE_OF_SCRIPT)
    count = len(job.tickers)
    bench.warm(job)
    bench.bars[part] = {ticker: bench.bars[job][ticker] for ticker in part.tickers}
    bars = sum(bench.bars[job].values())
    section = Section(f"Many small tickers: {count:,} tickers, {bars / count:.0f} bars each on average, a light store")
    bench.script(part.first(1), light=True)
    runs: dict[str, list[ToolRun]] = {"no latency": [], "--no-upload": [], "50 ms": []}
    scripts = []
    for _ in range(bench.repeat):
        scripts.append(bench.script(part, light=True))
        runs["no latency"].append(bench.tool(job, *_USUAL, light=True))
        runs["--no-upload"].append(bench.tool(job, *_USUAL, "--no-upload", light=True))
        runs["50 ms"].append(bench.tool(job, "--concurrency", "64", latency=_LATENCY, light=True))
    pace = {name: count / median_of(several, seconds) for name, several in runs.items()}
    usual = len(part.tickers) / median_of(scripts, seconds)
    spent = median_of(scripts, cpu) / len(part.tickers) * 1000
    section.figures = [
        Figure(name="script, no latency", value=usual, unit="tickers/s", note=f"{spent:.1f} ms of CPU each"),
        Figure(name="tool, no latency", value=pace["no latency"], unit="tickers/s", at_least=_PACE),
        Figure(name="tool / script", value=pace["no latency"] / usual, unit="times", at_least=4),
        Figure(
            name="tool: CPU per ticker, children included",
            value=median_of(runs["no latency"], cpu) / count * 1000,
            unit="ms",
            at_most=8,
            note=_servers(runs["no latency"], count),
        ),
        Figure(name="tool, 50 ms latency, --concurrency 64", value=pace["50 ms"], unit="tickers/s", at_least=_PACE),
        Figure(name="tool, no latency, --no-upload", value=pace["--no-upload"], unit="tickers/s"),
    ]
    section.figures += _on_cores(bench, job)
    section.remarks.append("what starting the program and its processes takes is part of each figure")
    return section


def _servers(runs: list[ToolRun], count: int) -> str:
    api, s3 = (median_of(runs, value) for value in (lambda run: run.use.api_cpu, lambda run: run.use.s3_cpu))
    return f"and the servers' {(api + s3) / count * 1000:.1f} ms"


def _on_cores(bench: Bench, job: Job) -> list[Figure]:
    """One core against two, the servers included, and how much of the main process is serial."""
    figures = []
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if shutil.which("taskset") and len(usable) > 1:
        taken: dict[int, list[ToolRun]] = {1: [], 2: []}
        try:
            for _ in range(bench.repeat):
                for cores, done in taken.items():
                    bench.servers.pin(usable[:cores])
                    pins = ["taskset", "-c", ",".join(map(str, usable[:cores]))]
                    done.append(bench.tool(job, *_USUAL, light=True, prefix=pins))
        finally:
            bench.servers.pin(usable)
        one, two = (median_of(done, seconds) for done in taken.values())
        figures.append(Figure(name="one core / two cores", value=one / two, unit="times", at_least=1.6))
    held = bench.holding(job, *_USUAL, light=True)
    if held is not None:
        serial = held / len(job.tickers)
        figures += [
            Figure(name="main process: the interpreter is held (py-spy)", value=serial * 1000, unit="ms"),
            Figure(name="16 cores, by that share", value=1 / serial, unit="tickers/s", at_least=400),
        ]
    return figures
