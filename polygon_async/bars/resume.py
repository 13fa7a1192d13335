"""What is left of a unit's files, and agrees with the ledger byte for byte. Blocking: it runs in threads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.history import extract, holds
from polygon_async.bars.page import LONGEST_TAIL, Start, border_after
from polygon_async.bars.part import Part, digests
from polygon_async.model.layout import csv_name, part_name, unit_csv_name
from polygon_async.model.units import CsvFile
from polygon_async.system.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    from polygon_async.bars.part import Digests
    from polygon_async.model.units import Progress, Unit

__all__ = ["ResumePoint", "find_csv", "recover_csv", "remove_csv", "resumption", "whole_csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """A part file that has what the ledger says, and what comes next."""

    progress: Progress
    start: Start
    """Where its next pages start."""


def whole_csv(known: CsvFile) -> bool:
    """Whether the CSV that the ledger knows is still there; other ranges share its name."""
    found = _digests(known.path, known.size)
    return found is not None and found.sha256 == known.sha256


def remove_csv(known: CsvFile) -> None:
    """Remove the CSV that the ledger knows, but not another one of its name."""
    if whole_csv(known):
        known.path.unlink(missing_ok=True)


def find_csv(unit: Unit, known: CsvFile) -> CsvFile | None:
    """The unit's CSV that the ledger knows, under the unit's own name or the ticker's; None if neither is it."""
    own = replace(known, path=known.path.with_name(unit_csv_name(unit)))
    return next((csv for csv in (own, known) if whole_csv(csv)), None)


def recover_csv(unit: Unit, known: CsvFile, *, modified: float) -> CsvFile | None:
    """As `find_csv`; if neither is it, from the unit's rows in the ticker's local history, dated `modified` (s UTC).

    Raises:
        DiskUnusable: the disk is full, or cannot be written.
    """
    found = find_csv(unit, known)
    if found is not None or not holds(unit, known):
        return found
    own = known.path.with_name(unit_csv_name(unit))
    first, last = unit.bounds()
    extract(known.path, own, first=first, last=last, modified=modified)
    return replace(known, path=own)


def resumption(unit: Unit, directory: Path, progress: Progress) -> ResumePoint | CsvFile | None:
    """What is left of a unit that was being fetched: its part, or its CSV if only the ledger had not recorded it yet.

    None if the files do not agree with the ledger.
    """
    part = directory / part_name(unit)
    found = _digests(part, progress.size, longer=True)
    if found is not None and found.crc == progress.crc:
        begun = Part(path=part, size=progress.size, crc=progress.crc)
        border = border_after(progress.last, _end(begun))
        start = Start(moment=progress.resume_at, border=border, part=begun, is_promised=progress.is_promised)
        return ResumePoint(progress=progress, start=start)
    if found is not None or progress.resume_at is not None:
        return None
    for whole in (directory / unit_csv_name(unit), directory / csv_name(unit.ticker.symbol)):
        found = _digests(whole, progress.size)
        if found is not None and found.crc == progress.crc:
            facts = {name: getattr(progress, name) for name in ("bars", "first", "last", "duplicates", "size", "days")}
            return CsvFile(path=whole, sha256=found.sha256, **facts)
    return None


def _digests(path: Path, size: int, *, longer: bool = False) -> Digests | None:
    """The digests of a file's first `size` bytes; None if its size differs, or it cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb", opener=partial(open_regular, follow=True)) as file:
        found = digests(file, size)
        return found if longer or not file.read(1) else None
    return None


def _end(part: Part) -> bytes:
    """The last rows of a part, as many as are needed to recognise duplicates."""
    start = max(len(CSV_HEADER), part.size - LONGEST_TAIL)
    with part.path.open("rb") as file:
        file.seek(start)
        return file.read(part.size - start)
