"""What the ledger says of a unit in; what of its files can still be used, out. Blocking: it runs in the executor.

The ledger is believed where the files agree with it, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isal import isal_zlib

from polygon_async.bars import LONGEST_TAIL, border_after
from polygon_async.csvfile import Place
from polygon_async.layout import CSV_HEADER, csv_name, part_name
from polygon_async.models import CsvFile

if TYPE_CHECKING:
    from pathlib import Path

    from polygon_async.bars import Border
    from polygon_async.models import Progress, Unit

__all__ = ["Resumption", "remove_csv", "resumption", "whole_csv"]

_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A part file that holds what the ledger says, and what comes next."""

    progress: Progress
    place: Place
    border: Border


def whole_csv(known: CsvFile) -> bool:
    """Whether the CSV that the ledger knows is still there: its name is shared by other ranges."""
    found = _digests(known.path, known.size)
    return found is not None and found[1] == known.sha256


def remove_csv(known: CsvFile) -> None:
    """Take the CSV away that the ledger knows; not another one of its name."""
    if whole_csv(known):
        known.path.unlink(missing_ok=True)


def resumption(unit: Unit, directory: Path, progress: Progress) -> Resumption | CsvFile | None:
    """What is left of a unit that was being fetched: its part, or its CSV when only the ledger had not heard of it.

    None where the files are not what the ledger says.
    """
    part, whole = directory / part_name(unit), directory / csv_name(unit.ticker.symbol)
    found = _digests(part, progress.size, longer=True)
    if found is not None and found[0] == progress.crc:
        place = Place(path=part, size=progress.size, crc=progress.crc)
        return Resumption(progress=progress, place=place, border=border_after(progress.last, _end(place)))
    if found is None and progress.resume_at is None:
        found = _digests(whole, progress.size)
        if found is not None and found[0] == progress.crc:
            facts = {name: getattr(progress, name) for name in ("bars", "first", "last", "doubles", "size")}
            return CsvFile(path=whole, sha256=found[1], **facts)
    return None


def _digests(path: Path, size: int, *, longer: bool = False) -> tuple[int, str] | None:
    """CRC-32 and sha256 of a file's first `size` bytes; None where it has another size, or is not to be had."""
    crc, sha256, left = 0, hashlib.sha256(), size
    with contextlib.suppress(OSError), path.open("rb") as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            crc, left = isal_zlib.crc32(chunk, crc), left - len(chunk)
            sha256.update(chunk)
        if not left and (longer or not file.read(1)):
            return crc, sha256.hexdigest()
    return None


def _end(place: Place) -> bytes:
    """The last rows of a part, as many as tell doubles."""
    start = max(len(CSV_HEADER), place.size - LONGEST_TAIL)
    with place.path.open("rb") as file:
        file.seek(start)
        return file.read(place.size - start)
