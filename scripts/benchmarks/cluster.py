"""A bench in; what one run on Dask workers takes, and what many workers promise, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import cpu, median_of, seconds
from figures import Figure, Section
from workload import one_day

if TYPE_CHECKING:
    from bench import Bench, ToolRun
    from workload import Job, Size

__all__ = ["cluster", "night"]

_USUAL = ("--concurrency", "16")
_RATE = 100.0
"""Requests a second, the most that the vendor suggests."""
_PAGE_SECONDS = 0.1
"""Seconds of CPU of a full page: what the section on speed finds."""
_WORKERS = (1, 4, 16, 64)
_UNIVERSES = {
    # Five years of a stock that trades all day are ten pages a year; of an option's contract, a page in all.
    "10,000 tickers x 5 years": (10_000, 12.5),
    "1,000,000 contracts": (1_000_000, 1.0),
}
"""Tickers, and pages of each: most stocks are quiet."""


def cluster(bench: Bench, size: Size) -> Section:
    """The same tickers on this machine's own engine, and on one and two workers."""
    few, many = one_day(size.small_tickers // 10), one_day(size.small_tickers // 2)
    for job in (few, many):
        bench.warm(job)
    section = Section(f"Workers of a local cluster: {len(many.tickers):,} small tickers, a light store")
    engines = {"local": (), "1 worker": ("--workers", "1"), "2 workers": ("--workers", "2")}
    runs: dict[tuple[str, Job], list[ToolRun]] = {(name, job): [] for name in engines for job in (few, many)}
    for _ in range(bench.repeat):
        for name, flags in engines.items():
            for job in (few, many):
                runs[name, job].append(bench.tool(job, *_USUAL, *flags, light=True))
    more = len(many.tickers) - len(few.tickers)
    each: dict[str, float] = {}
    spent: dict[str, float] = {}
    for name in engines:
        # What a start costs is in both.
        each[name] = (median_of(runs[name, many], seconds) - median_of(runs[name, few], seconds)) / more
        spent[name] = (median_of(runs[name, many], cpu) - median_of(runs[name, few], cpu)) / more
        section.figures.append(
            Figure(
                name=name,
                value=1 / each[name],
                unit="tickers/s",
                note=f"{spent[name] * 1000:.1f} ms of CPU each, children included; start and end left out",
            )
        )
    section.figures.append(
        Figure(name="CPU that a worker adds to a ticker", value=(spent["1 worker"] - spent["local"]) * 1000, unit="ms")
    )
    for universe, (tickers, pages) in _UNIVERSES.items():
        hours = [night(tickers, pages, workers, spent["1 worker"]) / 3600 for workers in _WORKERS]
        told = ", ".join(f"{workers}: {each_hours:,.1f} h" for workers, each_hours in zip(_WORKERS, hours, strict=True))
        section.remarks.append(f"simulated, {universe} at {_RATE:g} requests/s, by workers (one core each): {told}")
    return section


def night(tickers: int, pages: float, workers: int, unit_seconds: float) -> float:
    """How long a universe takes, in s: the slower of the rate that all share, and of the workers' cores.

    Args:
        tickers: How many.
        pages: Of each ticker, on average.
        workers: One core each.
        unit_seconds: CPU of a small ticker.
    """
    requests = tickers * max(pages, 1.0)
    work = tickers * (unit_seconds + pages * _PAGE_SECONDS)
    return max(requests / _RATE, work / workers)
