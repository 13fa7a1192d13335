"""A process that delivers CSVs for its parent, with a client and an event loop of its own: messages in and out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import pickle
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async.errors import one_line
from polygon_async.store.bucket import open_bucket
from polygon_async.store.delivery import Delivery
from polygon_async.store.packing import MOST_BYTES
from polygon_async.store.upload import Uploader
from polygon_async.system.threads import Threads
from polygon_async.system.worker import end_with_parent, leave_at_once, portable

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from polygon_async.model.units import CsvFile, Receipt, Unit
    from polygon_async.store.objects import ObjectDescription

__all__ = [
    "OWN_LOGGER",
    "Beat",
    "Cancel",
    "Channel",
    "Close",
    "Ended",
    "Job",
    "Logged",
    "NotReady",
    "Ready",
    "Secret",
    "Setup",
    "Stage",
    "serve",
]

_LENGTH = 4
"""Bytes for the length of a message."""
_SECONDS_BETWEEN_BEATS = 5.0
OWN_LOGGER = "polygon_async"
"""The logger of all that is this program's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a process needs to know; credentials it finds where its parent found them."""

    bucket: str
    prefix: str
    """What all keys are below."""
    connections: int
    """Most uploads at once."""
    lzop: str
    directory: Path
    replace: bool
    patience: float
    log_level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Deliver this CSV."""

    number: int
    unit: Unit
    csv: CsvFile
    collected: datetime
    has_stored: bool
    """Whether the run has stored anything, wherever."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a job, and clean up after it."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """There are no more jobs."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Jobs may come."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """No jobs can be done."""

    why: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The process still turns, however long a job takes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a job of some length is at."""

    number: int
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended; with neither result nor error, it was stopped."""

    number: int
    result: tuple[Receipt, ObjectDescription] | None = None
    error: Exception | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Spent on `lzop` and on `upload` since the last job ended."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What no text may show."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logged:
    """A line for the log, as the attributes of its record."""

    record: dict[str, Any]


class Channel:
    """Pickled messages over a connection between a process and its parent; no one else is at its ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connection: socket.socket) -> Channel:
        """A channel over a connected socket."""
        return cls(*await asyncio.open_connection(sock=connection))

    def send(self, message: object) -> None:
        """Send a message as soon as possible; into a closed connection, nothing."""
        if not self._writer.is_closing():
            told = pickle.dumps(message)
            self._writer.write(len(told).to_bytes(_LENGTH, "big") + told)

    async def receive(self) -> object | None:
        """The next message; None when the other end is gone."""
        try:
            length = await self._reader.readexactly(_LENGTH)
            told = await self._reader.readexactly(int.from_bytes(length, "big"))
        except (asyncio.IncompleteReadError, OSError):
            return None
        message: object = pickle.loads(told)  # noqa: S301 (from our own process)
        return message

    def close(self) -> None:
        """Close this end."""
        self._writer.close()

    async def drained(self) -> None:
        """Wait until all messages are on their way."""
        with contextlib.suppress(OSError):
            await self._writer.drain()


def serve(connection: socket.socket, setup: Setup) -> None:
    """What the process does, until its parent closes the channel or is gone."""
    os.setsid()
    end_with_parent()
    asyncio.run(_serve(connection, setup))


async def _serve(connection: socket.socket, setup: Setup) -> None:
    channel = await Channel.over(connection)
    _log_to(channel, setup.log_level)

    def keep_secret(value: str | None) -> None:
        if value:
            channel.send(Secret(value))

    try:
        async with (
            Threads() as offload,
            # Nobody can be asked for the code of a device twice.
            open_bucket(
                setup.bucket,
                prefix=setup.prefix,
                connections=setup.connections,
                on_secret=keep_secret,
                may_ask=False,
            ) as bucket,
        ):
            deliver = Delivery(
                uploader=Uploader(bucket, offload=offload),
                lzop=setup.lzop,
                directory=setup.directory,
                offload=offload,
                replace=setup.replace,
                patience=setup.patience,
            )
            channel.send(Ready())
            await _Jobs(channel, deliver)()
    except Exception as error:  # noqa: BLE001 (the parent says it, without secrets)
        channel.send(NotReady(one_line(error) or type(error).__name__))
        await channel.drained()


class _Jobs:
    """The jobs of a process, side by side."""

    def __init__(self, channel: Channel, deliver: Delivery) -> None:
        self._channel = channel
        self._deliver = deliver
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def __call__(self) -> None:
        """Do what the parent asks for, until it wants no more."""
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat())
            while not isinstance(message := await self._channel.receive(), Close):
                match message:
                    case Job():
                        self._tasks[message.number] = tasks.create_task(self._do(message))
                        await asyncio.sleep(0)  # it has begun before it can be cancelled, and so says that it ends
                    case Cancel() if message.number in self._tasks:
                        self._tasks[message.number].cancel()
                    case None:
                        # The parent is gone; the next run must not find two at work in its directory.
                        leave_at_once()
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_BEATS)
            self._channel.send(Beat())

    async def _do(self, job: Job) -> None:
        bucket, number = self._deliver.uploader.bucket, job.number
        bucket.has_stored = bucket.has_stored or job.has_stored
        result, failure = None, None
        try:
            result = await self._deliver(
                job.unit, job.csv, collected=job.collected, on_stage=partial(self._tell_stage, job)
            )
        except asyncio.CancelledError:
            pass  # by the parent, which is told that it is over
        except Exception as error:  # noqa: BLE001 (the parent's)
            failure = portable(error)
        finally:
            del self._tasks[number]
            seconds = dict(self._deliver.seconds)
            self._deliver.seconds.clear()
            self._channel.send(Ended(number=number, result=result, error=failure, seconds=seconds))

    def _tell_stage(self, job: Job, stage: str) -> None:
        if job.csv.size > MOST_BYTES:
            self._channel.send(Stage(job.number, stage))


def _log_to(channel: Channel, level: int) -> None:
    """Send all log lines of this process to its parent."""
    loop = asyncio.get_running_loop()

    class _ToParent(logging.handlers.QueueHandler):
        def enqueue(self, record: logging.LogRecord) -> None:
            loop.call_soon_threadsafe(channel.send, Logged(record.__dict__))

    logging.getLogger().addHandler(_ToParent(None))  # type: ignore[arg-type]  # it has no queue
    logging.getLogger(OWN_LOGGER).setLevel(level)
