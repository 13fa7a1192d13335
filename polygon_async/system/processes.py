"""Worker processes, so that pages are parsed on all cores; they start as there is work for them."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from polygon_async.errors import Retryable, TickerError, one_line
from polygon_async.system.limits import seconds_for
from polygon_async.system.threads import result_of
from polygon_async.system.worker import Lost, TookTooLong, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from polygon_async.system.threads import Threads

__all__ = ["Processes"]

_SECONDS_TO_START = 60.0
_SECONDS_UNWANTED = 10.0
"""What is left to work whose result is not wanted any more."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class _NoProcesses(Exception):
    """No process can be started."""


class Processes:
    """Worker processes for large bodies; a small one is parsed in a thread sooner than it could be sent.

    Parsing holds the interpreter, so threads would take turns, and the event loop would wait in between.
    Processes start as there is work for them: `at_first` of them with the first request, and once a large body
    has come, one for each request under way.

    Parsing has a time limit, which grows with the body. A process that exceeds it is killed and its body is
    parsed once more; the other processes are not affected.

    Args:
        processes: The most processes; 0 leaves everything to the threads.
        offload: The threads.
        preload: The module that a process imports before its first work.
        at_first: How many processes start with the first request, because large bodies are expected.
    """

    _WORTH_SENDING = 64 * 1024
    """Bytes of a body, as received."""

    def __init__(self, processes: int, *, offload: Threads, preload: str | None = None, at_first: int = 0) -> None:
        self._most = processes
        self._preload = preload
        self._offload = offload
        self._wanted = at_first
        self._under_way = 0
        self._has_seen_large = False
        # One more than there are processes, so that none waits for its next body to arrive.
        self._turns = _Turns(1)
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._lock = threading.Lock()
        """Guards what follows, which the readers' threads change, too."""
        self._alive = 0
        self._failure: Exception | None = None
        """Why there are no processes, if so."""
        self._workers: set[Worker] = set()
        self._is_closed = False

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._offload.surely(self._close)
        if error is None and self._failure is not None and not isinstance(self._failure, _NoProcesses):
            raise self._failure

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """A request is under way while the context lasts; the process that its body may need starts meanwhile."""
        self._under_way += 1
        self._start(self._wanted)
        try:
            yield
        finally:
            self._under_way -= 1

    async def __call__(self, work: Callable[[], _T], *, size: int, priority: int = 0, subject: str = "a page") -> _T:
        """The result of `work()`, which can be pickled and parses a body of `size` bytes.

        Of the bodies that wait, the one with the lowest `priority` goes first. The log calls this one `subject`.

        Raises:
            Retryable: the process died (out of memory, perhaps).
            TickerError: two processes exceeded the time limit.
        """
        seconds = seconds_for(size)
        if not self._most or size < self._WORTH_SENDING:
            return await self._offload.watched(work, subject=f"parsing {subject}", size=size)
        self._has_seen_large = True
        self._start(max(1, self._under_way))
        for _ in range(2):
            try:
                async with self._turns.taken(priority):
                    return await self._in_process(work, seconds)
            except _NoProcesses:
                return await self._offload.watched(work, subject=f"parsing {subject}", size=size)
            except TookTooLong:
                log.warning("parsing %s took longer than %.0f s; its process was killed", subject, seconds)
            except Lost as error:
                raise Retryable("the process that was parsing the body died", reason="reader died") from error
        raise TickerError(f"parsing the answer took longer than {seconds:.0f} s, twice; the processes were killed")

    async def _in_process(self, work: Callable[[], _T], seconds: float) -> _T:
        job = _Job(work, seconds)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._jobs.put(job)
        return await result_of(job.future, hurry=job.hurry)

    def _start(self, wanted: int) -> None:
        """Start processes until this many run, or the most that may."""
        if self._has_seen_large:
            wanted = max(wanted, self._under_way)
        with self._lock:
            if self._failure is not None:
                return
            missing = min(wanted, self._most) - self._alive
            self._alive += max(0, missing)
        for _ in range(missing):
            reader = threading.Thread(target=self._read, name="reader", daemon=True)
            try:
                reader.start()
            except RuntimeError as error:  # no more threads are allowed
                self._leave(OSError(str(error)))
            else:
                self._readers.append(reader)
                self._turns.add()

    def _read(self) -> None:
        """A reader's thread: it gives one process body after body, and replaces a process that is lost."""
        try:
            while self._has_lost(self._started()):
                pass
        except Exception as error:  # noqa: BLE001 (passed on to whoever needs a process)
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        """One reader has ended; after the last one, the work that waits gets an error."""
        # Some systems allow no more processes, and scripts without a main guard run again in each process;
        # threads do the same work, more slowly.
        is_usual = isinstance(error, OSError | ImportError | Lost | TookTooLong)
        with self._lock:
            self._alive -= 1
            if self._alive or self._is_closed or self._failure is not None:
                return
            self._failure = _NoProcesses() if is_usual else error
            while not self._jobs.empty():
                if (job := self._jobs.get()) is not None and job.begin():
                    job.future.set_exception(self._failure)
        log.info("parsing pages in threads, as no process can be started (%s)", one_line(error) or "it ends")

    def _started(self) -> Worker:
        """A process that is ready; one that hangs while it starts is replaced once.

        Raises:
            OSError, ImportError, Lost, TookTooLong: none can be started.
        """
        try:
            return self._started_once()
        except TookTooLong:
            log.warning("a process to parse pages did not start within %.0f s and was killed", _SECONDS_TO_START)
            return self._started_once()

    def _started_once(self) -> Worker:
        worker = Worker(self._preload)
        with self._lock:
            self._workers.add(worker)
            if self._is_closed:
                worker.interrupt()
        try:
            worker.wait_until_ready(_Job(bool, _SECONDS_TO_START).left)
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.end()

    def _has_lost(self, worker: Worker) -> bool:
        """Give a process body after body; True if it was lost, False if there are no more bodies."""
        try:
            while (job := self._jobs.get()) is not None:
                if job.begin() and not _is_done(job, worker):
                    return True
            return False
        finally:
            self._end(worker)

    def _close(self) -> None:
        """End all processes; nobody is waiting for one any more."""
        with self._lock:
            self._is_closed = True
            workers = list(self._workers)
        for _ in self._readers:
            self._jobs.put(None)
        for worker in workers:
            worker.interrupt()
        for reader in self._readers:
            reader.join()


