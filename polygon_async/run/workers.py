"""Runs the units of a run side by side, on this machine."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.ledger.events import Failed, NotUploaded
from polygon_async.model.units import Outcome
from polygon_async.run.common_trouble import CommonTrouble
from polygon_async.run.failure_limit import FailureLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygon_async.model.counters import Counters
    from polygon_async.model.units import CsvFile, Unit
    from polygon_async.run.outcomes import Outcomes
    from polygon_async.run.todo import Pending
    from polygon_async.run.unit import UnitSteps

__all__ = ["judge_of", "run_units"]


async def run_units(
    todo: Sequence[Pending],
    steps: UnitSteps,
    outcomes: Outcomes,
    *,
    concurrency: int,
    some_done: bool,
    most_failures: float | None,
) -> None:
    """Fetch and upload all units: `concurrency` of them are fetched at once, and as many uploaded.

    Args:
        todo: The units, and what the ledger knows of each, in the order in which they start.
        steps: What is done for a unit.
        outcomes: Where each unit's end is recorded.
        concurrency: How many at once.
        some_done: Whether earlier runs have done others of the same run.
        most_failures: How many tickers may fail before the run ends (inf: all of them); None: it ends when the first
            ones prove that all will.

    Raises:
        RunError: the run cannot go on.
    """
    units = [pending.unit for pending in todo]
    judge = judge_of(units, counters=steps.counters, some_done=some_done, most_failures=most_failures)
    await _Workers(todo, steps, outcomes, judge, concurrency)()


def judge_of(
    units: Sequence[Unit], *, counters: Counters, some_done: bool, most_failures: float | None
) -> CommonTrouble | FailureLimit:
    """What decides when failures end the run (see `run_units`)."""
    if most_failures is None:
        return CommonTrouble(units, counters=counters, some_done=some_done)
    return FailureLimit(units, most_failures)


class _Workers:
    """A producer, fetch workers, and uploaders behind a bounded hand-off."""

    def __init__(
        self,
        todo: Sequence[Pending],
        steps: UnitSteps,
        outcomes: Outcomes,
        judge: CommonTrouble | FailureLimit,
        concurrency: int,
    ) -> None:
        self._todo = todo
        self._steps = steps
        self._outcomes = outcomes
        self._judge = judge
        self._fetchers = range(min(concurrency, len(todo)))
        self._uploaders = self._fetchers if steps.deliver else range(0)
        # Bounded, so that a slow bucket slows the fetching and no files pile up.
        self._queue: asyncio.Queue[tuple[int, Pending] | None] = asyncio.Queue(concurrency)
        self._handoff: asyncio.Queue[tuple[Pending, CsvFile] | None] = asyncio.Queue(concurrency)
        steps.counters.queues |= {"fetch": self._queue.qsize, "upload": self._handoff.qsize}

    async def __call__(self) -> None:
        async with asyncio.TaskGroup() as storing:
            for _ in self._uploaders:
                storing.create_task(self._store_all())
            async with asyncio.TaskGroup() as fetching:
                for _ in self._fetchers:
                    fetching.create_task(self._fetch_all())
                for priority in self._judge.in_order():
                    await self._queue.put((priority, self._todo[priority]))
                for _ in self._fetchers:
                    await self._queue.put(None)
            for _ in self._uploaders:
                await self._handoff.put(None)

    async def _fetch_all(self) -> None:
        """One fetch worker: takes units from the queue until there are no more."""
        while (queued := await self._queue.get()) is not None:
            priority, pending = queued
            unit = pending.unit
            await self._judge.admit(unit)
            self._outcomes.begin(unit)
            told = partial(self._judge.failed, unit)
            async with self._outcomes.ending(unit, failure=Failed, apply=self._steps.recorder.apply, told=told):
                fetched = await self._steps.fetch(pending, priority=priority)
                self._judge.done()
                if isinstance(fetched, Outcome):
                    self._outcomes.end(fetched)
                else:
                    self._steps.counters.in_flight[unit.ticker.symbol] = "waiting for the bucket"
                    await self._handoff.put((pending, fetched))

    async def _store_all(self) -> None:
        """One uploader: takes complete CSVs from the hand-off until there are no more."""
        while (handed := await self._handoff.get()) is not None:
            pending, csv = handed
            told = partial(self._judge.not_stored, pending.unit)
            apply = self._steps.recorder.apply
            async with self._outcomes.ending(pending.unit, csv, failure=NotUploaded, apply=apply, told=told):
                self._outcomes.end(await self._steps.store(pending, csv))
