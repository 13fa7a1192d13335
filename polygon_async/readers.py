"""Page bodies in, what reading them gives out, from processes of their own: pages are read on all cores."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, TypeVar

from polygon_async.errors import Retryable, one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from polygon_async.offload import Offload

__all__ = ["Readers"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Readers:
    """Worker processes for the large bodies; a small one is read in a thread before it could be sent.

    Reading holds the interpreter, so threads would take turns at it, and the event loop would wait
    in between. The processes start with the first large body: runs of small ones never need them.

    Args:
        processes: How many; 0 leaves everything to the threads.
        offload: The threads.
    """

    _WORTH_SENDING = 64 * 1024
    """Bytes of a body, as it came."""

    def __init__(self, processes: int, *, offload: Offload) -> None:
        self._processes = processes
        self._offload = offload
        self._pool: ProcessPoolExecutor | None = None
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Readers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._starting is not None:
            await self._starting
        if self._pool is not None:
            await self._offload(self._pool.shutdown, cancel_futures=True)

    async def __call__(self, work: Callable[[], _T], *, size: int) -> _T:
        """The result of `work()`, which can be pickled and reads a body of `size` bytes.

        Raises:
            Retryable: the process has died over it (out of memory, perhaps).
        """
        if not self._processes or size < self._WORTH_SENDING:
            return await self._offload(work)
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        # The first ones wait for the processes: read in threads, each would take their memory here.
        await asyncio.shield(self._starting)
        if (pool := self._pool) is None:
            return await self._offload(work)
        try:
            return await asyncio.wrap_future(pool.submit(work))
        except BrokenProcessPool as error:
            if self._pool is pool:
                self._pool = self._starting = None
            raise Retryable("the process that read the body has died", reason="reader died") from error

    async def _start(self) -> None:
        try:
            self._pool = await self._offload(_started_pool, self._processes)
        except (OSError, ImportError, BrokenProcessPool) as error:
            # Some containers have no semaphores, and scripts that lack their guard run anew in each process;
            # threads do the same work, more slowly.
            log.info("pages are read in threads, as no processes can be started (%s)", one_line(error))


def _started_pool(processes: int) -> ProcessPoolExecutor:
    """A pool whose processes have imported what they need."""
    # A Ctrl-C in the terminal is for this process to answer: its children inherit this thread's deafness.
    # The tracker comes first, as starting it would undo that.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_get_ready)
    try:
        for ready in [pool.submit(_do_nothing) for _ in range(processes)]:
            ready.result()
    except BrokenProcessPool:
        pool.shutdown()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return pool


def _get_ready() -> None:
    """What a worker process does first: see to it that it does not outlive its parent."""
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _do_nothing() -> None:
    import polygon_async.bars  # noqa: F401  # imported now, when nobody waits for it


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
