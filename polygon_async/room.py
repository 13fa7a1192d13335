"""An output directory in; whether there is room on its disk for what is under way, out."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from polygon_async.bars.part import disk_errors
from polygon_async.errors import DiskUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from polygon_async.system.threads import Offload

__all__ = ["check_room", "least_room", "watch_room"]

_FOR_THE_REST = 32 * 2**20
_FOR_A_TICKER = 8 * 2**20
"""Bytes: a page's rows, and the compressed file of a usual ticker."""
_AT_MOST = 2**30
_SECONDS_BETWEEN_LOOKS = 1.0


def least_room(concurrency: int) -> int:
    """Bytes that must be free: enough for what so many tickers write between two looks, and for the ledger."""
    return min(_FOR_THE_REST + concurrency * _FOR_A_TICKER, _AT_MOST)


def check_room(directory: Path, least: int) -> None:
    """Look once. Blocking.

    Raises:
        DiskUnusable: less than `least` bytes are free.
    """
    with disk_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < least:
        raise DiskUnusable(
            f"the disk of {directory} is nearly full ({free / 1e6:,.0f} MB are free, {least / 1e6:,.0f} MB are needed);"
            " free some space and start again"
        )


async def watch_room(directory: Path, least: int, *, offload: Offload) -> None:
    """Look every second, for ever.

    Raises:
        DiskUnusable: less than `least` bytes are free; what is under way still fits.
    """
    while True:
        await offload(check_room, directory, least)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
