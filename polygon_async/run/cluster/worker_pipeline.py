"""A run's assignment in; in a worker, a pipeline that does units, so many at once, out.

What fetches and uploads a unit is the same code as on one machine (`run.unit`); here it has the ledger, the tags and
the tokens from afar.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, RunError, TickerError
from polygon_async.ledger.events import Failed, NotUploaded
from polygon_async.model.counters import Counters
from polygon_async.model.units import Outcome
from polygon_async.polygon.pace.lease import LeasePacer
from polygon_async.polygon.session import open_client_at
from polygon_async.polygon.windows import Slots
from polygon_async.run.cluster.counts import Snapshot
from polygon_async.run.cluster.far import FarRecorder, FarTags, OvertakenError
from polygon_async.run.cluster.lines import Lines, logged
from polygon_async.run.cluster.link import Link
from polygon_async.run.cluster.messages import Begin, Ended, Said, Stop
from polygon_async.run.outcomes import failed
from polygon_async.run.steps import delivery_to, own_bucket, unit_steps
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import api_key_of
from polygon_async.store.lzop import check_lzop, find_lzop
from polygon_async.system.redaction import Redactor
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from distributed import Worker

    from polygon_async.run.cluster.messages import Assignment, Order
    from polygon_async.run.unit import UnitSteps

__all__ = ["Pipeline", "open_pipeline"]

_SECONDS_BETWEEN_COUNTS = 0.5


@contextlib.asynccontextmanager
async def open_pipeline(assignment: Assignment, worker: Worker) -> AsyncIterator[Pipeline]:
    """Open what a unit needs, with this machine's own key and credentials."""
    environment = Environment.load(Path.cwd())
    settings = replace(assignment.settings, api_key=api_key_of(environment))
    redact = Redactor([settings.api_key, *environment.secrets()])
    own = Path(worker.local_directory) / f"polygon-{assignment.run_key}"
    directory = assignment.directory or own
    counters, link = Counters(), Link(worker, assignment.run_key, redact)
    if assignment.directory is not None and not assignment.mark.is_seen():
        raise ConfigError(
            f"it does not share {assignment.directory} with the coordinator; mount the same directory there"
        )
    async with contextlib.AsyncExitStack() as stack:
        if assignment.directory is None:
            own.mkdir(parents=True, exist_ok=True)
            stack.callback(shutil.rmtree, own, ignore_errors=True)
        lines = stack.enter_context(logged(redact))
        offload = await stack.enter_async_context(Threads())
        pacer = LeasePacer(link)
        client = await stack.enter_async_context(
            open_client_at(pacer, settings.access, offload=offload, counters=counters)
        )
        deliver = None
        if settings.upload:
            lzop = find_lzop()
            await check_lzop(lzop, offload=offload)
            bucket = await stack.enter_async_context(own_bucket(settings, redact, may_ask=False))
            await bucket.check()
            deliver = delivery_to(bucket, settings, directory, lzop=lzop, offload=offload, counters=counters)
        recorder = FarRecorder(link, assignment)
        steps = unit_steps(
            settings,
            directory,
            client=client,
            slots=Slots(settings.concurrency),
            recorder=recorder,
            tags=FarTags(link),
            deliver=deliver,
            offload=offload,
            counters=counters,
            is_shared=assignment.directory is not None,
        )
        pipeline = Pipeline(steps, recorder, link, redact, settings.concurrency, lines, pacer)
        pipeline.start()
        try:
            yield pipeline
        finally:
            await pipeline.stop()


@dataclass(slots=True)
class Pipeline:
    """Does units, so many at once."""

    steps: UnitSteps
    recorder: FarRecorder
    link: Link
    redact: Redactor
    concurrency: int
    lines: Lines
    """What is logged here, and told there."""
    pacer: LeasePacer
    _room: asyncio.Semaphore = field(init=False)
    _batches: set[asyncio.Task[Any]] = field(default_factory=set)
    _telling: asyncio.Task[None] | None = None
    _told: Snapshot = field(default_factory=Snapshot)

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.concurrency)

    def start(self) -> None:
        """Begin to tell what is counted."""
        self._telling = asyncio.create_task(self._tell_counts())

    async def stop(self) -> None:
        """Cancel all that is under way."""
        running = [task for task in (*self._batches, self._telling) if task is not None]
        for task in running:
            task.cancel()
        if running:
            # A batch whose end nobody sees would keep its thread.
            await asyncio.wait(running)

    async def do(self, batch: str, orders: Sequence[Order]) -> None:
        """Do all units of a batch; a RunError of one ends the run, and so the batch."""
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 (for the type checker)
        self._batches.add(own)
        own.add_done_callback(self._batches.discard)
        self.steps.slots.waiting += len(orders)
        tasks = [asyncio.create_task(self._one(batch, order)) for order in orders]
        try:
            await asyncio.gather(*tasks)
        except RunError as error:
            with contextlib.suppress(RunError):
                await self.link.ask(Stop(RunError(self.redact(str(error)))))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                # The first error was told; asyncio would print the others.
                _ = task.cancelled() or task.exception()
            with contextlib.suppress(RunError):
                await self._tell()

    async def _one(self, batch: str, order: Order) -> None:
        unit = order.pending.unit
        symbol = unit.ticker.symbol
        async with self._room:
            attempt: int | None = await self.link.ask(Begin(symbol, batch))
            if attempt is None:
                self.steps.slots.waiting -= 1
                return
            self.recorder.attempts[symbol] = attempt
            csv = None
            try:
                fetched = await self.steps.fetch(order.pending, priority=order.priority)
                if isinstance(fetched, Outcome):
                    outcome = fetched
                else:
                    csv = fetched
                    outcome = await self.steps.store(order.pending, fetched)
                    self._told.uploads += 1
            except OvertakenError:
                return
            except TickerError as error:
                failure = Failed if csv is None else NotUploaded
                try:
                    outcome = await failed(
                        unit, csv, error, failure=failure, apply=self.recorder.apply, redact=self.redact
                    )
                except OvertakenError:
                    return
                if csv is None:
                    # Only now is it certain that nobody else is writing it.
                    await self.steps.remove_part(unit)
                if error.args and isinstance(error.args[0], str):
                    error.args = (self.redact(error.args[0]), *error.args[1:])
                await self._report(Ended(attempt, outcome, error, fetched=csv is not None))
                return
            finally:
                self.steps.counters.in_flight.pop(symbol, None)
            await self._report(Ended(attempt, outcome))

    async def _report(self, ended: Ended) -> None:
        """Say that a unit has ended, together with what it has cost: nothing is counted after the last one."""
        await asyncio.gather(self._tell(), self.link.ask(ended))
        self._told.forget(ended.outcome.unit.ticker.symbol, self.steps.counters)

    async def _tell_counts(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_COUNTS)
            with contextlib.suppress(RunError):
                await self._tell()

    async def _tell(self) -> None:
        if lines := self.lines.taken():
            await self.link.ask(Said(lines))
        counts = self._told.news(self.steps.counters)
        if counts is not None:
            await self.link.ask(counts)
