"""A count that goes on in; what a person sees of it on standard error out: a line that changes, or one now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["counted"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30
_SECONDS_BETWEEN_CHANGES = 0.25


@contextlib.asynccontextmanager
async def counted(words: Callable[[], str]) -> AsyncIterator[None]:
    """Show what `words` say, until the block ends; on a terminal nothing of it stays."""
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
    """In the place of what stood in this line; a log line that comes meanwhile begins there, too, and is longer."""
    sys.stderr.write(f"\x1b[2K{line}\r")
    sys.stderr.flush()


async def _log(words: Callable[[], str]) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_LINES)
        log.info("%s", words())
