"""Runs blocking work in threads, so that the event loop only awaits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from polygon_async.errors import MachineUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

__all__ = ["USUAL_THREADS", "Threads", "result_of"]

USUAL_THREADS = min(32, (os.cpu_count() or 1) + 4)

_AT_ONCE = 500
_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Pool(ThreadPoolExecutor):
    """Goes on with fewer threads where the system allows no more."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            # Work that was handed over waits for a thread; with none it would wait for ever.
            if not self._threads:
                advice = "end others, or raise the limit (ulimit -u, or the container's limit of pids)"
                raise MachineUnusable(f"no more threads can be started; {advice}") from error


class Threads:
    """A pool of threads whose work is never abandoned.

    A thread cannot be cancelled. A caller that is cancelled while waiting still waits for the thread's end,
    so that no file is written after its owner has cleaned up.
    """

    def __init__(self, threads: int = USUAL_THREADS) -> None:
        self._threads = _Pool(max_workers=threads, thread_name_prefix="offload")

    async def __aenter__(self) -> Threads:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def __call__(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `work(*args, **kwargs)`."""
        return await self.until_done(functools.partial(work, *args, **kwargs))

    async def each(self, work: Callable[[_T], object], items: Sequence[_T]) -> None:
        """Do `work` for each item, so many at a time that a caller that is cancelled need not wait for all of them."""

        def do(some: Sequence[_T]) -> None:
            for item in some:
                work(item)

        for start in range(0, len(items), _AT_ONCE):
            await self(do, items[start : start + _AT_ONCE])

    async def surely(self, work: Callable[[], _T]) -> _T:
        """The result of `work()`, which cleans up: it runs even if its turn comes after a cancellation."""
        future = asyncio.wrap_future(self._threads.submit(work))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _ended(future)
            raise

    async def until_done(self, work: Callable[[], _T], *, hurry: Callable[[], object] = lambda: None) -> _T:
        """The result of `work()`; on cancellation `hurry` is called, which should make it end soon."""
        return await result_of(self._threads.submit(work), hurry=hurry)


async def result_of(running: Future[_T], *, hurry: Callable[[], object] = lambda: None) -> _T:
    """The result of an executor's work; a cancelled wait ends with the work, or before it has begun."""
    future = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Only work that has not begun can be cancelled; the future of running work must not say that it was.
        if not running.cancel():
            hurry()
            await _ended(future)
        raise


async def _ended(future: asyncio.Future[Any]) -> None:
    """Wait for the end of an executor's work, however often the wait is cancelled; its owner is already leaving."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # retrieved, so that asyncio does not log it as lost
