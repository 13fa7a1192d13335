"""The engine of one machine: fetch workers, and uploaders in this process or in a few others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from polygon_async.polygon.walk import RestSource
from polygon_async.polygon.windows import Slots
from polygon_async.run.fetch import CsvFetcher
from polygon_async.run.tags import TagLookup
from polygon_async.run.unit import UnitSteps
from polygon_async.run.workers import run_units
from polygon_async.store.delivery_pool import DeliveryPool

if TYPE_CHECKING:
    from polygon_async.run.work import Work

__all__ = ["here"]

_MOST_UPLOADING = 4
"""Processes that upload; one takes some 200 small objects a second."""


async def here(work: Work) -> None:
    """Do all of the work on this machine.

    Raises:
        RunError: the run cannot go on.
    """
    settings, todo = work.settings, work.todo
    # Nothing is looked up for tickers that get no tags.
    tagged = [pending.unit.ticker for pending in todo.pending] if work.deliver and settings.reference else []
    modified = work.recorder.run.collected.replace(second=0).timestamp()
    slots = Slots(settings.concurrency, waiting=len(todo.pending))
    fetch_csv = CsvFetcher(
        source=RestSource(client=work.client, counters=work.counters, slots=slots),
        directory=settings.output_dir,
        modified=modified,
        offload=work.offload,
        counters=work.counters,
    )
    async with contextlib.AsyncExitStack() as stack:
        many = None
        if work.deliver is not None:
            pool = DeliveryPool(
                work.deliver,
                most=min(settings.processes, _MOST_UPLOADING),
                expected=len(todo.pending),
                connections=settings.concurrency,
                on_secret=work.outcomes.redact.add,
            )
            many = await stack.enter_async_context(pool)
        steps = UnitSteps(
            directory=settings.output_dir,
            keep_csv=settings.keep_csv,
            force=settings.force,
            modified=modified,
            fetch_csv=fetch_csv,
            slots=slots,
            recorder=work.recorder,
            tags=TagLookup(tagged, day=settings.end, client=work.client, recorder=work.recorder),
            deliver=many,
            offload=work.offload,
            counters=work.counters,
        )
        await run_units(
            todo.pending,
            steps,
            work.outcomes,
            concurrency=settings.concurrency,
            some_done=bool(todo.done),
            most_failures=settings.most_failures,
        )
