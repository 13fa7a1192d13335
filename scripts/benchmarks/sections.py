"""A bench in, one section of figures out: each measurement of the benchmark."""

from __future__ import annotations

import bisect
import shutil
from statistics import median
from typing import TYPE_CHECKING

import floor as stages
from bench import WrongResult, cpu, median_of, seconds
from cluster import cluster
from cores import cores
from figures import Figure, Section
from ledgers import write_ledger
from reading import read_back
from small import small_tickers
from workload import PAGE, almost_nothing, full_pages, one_day

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench import Bench, ToolRun
    from programs import Run
    from workload import Job, Size

__all__ = ["SECTIONS"]

_LATENCY = 0.15
_MB = 1e6
_BYTES_ON_DISK = 16e6
"""Of a page: as CSV, compressed, and in the store, with room to spare."""


def speed(bench: Bench, size: Size) -> Section:
    """End to end: the script and the tool, without and with latency."""
    job = full_pages(8, size.pages)
    part = job.first(size.baseline_tickers)
    nothing = almost_nothing()
    # Compile what they import, which no figure should hold.
    bench.script(nothing)
    bench.tool(job)
    fixed = [bench.script(nothing) for _ in range(bench.repeat)]
    starts = [bench.tool(nothing) for _ in range(bench.repeat)]
    pages, share = 8 * size.pages, 8 / size.baseline_tickers
    runs: dict[float, tuple[list[Run], list[ToolRun]]] = {0: ([], []), _LATENCY: ([], [])}
    for _ in range(bench.repeat):
        for latency, (scripts, tools) in runs.items():
            tools.append(bench.tool(job, latency=latency, output="compared-tool"))
            scripts.append(bench.script(part, latency=latency, output="compared-script"))
    compared = _compare(bench.scratch, part.tickers)
    section = Section(f"End to end: 8 tickers of {size.pages} full pages, {sum(bench.bars[job].values()):,} bars")
    for latency, (scripts, tools) in runs.items():
        script = _scaled(median_of(fixed, seconds), median_of(scripts, seconds), share)
        tool = median_of(tools, seconds)
        where = f"{latency * 1000:.0f} ms latency" if latency else "no latency"
        section.figures += [
            Figure(name=f"script, {where}", value=script, unit="s", note=_span(scripts, part)),
            Figure(name=f"tool, {where}", value=tool, unit="s", note=_span(tools, job)),
            Figure(name=f"script / tool, {where}", value=script / tool, unit="times", at_least=30),
        ]
    scripts, tools = runs[0]
    script_cpu = _scaled(median_of(fixed, cpu), median_of(scripts, cpu), share) / pages
    section.figures += [
        Figure(name="script: CPU per page, children included", value=script_cpu, unit="s"),
        Figure(
            name="tool: CPU per page, children included", value=median_of(tools, cpu) / pages, unit="s", at_most=0.10
        ),
        Figure(name="script: one small page, start to end", value=median_of(fixed, seconds), unit="s"),
        Figure(
            name="tool: one small page, start to end",
            value=median_of(starts, seconds),
            unit="s",
            note=f"{median_of(starts, cpu):.2f} s of CPU",
        ),
        Figure(name="API server: CPU per page", value=median_of(tools, lambda run: run.use.api_cpu) / pages, unit="s"),
        Figure(name="S3 server: CPU per page", value=median_of(tools, lambda run: run.use.s3_cpu) / pages, unit="s"),
        Figure(name="pages a second, no latency", value=pages / median_of(tools, seconds), unit="pages/s"),
    ]
    section.remarks.append(f"both wrote the same values: {compared:,} rows, every column compared as numbers")
    if share > 1:
        section.remarks.append(
            f"the script ran {len(part.tickers)} of the 8 tickers; what it took beyond its start"
            f" ({median_of(fixed, seconds):.1f} s) is taken {share:g} times"
        )
    _remark_cold(section, [run for _, several in runs.values() for run in several])
    return section


