"""In a Dask worker: one pipeline for each run, in a thread with a loop of its own; batches of units in, outcomes out.

What fetches and uploads a unit is the same code as on one machine (`run.unit`); here it has the ledger, the tags and
the tokens from afar.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, PolygonAsyncError, RunError, TickerError, first_of
from polygon_async.ledger.events import Failed, NotUploaded
from polygon_async.model.counters import Counters
from polygon_async.model.units import Outcome
from polygon_async.polygon.pace.lease import LeasePacer
from polygon_async.polygon.session import open_client_at
from polygon_async.polygon.windows import Slots
from polygon_async.run.cluster.counts import Snapshot
from polygon_async.run.cluster.far import FarRecorder, FarTags, OvertakenError
from polygon_async.run.cluster.lines import Lines, logged
from polygon_async.run.cluster.link import Link, dask_loop
from polygon_async.run.cluster.messages import (
    Begin,
    Ended,
    Said,
    Stop,
    Unfit,
)
from polygon_async.run.cluster.versions import difference, versions
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

__all__ = ["close_site", "open_site", "run_batch"]

_SECONDS_BETWEEN_COUNTS = 0.5
_SECONDS_BETWEEN_LOOKS = 2.0
"""At whether the run is still there: a coordinator that was killed says nothing."""
_sites: dict[str, _Site] = {}
"""This worker's pipelines, by the run's name on the cluster."""
_lock = threading.Lock()


# What Dask calls. Each takes and returns plain values.


async def open_site(assignment: bytes, dask_worker: Worker) -> str | None:
    """Open this worker's pipeline for a run; returns why it cannot be used, if so."""
    try:
        await asyncio.to_thread(_site, pickle.loads(assignment), dask_worker)  # noqa: S301 (the coordinator's own)
    except PolygonAsyncError as error:
        return str(error)
    return None


async def close_site(run_key: str) -> None:
    """Close the pipeline of a run that has ended; what is under way is cancelled."""
    with _lock:
        site = _sites.pop(run_key, None)
    if site is not None:
        await asyncio.to_thread(site.close)


def run_batch(run_key: str, batch: str, orders: bytes) -> None:
    """Do a batch of units; how they end, the coordinator learns meanwhile. Blocking."""
    from distributed import get_worker

    worker = get_worker()
    site = _sites.get(run_key)
    if site is None or site.is_closing:
        try:
            site = _joined(worker, run_key)
        except PolygonAsyncError as error:
            # The coordinator knows before the task ends, so that what was to be done here goes elsewhere.
            _called(worker, "send", run=run_key, worker=worker.address, payload=pickle.dumps([Unfit(str(error))]))
            return
    if site is not None:
        site.run(batch, pickle.loads(orders))  # noqa: S301 (the coordinator's own)


def _joined(worker: Worker, run_key: str) -> _Site | None:
    """The pipeline of a worker that was not there when the run began; None: the run is over.

    Raises:
        PolygonAsyncError: the worker lacks something.
    """
    found = _called(worker, "assignment", run=run_key)
    if found is None:
        return None
    assignment, coordinators = found
    if (text := difference(versions(), coordinators)) is not None:
        raise ConfigError(f"it {text}")
    return _site(pickle.loads(assignment), worker)  # noqa: S301 (the coordinator's own)


def _called(at: Worker, name: str, **values: Any) -> Any:
    """What the owner's method of this name returns, from a thread; None, if it cannot be reached."""
    call = getattr(at.scheduler, f"polygon_{name}")(**values)
    with contextlib.suppress(OSError):
        return asyncio.run_coroutine_threadsafe(call, dask_loop(at)).result()
    return None


def _site(assignment: Assignment, worker: Worker) -> _Site:
    """The worker's pipeline for a run, opened by whoever is first."""
    with _lock:
        site = _sites.get(assignment.run_key)
        if site is not None and site.is_closing:
            # Both would have the same files.
            site.close()
            site = None
        if site is None:
            site = _sites[assignment.run_key] = _Site(assignment, worker)
    try:
        site.opened.result()
    except BaseException:
        with _lock:
            _sites.pop(assignment.run_key, None)
        raise
    return site


