"""The chunks of an .lzo in; the blocks of what it holds handed on, out: lzop runs beside, and little is in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from polygon_async.errors import CompressionFailed, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["decompress"]

_BLOCK = 2**20
_LONGEST_COMPLAINT = 4096


async def decompress(lzop: str, chunks: AsyncIterator[bytes], take: Callable[[bytes], Awaitable[object]]) -> None:
    """Hand what the chunks hold on to `take`, in blocks of at most 1 MiB; each is awaited before the next.

    Raises:
        CompressionFailed: lzop cannot decompress it.
        Whatever the chunks or `take` raise.
    """
    # The variable LZOP would add options of the user's own.
    environment = {name: value for name, value in os.environ.items() if name != "LZOP"}
    try:
        process = await asyncio.create_subprocess_exec(
            lzop,
            "-dc",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=_BLOCK,
            env=environment,
            # A Ctrl-C in the terminal is for this program to answer.
            process_group=0,
        )
    except OSError as error:
        raise CompressionFailed(f"lzop cannot be started ({one_line(error.strerror or error)})") from error
    said = b""
    feeding = asyncio.create_task(_feed(process, chunks))
    complaining = asyncio.create_task(_complaint(process))
    try:
        assert process.stdout is not None  # noqa: S101 (for the type checker; it is a pipe)
        while block := await process.stdout.read(_BLOCK):
            await take(block)
        said = await complaining
        await process.wait()
    finally:
        await _end(process, feeding, complaining)
    if feeding.done() and not feeding.cancelled():
        feeding.result()
    if process.returncode:
        raise CompressionFailed(one_line(said.decode(errors="replace")) or f"lzop ended with {process.returncode}")


async def _feed(process: asyncio.subprocess.Process, chunks: AsyncIterator[bytes]) -> None:
    """All of the chunks; where they break off, lzop is told of an end, and what broke them off is in this task."""
    assert process.stdin is not None  # noqa: S101 (for the type checker; it is a pipe)
    try:
        # An lzop that ends early has said why.
        with contextlib.suppress(ConnectionError):
            async for chunk in chunks:
                process.stdin.write(chunk)
                await process.stdin.drain()
    finally:
        process.stdin.close()


async def _complaint(process: asyncio.subprocess.Process) -> bytes:
    """The beginning of what lzop says; all is read, so that it never waits to be heard."""
    assert process.stderr is not None  # noqa: S101 (for the type checker; it is a pipe)
    said = b""
    while words := await process.stderr.read(_LONGEST_COMPLAINT):
        said = (said + words)[:_LONGEST_COMPLAINT]
    return said


async def _end(process: asyncio.subprocess.Process, *tasks: asyncio.Task[Any]) -> None:
    """It ends with its owner, however that leaves; what is called lzop may be a script that waits for the real one."""
    for task in tasks:
        task.cancel()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(_ended(process, tasks))


async def _ended(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[Any]]) -> None:
    """asyncio sees a process end only after its streams have, and a full one stands still until it is read."""
    await asyncio.gather(*tasks, return_exceptions=True)
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_BLOCK):
            pass
    await process.wait()
