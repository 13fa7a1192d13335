"""A command line of the tool in; its run, and a JSON report of the event loop's lag and of where the CPU went, out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async.cli import main as command_line

if TYPE_CHECKING:
    from collections.abc import Coroutine

_NAP = 0.005
_T = TypeVar("_T")


async def _note_lag(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_NAP)
        lags.append(time.perf_counter() - began - _NAP)


async def _watched(work: Coroutine[Any, Any, _T], lags: list[float]) -> _T:
    monitor = asyncio.create_task(_note_lag(lags))
    try:
        return await work
    finally:
        monitor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await monitor


def _cpu(who: int) -> float:
    use = resource.getrusage(who)
    return use.ru_utime + use.ru_stime


def main() -> int:
    """Run the tool's command line in this process, its event loop watched; returns its exit code."""
    report, *arguments = sys.argv[1:]
    lags: list[float] = []
    run = asyncio.run

    def watched_run(work: Coroutine[Any, Any, _T]) -> _T:
        return run(_watched(work, lags))

    asyncio.run = watched_run  # type: ignore[assignment]  # the command line calls it with the work only
    code = command_line.main(arguments)
    facts = {
        "lags": lags,
        "loop_cpu": time.thread_time(),
        "main_cpu": _cpu(resource.RUSAGE_SELF),
        "children_cpu": _cpu(resource.RUSAGE_CHILDREN),
    }
    Path(report).write_text(json.dumps(facts), encoding="utf-8")
    return code


# Reading processes import this file anew.
if __name__ == "__main__":
    sys.exit(main())
