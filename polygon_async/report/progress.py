"""How far a command has got, in words, in; a changing line on a terminal, or a log line now and then, out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["showing"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30
_SECONDS_BETWEEN_CHANGES = 0.25


@contextlib.asynccontextmanager
async def showing(words: Callable[[], str]) -> AsyncIterator[None]:
    """Show what `words` returns until the block ends; on a terminal nothing of it remains."""
    on_terminal = sys.stderr.isatty()
    task = asyncio.create_task(_change(words) if on_terminal else _log(words))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if on_terminal:
            _write("")


async def _change(words: Callable[[], str]) -> None:
    while True:
        _write(words())
        await asyncio.sleep(_SECONDS_BETWEEN_CHANGES)


def _write(line: str) -> None:
    """Overwrite the current line; a log line that comes meanwhile starts there, too, and is longer."""
    sys.stderr.write(f"\x1b[2K{line}\r")
    sys.stderr.flush()


async def _log(words: Callable[[], str]) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_LINES)
        log.info("%s", words())