class _Job(Generic[_T]):
    """Work for a process: its result, and the time it has left."""

    def __init__(self, work: Callable[[], _T], seconds: float) -> None:
        self.work = work
        self.future: Future[_T] = Future()
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def begin(self) -> bool:
        """Start its time; False if nobody wants it any more."""
        self._end = time.monotonic() + self._seconds
        return self.future.set_running_or_notify_cancel()

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def hurry(self) -> None:
        """Its result is not wanted any more; its caller waits for its end only."""
        self._end = min(self._end, time.monotonic() + _SECONDS_UNWANTED)


def _is_done(job: _Job[_T], worker: Worker) -> bool:
    """Do the work and pass on its result or error; False if the process was lost."""
    try:
        result = worker.ask(job.work, job.left)
    except (Lost, TookTooLong) as error:
        # Before its caller knows: the same work must not be done twice at the same time.
        worker.end()
        job.future.set_exception(error)
        return False
    except BaseException as error:  # noqa: BLE001 (the caller's)
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
    return True


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

    def add(self) -> None:
        """From now on, one more at once."""
        self._give_back()

    def _give_back(self) -> None:
        while self._waiting:
            _, _, following = heapq.heappop(self._waiting)
            if not following.done():
                following.set_result(None)
                return
        self._free += 1
