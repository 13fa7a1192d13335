"""CSVs in, receipts out, as `Delivery`: by processes of its own where there is much to deliver, so that what an upload
costs is not on the event loop that paces the requests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from polygon_async.errors import one_line
from polygon_async.store.delivery_process import (
    OWN_LOGGER,
    Cancel,
    Channel,
    Close,
    Ended,
    Job,
    Logged,
    NotReady,
    Ready,
    Secret,
    Setup,
    Stage,
    serve,
)
from polygon_async.store.packing import MOST_BYTES
from polygon_async.system.worker import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType

    from polygon_async.model.units import CsvFile, Receipt, Unit
    from polygon_async.store.delivery import Delivery
    from polygon_async.store.objects import ObjectDescription

__all__ = ["DeliveryPool"]

log = logging.getLogger(__name__)

_MANY = 20
"""Deliveries within a second that are worth a process."""
_WORTH_STARTING = 60
"""Deliveries still to come for which a process, which takes as long as these, is started."""
_JOBS_FOR_ONE = 32
"""In flight in a process before there is another one."""
_SECONDS_TO_START = 60.0
_SECONDS_OF_SILENCE = 60.0
_SECONDS_BETWEEN_LOOKS = 10.0
_SECONDS_TO_STOP = 12.0
"""For a job that is given up, and for a process: an upload in parts is taken back first."""
_ATTEMPTS = 2
"""In processes; then it is done here."""
_MOST_LOST = 3
"""Processes that end unasked before no more are started."""
_MOST_TOLD = 1000


class _Lost(Exception):
    """A process has ended, or was killed because it said nothing any more."""


class DeliveryPool:
    """Delivers as `local` does, and elsewhere as soon as there are many deliveries.

    A process that ends, whatever the reason, takes no delivery with it: another one does it again, as an object is
    written once however often it is tried. Where no process can be started, all is done here.

    Args:
        local: What delivers here.
        most: The most processes; 0 for none.
        expected: How many deliveries there will be.
        connections: Most uploads at once.
        on_secret: Told the secrets that a process learns, so that no log shows them.
    """

    def __init__(
        self, local: Delivery, *, most: int, expected: int, connections: int, on_secret: Callable[[str], object]
    ) -> None:
        self._local = local
        self._most = most
        self._left = expected
        self._connections = connections
        self._on_secret = on_secret
        self._recent: deque[float] = deque(maxlen=_MANY)
        """When the last deliveries began here."""
        self._processes: list[_Process] = []
        self._told: set[tuple[str, str]] = set()
        self._lost = 0

    async def __aenter__(self) -> DeliveryPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._processes:
            await asyncio.shield(asyncio.gather(*(process.close() for process in self._processes)))

    async def __call__(
        self, unit: Unit, csv: CsvFile, *, collected: datetime, on_stage: Callable[[str], object]
    ) -> tuple[Receipt, ObjectDescription]:
        """As `Delivery`."""
        self._left -= 1
        for attempt in range(_ATTEMPTS):
            process = self._chosen() if not attempt else await self._replaced()
            if process is None:
                return await self._local(unit, csv, collected=collected, on_stage=on_stage)
            try:
                found = await process.deliver(unit, csv, collected=collected, on_stage=on_stage)
            except _Lost:
                log.warning("the process uploading %s has died; uploading it again", unit.ticker.symbol)
            else:
                self._local.uploader.bucket.has_stored = True
                return found
        return await self._local(unit, csv, collected=collected, on_stage=on_stage)

    def _chosen(self) -> _Process | None:
        """The process that has least to do; None if it is to be done here."""
        ready = [process for process in self._processes if process.is_ready]
        if not ready:
            self._recent.append(asyncio.get_running_loop().time())
        self._start_more()
        return min(ready, key=lambda process: process.jobs, default=None)

    async def _replaced(self) -> _Process | None:
        """A process for a delivery that one was lost with, which may be to blame: it is done here only at last."""
        if not any(process.is_alive for process in self._processes) and self._most:
            self._start_one()
        for process in self._processes:
            await process.has_started.wait()
        return self._chosen()

    def _start_more(self) -> None:
        alive = [process for process in self._processes if process.is_alive]
        if len(alive) >= self._most or self._left < _WORTH_STARTING:
            return
        if alive:
            is_busy = all(process.is_ready and process.jobs >= _JOBS_FOR_ONE for process in alive)
        else:
            is_busy = len(self._recent) == _MANY and asyncio.get_running_loop().time() - self._recent[0] <= 1
        if is_busy:
            self._start_one()

    def _start_one(self) -> None:
        local = self._local
        setup = Setup(
            bucket=local.uploader.bucket.name,
            prefix=local.uploader.bucket.prefix,
            connections=self._connections,
            lzop=local.lzop,
            directory=local.directory.absolute(),
            replace=local.replace,
            patience=local.patience,
            log_level=logging.getLogger(OWN_LOGGER).getEffectiveLevel(),
        )
        self._processes.append(_Process(setup, self))

    @property
    def has_stored(self) -> bool:
        """Whether the run has stored anything."""
        return self._local.uploader.bucket.has_stored

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Count time that a process has spent."""
        for what, taken in seconds.items():
            self._local.seconds[what] += taken

    def learn(self, secret: str) -> None:
        """Keep a secret that a process has learned."""
        self._on_secret(secret)

    def log(self, record: dict[str, Any]) -> None:
        """Log what a process says; what several of them find out about the store is said once."""
        line = logging.makeLogRecord(record)
        logger = logging.getLogger(line.name)
        if not logger.isEnabledFor(line.levelno):
            return
        told = (line.name, line.getMessage())
        if line.levelno <= logging.INFO and told in self._told:
            return
        if len(self._told) < _MOST_TOLD:
            self._told.add(told)
        logger.handle(line)

    def lose(self) -> None:
        """A process has ended unasked."""
        self._lost += 1
        if self._lost >= _MOST_LOST:
            self.give_up("too many have died; is memory low?")

    def give_up(self, why: str) -> None:
        """Start no more processes."""
        if self._most:
            log.info("uploading from this process, as no others can be started (%s)", why)
        self._most = 0


