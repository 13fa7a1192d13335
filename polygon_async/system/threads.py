"""Runs blocking work in threads, so that the event loop only awaits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from polygon_async.errors import MachineUnusable
from polygon_async.system.limits import seconds_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

__all__ = ["USUAL_THREADS", "Threads", "ended", "result_of"]

USUAL_THREADS = min(32, (os.cpu_count() or 1) + 4)

log = logging.getLogger(__name__)

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
                advice = "end others, or raise the limit (ulimit -u, or the container's PID limit)"
                raise MachineUnusable(f"no more threads can be started; {advice}") from error


class Threads:
    """A pool of threads whose work is never abandoned.

    A thread cannot be cancelled. A caller that is cancelled while waiting still waits for the thread's end,
    so that no file is written after its owner has cleaned up. Nor can it be killed: work over a file, which takes
    for ever where a disk hangs, is watched, so that the log says what everybody waits for.
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

    async def surely(self, work: Callable[[], _T], *, subject: str | None = None) -> _T:
        """The result of `work()`, which cleans up: it runs even if its turn comes after a cancellation.

        With a `subject`, it is watched.
        """
        with _Watch(work, subject, 0) as watch:
            future = asyncio.wrap_future(self._threads.submit(watch.work))
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await ended(future)
                raise

    async def until_done(self, work: Callable[[], _T], *, hurry: Callable[[], object] = lambda: None) -> _T:
        """The result of `work()`; on cancellation `hurry` is called, which should make it end soon."""
        return await result_of(self._threads.submit(work), hurry=hurry)

    async def watched(self, work: Callable[[], _T], *, subject: str | Callable[[], str], size: int = 0) -> _T:
        """The result of `work()`; a warning names what takes longer than a step over so many bytes may.

        Args:
            work: A step over a file, or over many.
            subject: What the log calls it; of many files, what it is at when it is asked.
            size: Bytes of the file, or of the largest.
        """
        with _Watch(work, subject, size) as watch:
            return await self.until_done(watch.work)


class _Watch(Generic[_T]):
    """Says once, while the context lasts, that work takes too long in its thread; the wait for one does not count."""

    def __init__(self, work: Callable[[], _T], subject: str | Callable[[], str] | None, size: int) -> None:
        self._work = work
        self._subject = subject
        self._seconds = seconds_for(size)
        self._loop = asyncio.get_running_loop()
        self._at = ""
        """What it was at when it was last looked at."""
        self._since: float | None = None
        """Since when, or a little earlier; None until the work begins."""
        self._alarm: asyncio.TimerHandle | None = None

    def work(self) -> _T:
        """The work itself, in its thread."""
        self._since = self._loop.time()
        return self._work()

    def __enter__(self) -> _Watch[_T]:
        if self._subject is not None:
            self._at = self._told()
            self._alarm = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _told(self) -> str:
        return self._subject() if callable(self._subject) else self._subject or ""

    def _look(self) -> None:
        at, now = self._told(), self._loop.time()
        if at != self._at:
            self._at, self._since = at, now
        left = self._seconds if self._since is None else self._since + self._seconds - now
        if self._since is None or left > 0:
            self._alarm = self._loop.call_later(left, self._look)
            return
        told = "%s has taken %.0f s so far, in a thread, which cannot be killed; is the disk hanging?"
        log.warning(told, at, self._seconds)


async def result_of(running: Future[_T], *, hurry: Callable[[], object] = lambda: None) -> _T:
    """The result of an executor's work; a cancelled wait ends with the work, or before it has begun."""
    future = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Only work that has not begun can be cancelled; the future of running work must not say that it was.
        if not running.cancel():
            hurry()
            await ended(future)
        raise


async def ended(future: asyncio.Future[Any]) -> None:
    """Wait for the end of an executor's work, however often the wait is cancelled; its owner is already leaving."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # retrieved, so that asyncio does not log it as lost
