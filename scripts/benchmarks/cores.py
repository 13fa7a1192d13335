"""A bench in; what one core and two make of a run, and what its serial share promises for more, out."""

from __future__ import annotations

import os
import shutil
from statistics import median
from typing import TYPE_CHECKING

from bench import median_of, seconds
from figures import Figure, Section
from workload import full_pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench import Bench, ToolRun
    from workload import Job, Size

__all__ = ["cores"]


def cores(bench: Bench, size: Size) -> Section:
    """One core against two, and what the main process's share promises for more."""
    section = Section(f"Cores: 8 tickers of {size.pages} pages, no latency")
    job = full_pages(8, size.pages)
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if shutil.which("taskset") and len(usable) > 1:
        section.figures += _pinned(bench, job, usable)
        section.remarks.append(
            "the tool and both servers are pinned together, to one core or to two, so that what the servers take is"
            " the same share of either"
        )
    else:
        section.remarks.append("no taskset, or only one core: one core against two was not measured")
    section.figures += _promised(bench, size)
    section.remarks += [
        (
            f"a page's cost is the difference between runs of 8 x {size.share_pages[0]} and 8 x {size.share_pages[1]}"
            " pages, so that starting counts for nothing"
        ),
        "so many cores: as many pages are under way, either the serial part or all cores together are the limit",
        "Amdahl: as if one page's serial part held up all others",
    ]
    return section


def _pinned(bench: Bench, job: Job, usable: Sequence[int]) -> list[Figure]:
    figures = []
    try:
        for name, flags in (("with upload", ()), ("--no-upload", ("--no-upload",))):
            taken: dict[int, list[ToolRun]] = {1: [], 2: []}
            for _ in range(bench.repeat):
                for count, done in taken.items():
                    bench.servers.pin(usable[:count])
                    pins = ["taskset", "-c", ",".join(map(str, usable[:count]))]
                    done.append(bench.tool(job, *flags, prefix=pins))
            one, two = (median_of(done, seconds) for done in taken.values())
            figures += [
                Figure(name=f"{name}: one core", value=one, unit="s"),
                Figure(name=f"{name}: two cores", value=two, unit="s"),
                Figure(name=f"{name}: one / two", value=one / two, unit="times", at_least=1.7),
            ]
    finally:
        bench.servers.pin(usable)
    return figures


def _promised(bench: Bench, size: Size) -> list[Figure]:
    few, many = (full_pages(8, pages) for pages in size.share_pages)
    pages = 8 * (size.share_pages[1] - size.share_pages[0])
    runs = [(bench.tool(few, watched=True), bench.tool(many, watched=True)) for _ in range(bench.repeat)]
    held = [(bench.holding(few), bench.holding(many)) for _ in range(bench.repeat)]

    def per_page(name: str) -> float:
        more = [float(large.report[name] - small.report[name]) for small, large in runs]
        return max(median(more), 1e-6) / pages

    loop, main, children = (per_page(name) for name in ("loop_cpu", "main_cpu", "children_cpu"))
    figures = [
        Figure(name="children: CPU per page", value=children * 1000, unit="ms"),
        Figure(name="main process: CPU per page, all threads", value=main * 1000, unit="ms"),
        Figure(name="of that, the event loop's thread", value=loop * 1000, unit="ms"),
    ]
    serial, whose = main, "all of the main process"
    known = [large - small for small, large in held if small is not None and large is not None]
    if known:
        serial, whose = max(median(known), 1e-6) / pages, "what holds the interpreter"
        figures.append(Figure(name="of that, the interpreter is held (py-spy)", value=serial * 1000, unit="ms"))
    whole = main + children
    figures.append(Figure(name=f"serial share: {whose}", value=serial / whole * 100, unit="%"))
    return figures + [
        Figure(
            name=f"{count} cores",
            value=min(1 / serial, count / whole),
            unit="pages/s",
            at_least=100 if count == 16 else None,
            note=f"Amdahl {1 / (serial + (whole - serial) / count):.0f}",
        )
        for count in (1, 2, 4, 8, 16)
    ]
