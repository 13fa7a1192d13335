"""A store's address in, another address out that passes bytes on until a test wants a fault between the two."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Fault", "proxy"]

_CHUNK = 2**14


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to the requests that a client sends."""

    where: bytes
    """A regular expression that the first line of such a request matches."""
    reset_after: int | None = None
    """Bytes from the client that are passed on before both sides are reset."""
    stall_after: int | None = None
    """Bytes from the client that are passed on before nothing moves any more."""
    slow: bool = False
    """Pass on a few bytes at a time, with the other tasks' turns in between."""
    lose_answer: bool = False
    """Pass on all of the request, wait for the store's answer, and reset instead of passing that on."""
    times: int = 1
    """So many requests meet it; later ones pass."""
    met: int = field(default=0, init=False)
    """How many have."""
    happened: asyncio.Event = field(default_factory=asyncio.Event, init=False)


class _Reset(Exception):
    """Both sides are to be reset."""


class _Connection:
    """One client's connection and its twin to the store."""

    def __init__(self, fault: Fault, back: asyncio.StreamWriter, forth: asyncio.StreamWriter) -> None:
        self._fault = fault
        self._back = back
        self._forth = forth
        self._struck = False
        self._passed = 0

    async def to_store(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the client sends, as far as the fault lets it."""
        fault = self._fault
        while chunk := await reader.read(_CHUNK):
            if not self._struck and re.match(fault.where, chunk) and fault.met < fault.times:
                fault.met += 1
                self._struck = True
                self._passed = 0
            limit = fault.reset_after if fault.reset_after is not None else fault.stall_after
            if self._struck and limit is not None and self._passed + len(chunk) > limit:
                await self._write(self._forth, chunk[: limit - self._passed])
                fault.happened.set()
                if fault.stall_after is not None:
                    await asyncio.Event().wait()
                raise _Reset
            self._passed += len(chunk)
            await self._write(self._forth, chunk)
        self._forth.close()

    async def to_client(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the store answers, but for an answer that is to be lost."""
        while chunk := await reader.read(_CHUNK):
            # An invitation to send the body is no answer yet.
            if self._struck and self._fault.lose_answer and b" 100 " not in chunk[:16]:
                self._fault.happened.set()
                raise _Reset
            await self._write(self._back, chunk)
        self._back.close()

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        step = 1024 if self._struck and self._fault.slow else len(chunk)
        for start in range(0, len(chunk), max(1, step)):
            writer.write(chunk[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def proxy(endpoint: str, fault: Fault) -> AsyncIterator[str]:
    """The address of a store with a fault in front of it."""
    parts = urlsplit(endpoint)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        # A server of asyncio complains of a connection whose task was cancelled.
        with contextlib.suppress(_Reset, OSError, asyncio.CancelledError):
            await _pass_on(fault, parts.hostname, parts.port, reader, back)
        serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving.copy():
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _pass_on(
    fault: Fault, host: str | None, port: int | None, reader: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    answers, forth = await asyncio.open_connection(host, port)
    connection = _Connection(fault, back, forth)
    both = [asyncio.ensure_future(connection.to_store(reader)), asyncio.ensure_future(connection.to_client(answers))]
    try:
        await asyncio.gather(*both)
    finally:
        for each in both:
            each.cancel()
        for writer in (back, forth):
            # Without a farewell: the other side finds its connection reset.
            writer.transport.abort()
        await asyncio.gather(*both, return_exceptions=True)