def long_ticker(bench: Bench, size: Size) -> Section:
    """One long ticker against as many pages spread over eight."""
    alone, spread = full_pages(1, size.long_pages), full_pages(8, size.long_pages // 8)
    runs: dict[Job, list[ToolRun]] = {alone: [], spread: []}
    for _ in range(bench.repeat):
        for job, done in runs.items():
            done.append(bench.tool(job, latency=_LATENCY))
    bars = {job: sum(bench.bars[job].values()) for job in runs}
    pace = {job: bars[job] / median_of(done, seconds) for job, done in runs.items()}
    asked = max(run.use.requests for run in runs[alone])
    fewest = -(-bars[alone] // PAGE)
    section = Section(
        f"One long ticker: {bars[alone]:,} bars, {fewest} pages, {_LATENCY * 1000:.0f} ms latency",
        [
            Figure(name="alone: time", value=median_of(runs[alone], seconds), unit="s"),
            Figure(
                name=f"spread over 8 tickers ({bars[spread]:,} bars): time",
                value=median_of(runs[spread], seconds),
                unit="s",
            ),
            Figure(name="alone", value=pace[alone], unit="bars/s"),
            Figure(name="spread over 8 tickers", value=pace[spread], unit="bars/s"),
            Figure(name="alone / spread", value=pace[alone] / pace[spread], at_least=0.7),
            Figure(
                name="alone: requests", value=asked, at_most=int(fewest * 1.1) + 1, note=f"fewest possible: {fewest}"
            ),
        ],
    )
    _remark_cold(section, [run for several in runs.values() for run in several])
    return section


def floor(bench: Bench, size: Size) -> Section:
    """Stage by stage on one page."""
    job = full_pages(8, size.pages)
    packed = bench.servers.first_page(job)
    return stages.floor(packed, job, lambda: bench.servers.first_page(job), bench.scratch)


def memory(bench: Bench, size: Size) -> Section:
    """Peaks of the whole process tree."""
    section = Section("Memory: peak of the whole process tree")
    short, long = size.memory_pages
    cases = [("8", full_pages(8, short), 350), ("64", full_pages(64, size.wide_pages), 1000)]
    if long * 8 * _BYTES_ON_DISK < shutil.disk_usage(bench.scratch).free:
        cases.insert(1, ("8", full_pages(8, long), 350))
    else:
        section.remarks.append(f"no room on the disk for 8 tickers of {long} pages")
    for concurrency, job, limit in cases:
        peaks = bench.tool(job, "--concurrency", concurrency, memory=True).memory
        if peaks is None:
            continue
        bars = round(median(bench.bars[job].values()), -3)
        name = f"concurrency {concurrency}, {len(job.tickers)} x {bars:,.0f} bars"
        section.figures += [
            Figure(
                name=f"{name}: RSS added up",
                value=peaks.rss / _MB,
                unit="MB",
                at_most=limit,
                note=f"{peaks.processes} processes, main {peaks.main / _MB:.0f} MB",
            ),
            Figure(name=f"{name}: PSS added up", value=peaks.pss / _MB, unit="MB", note="what is shared counts once"),
        ]
    section.remarks.append("sampled every 50 ms, once per case")
    return section


def loop_lag(bench: Bench, size: Size) -> Section:
    """How late the event loop is for a task that sleeps 5 ms at a time."""
    job = full_pages(8, size.pages)
    runs = [bench.tool(job, watched=True) for _ in range(bench.repeat)]
    several = [sorted(run.report["lags"]) for run in runs]

    def at(share: float) -> float:
        return 1000 * median(float(lags[min(len(lags) - 1, int(len(lags) * share))]) for lags in several)

    blocked = median(sum(lag for lag in lags if lag > 0.05) / sum(lag + 0.005 for lag in lags) for lags in several)
    return Section(
        f"Event loop's lag: 8 tickers of {size.pages} pages, no latency",
        [
            Figure(name="p50", value=at(0.5), unit="ms"),
            Figure(name="p99", value=at(0.99), unit="ms", at_most=50),
            Figure(name="max", value=at(1), unit="ms"),
            Figure(name="time spent in waits of over 50 ms", value=blocked * 100, unit="%"),
        ],
        [f"{median(len(lags) for lags in several):,.0f} samples a run; with full cores it holds waits for a core, too"],
    )


def start(bench: Bench, size: Size) -> Section:  # noqa: ARG001 (all sections are called alike)
    """Without downloading anything."""
    section = Section("Start: compiled bytecode, median of 5")
    for flag, limit in (("--help", 0.3), ("--version", 0.15)):
        bench.started(flag)
        taken = median(bench.started(flag).seconds for _ in range(5))
        section.figures.append(Figure(name=flag, value=taken, unit="s", at_most=limit))
    return section


def status(bench: Bench, size: Size) -> Section:
    """What the ledger of a large universe takes to be shown."""
    directory = bench.scratch / "many"
    one = write_ledger(directory, size.units)
    section = Section(f"Status of {size.units:,} units that lack two years' sessions")
    try:
        for name, flags, in_seconds, in_memory in (
            ("all", (), 3, 300),
            ("one of them", ("--tickers", one), 0.5, 100),
        ):
            command = ("status", "--output-dir", str(directory), *flags)
            bench.started(*command)
            runs = [bench.started(*command) for _ in range(bench.repeat)]
            note = f"{median_of(runs, cpu):.2f} s of CPU"
            section.figures.append(
                Figure(name=f"{name}: time", value=median_of(runs, seconds), unit="s", at_most=in_seconds, note=note)
            )
            peaks = bench.started(*command, memory=True).memory
            if peaks is not None:
                section.figures.append(
                    Figure(name=f"{name}: memory", value=peaks.rss / _MB, unit="MB", at_most=in_memory)
                )
    finally:
        shutil.rmtree(directory)
    return section


def pace(bench: Bench, size: Size) -> Section:
    """How much of a rate is used where there is enough to do, and whether it is ever exceeded."""
    section = Section("Pace: many small tickers, as the API server sees them arrive")
    for rate, concurrency, at_least in ((10, 8, 0.98), (50, 16, 0.98), (100, 32, 0.95), (200, 64, 0.95)):
        job = one_day(min(size.small_tickers, 10 * rate))
        flags = ("--rate", f"{rate}/s", "--concurrency", str(concurrency), "--no-upload")
        bench.tool(job, *flags)
        arrivals = sorted(bench.servers.arrivals())
        used = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) / rate
        section.figures += [
            Figure(name=f"{rate}/s: share of the rate that is used", value=used, at_least=at_least),
            Figure(name=f"{rate}/s: most in any one second", value=_most_in_a_second(arrivals), at_most=rate + 1),
        ]
    section.remarks.append("a network and a busy machine can push arrivals together that were sent apart")
    return section


def _most_in_a_second(arrivals: Sequence[float]) -> int:
    return max(bisect.bisect_left(arrivals, moment + 1) - index for index, moment in enumerate(arrivals))


SECTIONS: dict[str, Callable[[Bench, Size], Section]] = {
    "start": start,
    "speed": speed,
    "floor": floor,
    "long": long_ticker,
    "lag": loop_lag,
    "cores": cores,
    "pace": pace,
    "small": small_tickers,
    "cluster": cluster,
    "read": read_back,
    "status": status,
    "memory": memory,
}


def _span(runs: Sequence[Run | ToolRun], job: Job) -> str:
    """How far the runs lay apart."""
    seconds = sorted(run.seconds for run in runs)
    return f"measured {seconds[0]:.1f} to {seconds[-1]:.1f} s for {len(job.tickers)} tickers"


def _scaled(fixed: float, measured: float, share: float) -> float:
    """What a run would take that is `share` times as long, apart from its start."""
    return fixed + (measured - fixed) * share


def _remark_cold(section: Section, runs: Sequence[ToolRun]) -> None:
    cold = max(run.use.cold for run in runs)
    if cold:
        section.remarks.append(
            f"up to {cold} pages of a run were cold, which slows the tool: the server makes about 14 a second"
        )


def _compare(scratch: Path, tickers: Sequence[str]) -> int:
    """Compare the tickers' CSVs of the two programs, and remove them; returns how many rows there are.

    Raises:
        WrongResult: a value differs.
    """
    import pandas as pd

    rows = 0
    for ticker in tickers:
        name = f"{ticker.replace(':', '-')}_historical.csv"
        ours, theirs = (
            pd.read_csv(scratch / directory / name, float_precision="round_trip")
            for directory in ("compared-tool", "compared-script")
        )
        try:
            pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, check_exact=True)
        except AssertionError as error:
            raise WrongResult(f"the tool and the script wrote different values for {ticker}: {error}") from error
        rows += len(ours)
    for directory in ("compared-tool", "compared-script"):
        shutil.rmtree(scratch / directory)
    return rows
