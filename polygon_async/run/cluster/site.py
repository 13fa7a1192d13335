"""In a Dask worker: one pipeline for each run, in a thread with a loop of its own; batches of units in.

Here is what Dask calls, and how long a pipeline lives; what it does is in `worker_pipeline`.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, PolygonAsyncError, RunError, first_of
from polygon_async.run.cluster.calls import dask_errors
from polygon_async.run.cluster.link import to_scheduler
from polygon_async.run.cluster.messages import PACE, Unfit
from polygon_async.run.cluster.versions import difference, versions
from polygon_async.run.cluster.worker_pipeline import open_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed import Worker

    from polygon_async.run.cluster.link import Link
    from polygon_async.run.cluster.messages import Assignment, Order
    from polygon_async.run.cluster.worker_pipeline import Pipeline

__all__ = ["close_site", "open_site", "run_batch"]

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


def _hear(run: str, pace: Mapping[str, Any]) -> None:
    """The owner of the tokens says that what it gave is void."""
    if (site := _sites.get(run)) is not None:
        site.hear(pace)


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


def _called(worker: Worker, name: str, /, **values: Any) -> Any:
    """What the owner's method of this name returns, from a thread; None, if it cannot be reached."""
    with contextlib.suppress(OSError), dask_errors():
        return to_scheduler(worker, f"polygon_{name}", **values).result()
    return None


def _site(assignment: Assignment, worker: Worker) -> _Site:
    """The worker's pipeline for a run, opened by whoever is first."""
    worker.stream_handlers[PACE] = _hear
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
        self.opened: Future[None] = Future()
        self._assignment = assignment
        self._worker = worker
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._pipeline: Pipeline | None = None
        self._thread = threading.Thread(target=self._live, name="polygon-async", daemon=True)
        self._thread.start()

    def run(self, batch: str, orders: Sequence[Order]) -> None:
        """Do a batch, and wait for its end."""
        assert self._pipeline is not None  # noqa: S101 (for the type checker; it is open)
        doing = self._pipeline.do(batch, orders)
        try:
            asyncio.run_coroutine_threadsafe(doing, self._loop).result()
        except (CancelledError, RuntimeError):
            # It is closing, or its loop has been closed.
            doing.close()

    def hear(self, pace: Mapping[str, Any]) -> None:
        """Learn of the pace, from any thread."""
        if self._pipeline is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._pipeline.pacer.learn, pace)

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
            async with open_pipeline(self._assignment, self._worker) as pipeline:
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