class _Process:
    """One process, from its start to its end."""

    def __init__(self, setup: Setup, pool: DeliveryPool) -> None:
        self._pool = pool
        self._numbers = itertools.count()
        self._jobs: dict[int, tuple[asyncio.Future[tuple[Receipt, ObjectDescription]], Callable[[str], object]]] = {}
        self._channel: Channel | None = None
        self._child: Child | None = None
        self._is_closing = False
        self._running = asyncio.create_task(self._run(setup))
        self.has_started = asyncio.Event()
        """It is ready, or never will be."""
        self.is_alive = True
        self.is_ready = False

    @property
    def jobs(self) -> int:
        """Deliveries in flight."""
        return len(self._jobs)

    async def deliver(
        self, unit: Unit, csv: CsvFile, *, collected: datetime, on_stage: Callable[[str], object]
    ) -> tuple[Receipt, ObjectDescription]:
        """As `Delivery`.

        Raises:
            _Lost: the process has ended.
        """
        channel = self._channel
        assert channel is not None  # noqa: S101 (for the type checker; it is ready)
        number, ended = next(self._numbers), asyncio.get_running_loop().create_future()
        self._jobs[number] = ended, on_stage
        if csv.size <= MOST_BYTES:
            on_stage("uploading")
        channel.send(Job(number=number, unit=unit, csv=csv, collected=collected, has_stored=self._pool.has_stored))
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            channel.send(Cancel(number))
            await asyncio.wait([ended], timeout=_SECONDS_TO_STOP)
            if ended.done():
                ended.exception()  # retrieved, so that asyncio does not log it as lost
            raise
        finally:
            self._jobs.pop(number, None)

    async def close(self) -> None:
        """End it; it has no jobs any more, or may not finish them."""
        self._is_closing = True
        if self._channel is not None and self.is_ready:
            self._channel.send(Close())
            await asyncio.wait([self._running], timeout=_SECONDS_TO_STOP)
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self, setup: Setup) -> None:
        try:
            ours, theirs = socket.socketpair()
            self._channel = await Channel.over(ours)
            # It takes some milliseconds; the descriptor is closed when it has been passed on, however that ends.
            await asyncio.shield(asyncio.to_thread(self._start, theirs, setup))
            await self._wait_until_ready(self._channel)
            self.is_ready = True
            self.has_started.set()
            await self._listen(self._channel)
            if not self._is_closing:
                self._pool.lose()
        except Exception as error:  # noqa: BLE001 (whatever it is, all can be done here)
            self._pool.give_up(one_line(error) or "it exits")
        finally:
            self.is_alive = self.is_ready = False
            self.has_started.set()
            if self._channel is not None:
                self._channel.close()
            if self._child is not None:
                # Before its jobs are done again: nothing may write the same files at the same time.
                await asyncio.shield(asyncio.to_thread(self._child.end))
            for ended, _ in self._jobs.values():
                if not ended.done():
                    ended.set_exception(_Lost())

    def _start(self, theirs: socket.socket, setup: Setup) -> None:
        with theirs:
            self._child = Child(serve, theirs, setup, leads_session=True)

    async def _wait_until_ready(self, channel: Channel) -> None:
        async with asyncio.timeout(_SECONDS_TO_START):
            while not isinstance(message := await channel.receive(), Ready):
                if message is None:
                    raise _Lost
                if isinstance(message, NotReady):
                    raise _Lost(message.why)
                self._take(message)

    async def _listen(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        self._heard = self._looked = loop.time()
        self._looking = loop.call_later(_SECONDS_BETWEEN_LOOKS, self._look)
        try:
            while (message := await channel.receive()) is not None:
                self._heard = loop.time()
                self._take(message)
        finally:
            self._looking.cancel()

    def _look(self) -> None:
        """Kill a process that has said nothing for long; whoever was stopped meanwhile listens first."""
        loop = asyncio.get_running_loop()
        now, looked = loop.time(), self._looked
        self._looked = now
        if now - looked > 2 * _SECONDS_BETWEEN_LOOKS:
            self._heard = now
        if now - self._heard > _SECONDS_OF_SILENCE and self._child is not None:
            log.warning("an uploading process has been silent for %.0f s; killing it", now - self._heard)
            self._child.interrupt()
            return
        self._looking = loop.call_later(_SECONDS_BETWEEN_LOOKS, self._look)

    def _take(self, message: object) -> None:
        match message:
            case Ended():
                self._pool.spent(message.seconds)
                ended, _ = self._jobs.get(message.number, (None, None))
                if ended is None or ended.done():
                    return
                if message.error is not None:
                    ended.set_exception(message.error)
                elif message.result is not None:
                    ended.set_result(message.result)
                else:
                    # Nobody waits for it any more, or nobody here has stopped it: then it is done again.
                    ended.set_exception(_Lost())
            case Stage():
                with contextlib.suppress(KeyError):
                    self._jobs[message.number][1](message.stage)
            case Secret():
                self._pool.learn(message.value)
            case Logged():
                self._pool.log(message.record)
