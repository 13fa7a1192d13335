"""The engine of one machine: fetch workers, and uploaders in this process or in a few others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from polygon_async.polygon.windows import Slots
from polygon_async.run.steps import unit_steps
from polygon_async.run.tags import TagLookup
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
    slots = Slots(settings.concurrency, waiting=len(todo.pending))
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
        steps = unit_steps(
            settings,
            settings.output_dir,
            client=work.client,
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