class _Site:
    """A thread with a loop, in which a pipeline is open."""

    def __init__(self, assignment: Assignment, worker: Worker) -> None:
        from concurrent.futures import Future

        self.opened: Future[None] = Future()
        self._assignment = assignment
        self._worker = worker
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._pipeline: _Pipeline | None = None
        self._thread = threading.Thread(target=self._live, name="polygon-async", daemon=True)
        self._thread.start()

    def run(self, batch: str, orders: Sequence[Order]) -> None:
        """Do a batch, and wait for its end."""
        assert self._pipeline is not None  # noqa: S101 (for the type checker; it is open)
        pipeline = self._pipeline
        batches = pipeline.do(batch, orders)
        try:
            asyncio.run_coroutine_threadsafe(batches, self._loop).result()
        except asyncio.CancelledError:
            return
        except RuntimeError:
            # Its loop has been closed.
            batches.close()

    @property
    def is_closing(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._closing.is_set()

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(timeout=10)

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            if _sites.get(self._assignment.run_key) is self:
                _sites.pop(self._assignment.run_key)

    async def _serve(self) -> None:
        try:
            async with _open_pipeline(self._assignment, self._worker) as pipeline:
                self._pipeline = pipeline
                self.opened.set_result(None)
                watching = asyncio.create_task(self._watch(pipeline.link))
                await self._closing.wait()
                watching.cancel()
        except BaseException as error:
            if self.opened.done():
                raise
            found = first_of(error)
            self.opened.set_exception(found if isinstance(found, PolygonAsyncError) else RunError(repr(found)))

    async def _watch(self, link: Link) -> None:
        """Close, when the run is over and nobody said so, or the worker: its process waits for its threads."""
        while not link.is_over:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            with contextlib.suppress(OSError):
                if not await link.called("knows"):
                    break
        self._closing.set()


@contextlib.asynccontextmanager
async def _open_pipeline(assignment: Assignment, worker: Worker) -> AsyncIterator[_Pipeline]:
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
        client = await stack.enter_async_context(
            open_client_at(LeasePacer(link), settings.access, offload=offload, counters=counters)
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
        pipeline = _Pipeline(steps, recorder, link, redact, settings.concurrency, lines)
        pipeline.start()
        try:
            yield pipeline
        finally:
            await pipeline.stop()


@dataclass(slots=True)
class _Pipeline:
    """Does units, so many at once."""

    steps: UnitSteps
    recorder: FarRecorder
    link: Link
    redact: Redactor
    concurrency: int
    lines: Lines
    """What is logged here, and told there."""
    _room: asyncio.Semaphore = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
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
        tasks = [task for task in (*self._tasks, self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        if waiting := [*tasks, *self._batches]:
            # A batch whose end nobody sees would keep its thread.
            await asyncio.wait(waiting)

    async def do(self, batch: str, orders: Sequence[Order]) -> None:
        """Do all units of a batch; a RunError of one ends the run, and so the batch."""
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 (for the type checker)
        self._batches.add(own)
        own.add_done_callback(self._batches.discard)
        self.steps.slots.waiting += len(orders)
        tasks = [asyncio.create_task(self._one(batch, order)) for order in orders]
        self._tasks.update(tasks)
        try:
            await asyncio.gather(*tasks)
        except RunError as error:
            with contextlib.suppress(RunError):
                await self.link.apart(Stop(RunError(self.redact(str(error)))))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                # The first error was told; asyncio would print the others.
                _ = task.cancelled() or task.exception()
            self._tasks.difference_update(tasks)
            with contextlib.suppress(RunError):
                await self._tell()

    async def _one(self, batch: str, order: Order) -> None:
        unit = order.pending.unit
        symbol = unit.ticker.symbol
        async with self._room:
            attempt: int | None = await self.link.apart(Begin(symbol, batch))
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
