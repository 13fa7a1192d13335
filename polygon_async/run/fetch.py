"""One unit of work in; its pages, or its whole CSV, out."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.part import Part, append_rows, finish, remove
from polygon_async.errors import TickerError
from polygon_async.model.layout import csv_name, part_name
from polygon_async.model.units import CsvFile, Progress
from polygon_async.polygon.walk import pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from polygon_async.bars.page import Page
    from polygon_async.bars.resume import ResumePoint
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Unit
    from polygon_async.polygon.client import Client
    from polygon_async.polygon.windows import Slots
    from polygon_async.system.threads import Threads

__all__ = ["fetch_csv"]


async def _note_nothing(_progress: Progress) -> None:
    pass


async def fetch_csv(
    unit: Unit,
    directory: Path,
    *,
    modified: float,
    client: Client,
    offload: Threads,
    counters: Counters,
    slots: Slots | None = None,
    priority: int = 0,
    resumed: ResumePoint | None = None,
    note: Callable[[Progress], Awaitable[None]] = _note_nothing,
) -> CsvFile | None:
    """Fetch all bars of `unit` into its CSV in `directory`; None where there are none.

    The file has its final name when it is whole, and is dated `modified` (s UTC). Memory holds the
    pages under way, whatever the range: one, or as many as `slots` has room for. A part stays only
    where it can be gone on with: `note` was told how far it has got, and the unit has not failed.

    Raises:
        TickerError: nothing of the unit is left in `directory`.
        RunError: its part may be.
    """
    symbol = unit.ticker.symbol
    path = directory / csv_name(symbol)
    place = Part(path=directory / part_name(unit)) if resumed is None else resumed.place
    progress = None if resumed is None else resumed.progress
    try:
        if progress is None or progress.resume_at is not None:
            chain = pages(
                unit,
                client=client,
                counters=counters,
                slots=slots,
                place=place,
                resume_at=None if progress is None else progress.resume_at,
                border=None if resumed is None else resumed.border,
                priority=priority,
            )
            async with contextlib.aclosing(chain):
                async for page in chain:
                    before = place.size
                    placed = page.place
                    place = await offload(append_rows, place, page.rows) if placed is None else placed
                    progress = _after(progress, page, place)
                    await note(progress)
                    counters.bars += page.bars
                    counters.csv_bytes += place.size - before
                    counters.in_flight[symbol] = f"{progress.bars:,} bars"
        if progress is None:
            return None
        sha256 = await offload(finish, place, path, modified=modified)
    except BaseException as error:
        if progress is None or isinstance(error, TickerError):
            await offload.surely(partial(remove, place.path))
        raise
    return CsvFile(
        path=path,
        bars=progress.bars,
        first=progress.first,
        last=progress.last,
        doubles=progress.doubles,
        size=place.size,
        sha256=sha256,
        days=progress.days,
    )


def _after(progress: Progress | None, page: Page, place: Part) -> Progress:
    """How far a part has got with one more page."""
    return Progress(
        size=place.size,
        crc=place.crc,
        bars=page.bars + (progress.bars if progress else 0),
        first=progress.first if progress else page.first or 0,
        last=page.border.last or 0,
        doubles=page.doubles + (progress.doubles if progress else 0),
        resume_at=page.resume_at,
        days=page.days if progress is None else None if progress.days is None else page.days | progress.days,
    )
