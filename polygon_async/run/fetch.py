"""A unit and a source of its pages in; its complete CSV out."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.page import Start
from polygon_async.bars.part import Part, append_rows, finish, remove
from polygon_async.errors import TickerError
from polygon_async.model.layout import part_name, unit_csv_name
from polygon_async.model.units import CsvFile, Progress
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from polygon_async.bars.page import Page, Source
    from polygon_async.bars.resume import ResumePoint
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Unit
    from polygon_async.system.threads import Threads

__all__ = ["CsvFetcher"]


async def _note_nothing(_progress: Progress) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFetcher:
    """Makes CSVs of a source's pages, for all units of a run."""

    source: Source
    directory: Path
    """Where CSVs and parts are."""
    modified: float
    """The date of every CSV, s UTC."""
    offload: Threads
    counters: Counters
    is_shared: bool = False
    """Whether another machine may have begun the same part by the time that this one stops: then parts stay here."""

    async def __call__(
        self,
        unit: Unit,
        *,
        priority: int = 0,
        resumed: ResumePoint | None = None,
        note: Callable[[Progress], Awaitable[None]] = _note_nothing,
    ) -> CsvFile | None:
        """Fetch all bars of `unit` into its own CSV; None if there are none.

        The file gets its name when it is complete. However long the range, memory holds the pages in
        flight only. A part is kept only if a later run can resume it: `note` was told how far it has got, and
        the unit has not failed. Where the directory is shared, whoever calls removes it.

        Args:
            unit: What to fetch.
            priority: Of the pages that wait to be read, those with the lowest go first.
            resumed: What an earlier run has left of the unit.
            note: Called after each page with how far the part has got.

        Raises:
            TickerError: nothing of the unit is left in the directory, but for a shared one.
            RunError: its part may be left.
        """
        symbol = unit.ticker.symbol
        path = self.directory / unit_csv_name(unit)
        begun = Part(path=self.directory / part_name(unit))
        start = Start(part=begun) if resumed is None else resumed.start
        part = start.part or begun
        progress = None if resumed is None else resumed.progress
        if progress is not None:
            if progress.odd:
                self.counters.odd[symbol].update(progress.odd)
            self.counters.notes[symbol].extend(progress.notes)
        try:
            if progress is None or progress.resume_at is not None:
                async with contextlib.aclosing(self.source.pages(unit, start, priority=priority)) as pages:
                    async for page in pages:
                        before, placed = part.size, page.part
                        part = await self._appended(part, page.rows) if placed is None else placed
                        progress = _after(progress, page, part, self.counters.notes.get(symbol, ()))
                        await note(progress)
                        if page.odd:
                            self.counters.odd[symbol].update(page.odd)
                        self.counters.bars += page.bars
                        self.counters.csv_bytes += part.size - before
                        self.counters.in_flight[symbol] = counted(progress.bars, "bar")
            if progress is None:
                return None
            complete = partial(finish, part, path, modified=self.modified)
            finished = await self.offload.watched(complete, subject=f"finishing {part.path}", size=part.size)
        except BaseException as error:
            if (progress is None or isinstance(error, TickerError)) and not self.is_shared:
                await self.offload.surely(partial(remove, part.path), subject=f"removing {part.path}")
            raise
        return CsvFile(
            path=path,
            bars=progress.bars,
            first=progress.first,
            last=progress.last,
            duplicates=progress.duplicates,
            size=part.size,
            sha256=finished.sha256,
            days=progress.days,
            modified=finished.modified,
        )

    async def _appended(self, part: Part, rows: bytes) -> Part:
        append = partial(append_rows, part, rows)
        return await self.offload.watched(append, subject=f"writing {part.path}", size=len(rows))


def _after(progress: Progress | None, page: Page, part: Part, notes: Iterable[str]) -> Progress:
    """How far a part has got with one more page; `notes` tell what is in doubt by now."""
    return Progress(
        size=part.size,
        crc=part.crc,
        bars=page.bars + (progress.bars if progress else 0),
        first=progress.first if progress else page.first or 0,
        last=page.border.last or 0,
        duplicates=page.duplicates + (progress.duplicates if progress else 0),
        resume_at=page.resume_at,
        is_promised=page.is_promised,
        odd=Counter(progress.odd if progress else {}) + Counter(page.odd),
        notes=tuple(notes),
        days=page.days if progress is None else None if progress.days is None else page.days | progress.days,
    )
