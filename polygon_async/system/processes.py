"""Worker processes, so that pages are parsed on all cores."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import importlib
import itertools
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
from polygon_async.system.threads import result_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from polygon_async.system.threads import Threads

__all__ = ["Processes", "get_ready"]

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 * 2**20
_MOST_KEPT = 128 * 2**20

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Processes:
    """Worker processes for large bodies; a small one is parsed in a thread sooner than it could be sent.

    Parsing holds the interpreter, so threads would take turns, and the event loop would wait in between.
    The processes start with the first large body, or on `start()`: runs of small pages never need them.

    Args:
        processes: How many; 0 leaves everything to the threads.
        offload: The threads.
        preload: The module that a process imports before its first work.
    """

    _WORTH_SENDING = 64 * 1024
    """Bytes of a body, as received."""

    def __init__(self, processes: int, *, offload: Threads, preload: str | None = None) -> None:
        self._processes = processes
        self._preload = preload
        self._offload = offload
        # One more than there are processes, so that none waits for its next body to arrive.
        self._turns = _Turns(processes + 1)
        self._pool: ProcessPoolExecutor | None = None
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._starting is not None:
            await self._starting
        if self._pool is not None:
            await self._offload(self._pool.shutdown, cancel_futures=True)

    def start(self) -> None:
        """Start the processes now, as large bodies are expected."""
        if self._processes and self._starting is None:
            self._starting = asyncio.create_task(self._start())

    async def __call__(self, work: Callable[[], _T], *, size: int, priority: int = 0) -> _T:
        """The result of `work()`, which can be pickled and parses a body of `size` bytes.

        Of the bodies that wait, the one with the lowest `priority` goes first.

        Raises:
            Retryable: the process died (out of memory, perhaps).
        """
        if not self._processes or size < self._WORTH_SENDING:
            return await self._offload(work)
        self.start()
        # The first bodies wait for the processes: parsed in threads, they would take memory in this process.
        assert self._starting is not None  # noqa: S101 (for the type checker)
        await asyncio.shield(self._starting)
        if (pool := self._pool) is None:
            return await self._offload(work)
        try:
            async with self._turns.taken(priority):
                return await result_of(pool.submit(work))
        except BrokenProcessPool as error:
            if self._pool is pool:
                self._pool = self._starting = None
            raise Retryable("the process that was parsing the body died", reason="reader died") from error

    async def _start(self) -> None:
        try:
            self._pool = await self._offload(_started_pool, self._processes, self._preload)
        except (OSError, ImportError, BrokenProcessPool) as error:
            # Some containers have no semaphores, and scripts without a main guard run again in each process;
            # threads do the same work, more slowly.
            log.info("parsing pages in threads, as no process can be started (%s)", one_line(error))


class _Turns:
    """At most `total` at once; of those who wait, the one with the lowest priority first.

    When parsing is the bottleneck, the first tickers finish first: their later stages begin while others
    are still being parsed, and not all at the end.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @contextlib.asynccontextmanager
    async def taken(self, priority: int) -> AsyncIterator[None]:
        """Wait for a turn, and keep it for as long as the context lasts."""
        await self._take(priority)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, priority: int) -> None:
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            _, _, following = heapq.heappop(self._waiting)
            if not following.done():
                following.set_result(None)
                return
        self._free += 1


def _started_pool(processes: int, preload: str | None) -> ProcessPoolExecutor:
    """A pool whose processes have imported what they need."""
    # A Ctrl-C in the terminal is for this process to handle: its children inherit the blocked signal.
    # The tracker comes first, as starting it would undo that.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=get_ready, initargs=(preload,)
    )
    try:
        for ready in [pool.submit(bool) for _ in range(processes)]:
            ready.result()
    except BrokenProcessPool:
        pool.shutdown()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return pool


def get_ready(preload: str | None) -> None:
    """What a process does first: make sure that it does not outlive its parent, and import what is slow."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _keep_memory()
    if preload is not None:
        importlib.import_module(preload)  # now, while nobody is waiting


def _keep_memory() -> None:
    """Let the C library keep the memory of one page for the next.

    By default it returns all of it after each page, and the system has to clear it again, which takes a
    third of the parsing time.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, with other ways
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
