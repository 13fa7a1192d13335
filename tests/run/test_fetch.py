"""Whatever source a unit's pages come from, they become one whole CSV, or nothing that looks like one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.page import BEGINNING, Border, Page, Start
from polygon_async.bars.part import Part, append_rows
from polygon_async.bars.resume import ResumePoint, resumption
from polygon_async.errors import RunError, TickerError
from polygon_async.model.counters import Counters
from polygon_async.model.layout import part_name
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Progress, Unit
from polygon_async.run.fetch import CsvFetcher
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

DAY = dt.date(2026, 3, 3)
UNIT = Unit(ticker=Ticker("AAPL", AssetType.STOCKS, "unknown", "USD"), start=DAY, end=DAY, adjusted=True)
OPENS = UNIT.bounds()[0]
MINUTE = 60_000
NAME = "AAPL_2026-03-03_2026-03-03_adjusted.csv"


def row(minute: int) -> bytes:
    return b"1,2,0.5,1.5,100,1.1,%d,7,\n" % (OPENS + minute * MINUTE)


@dataclass
class Archive:
    """A source that has its bars at hand, two a page; it neither knows the API nor writes the part file."""

    bars: int
    broken_at: int | None = None
    """The bar at which it fails, in this way."""
    error: type[Exception] = TickerError
    asked: list[Start] = field(default_factory=list)

    async def pages(
        self,
        unit: Unit,  # noqa: ARG002 (there is but one)
        start: Start = BEGINNING,
        *,
        priority: int = 0,  # noqa: ARG002 (it is never busy)
    ) -> AsyncGenerator[Page]:
        self.asked.append(start)
        first = 0 if start.moment is None else (start.moment - OPENS) // MINUTE
        for minute in range(first, self.bars, 2):
            minutes = range(minute, min(minute + 2, self.bars))
            if self.broken_at in minutes:
                raise self.error("the archive is torn")
            rows, last = b"".join(map(row, minutes)), OPENS + minutes[-1] * MINUTE
            yield Page(
                rows=rows,
                bars=len(minutes),
                first=OPENS + minute * MINUTE,
                border=Border(last=last, tail=rows),
                days=1,
                duplicates=0,
                next_url=None,
                request_id=None,
                resume_at=last + MINUTE if minutes[-1] + 1 < self.bars else None,
            )


async def fetched(archive: Archive, directory: Path, resumed: ResumePoint | None = None) -> list[Progress]:
    """What was noted while the unit was fetched."""
    noted: list[Progress] = []

    async def note(progress: Progress) -> None:
        noted.append(progress)

    async with Threads(2) as offload:
        fetch_csv = CsvFetcher(source=archive, directory=directory, modified=60.0, offload=offload, counters=Counters())
        csv = await fetch_csv(UNIT, resumed=resumed, note=note)
    assert (csv is None) == (not archive.bars)
    assert csv is None or csv.bars == archive.bars
    return noted


async def test_pages_of_any_source_become_a_csv(tmp_path: Path) -> None:
    noted = await fetched(Archive(5), tmp_path)
    assert (tmp_path / NAME).read_bytes() == CSV_HEADER + b"".join(map(row, range(5)))
    assert (tmp_path / NAME).stat().st_mtime == 60.0
    assert [progress.bars for progress in noted] == [2, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


async def test_a_source_without_bars_leaves_nothing(tmp_path: Path) -> None:
    assert await fetched(Archive(0), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_a_unit_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TickerError, match="torn"):
        await fetched(Archive(5, broken_at=3), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_run_that_ends_leaves_a_part_from_which_any_source_goes_on(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="torn"):
        await fetched(Archive(5, broken_at=3, error=RunError), tmp_path)
    part = append_rows(Part(path=tmp_path / "as it must be"), row(0) + row(1))
    progress = Progress(
        size=part.size, crc=part.crc, bars=2, first=OPENS, last=OPENS + MINUTE, duplicates=0,
        resume_at=OPENS + 2 * MINUTE, days=1,
    )  # fmt: skip
    part.path.unlink()
    found = resumption(UNIT, tmp_path, progress)
    assert isinstance(found, ResumePoint)
    archive = Archive(5)
    noted = await fetched(archive, tmp_path, found)
    assert archive.asked == [
        Start(
            moment=OPENS + 2 * MINUTE,
            border=Border(last=OPENS + MINUTE, tail=row(0) + row(1)),
            part=Part(path=tmp_path / part_name(UNIT), size=part.size, crc=part.crc),
        )
    ]
    assert [progress.bars for progress in noted] == [4, 5]
    assert (tmp_path / NAME).read_bytes() == CSV_HEADER + b"".join(map(row, range(5)))
