"""A ticker's local history and a unit's CSV in; the history with the unit's bars, or the unit's rows out of it, out.

Blocking: it runs in the executor. Rows are in the order of their timestamps, so that a place in the file is found by
bisection, whatever its size. A history is never changed in place: a new file is written, and takes its name when it
is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from isal import isal_zlib

from polygon_async.bars.columns import COLUMNS, CSV_HEADER, TIMESTAMP
from polygon_async.errors import TickerError
from polygon_async.system.files import date_file, disk_errors, open_regular, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader, BufferedWriter
    from pathlib import Path

    from polygon_async.model.units import CsvFile, Unit

__all__ = [
    "Ends",
    "Known",
    "Look",
    "bars_in",
    "crc_of",
    "ends_of",
    "extended",
    "extract",
    "holds",
    "is_without_rows",
    "look",
    "recognised",
]

_CHUNK = 2**20
_LONGEST_ROW = 10_000
"""Bytes; a longer line is not a row of bars."""


@dataclass(frozen=True, slots=True)
class Look:
    """What shows whether a file was changed, without reading it."""

    size: int
    modified: int
    """ns since 1970."""


class Known(Protocol):
    """What a file is recognised by."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def modified(self) -> int | None:
        """Its date, ns since 1970; None if it was not recorded."""

    @property
    def crc(self) -> int | None:
        """CRC-32 of the whole file; None if `sha256` is known."""

    @property
    def sha256(self) -> str | None:
        """Hex digest of the whole file; None if `crc` is known."""


_Known = TypeVar("_Known", bound=Known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What a CSV of bars contains, by its own rows."""

    bars: int
    first: int
    """Start of the first bar, ms UTC."""
    last: int
    """Start of the last bar, ms UTC."""
    crc: int
    """CRC-32 of the whole file."""
    is_whole: bool = True
    """False if its end is not a row of bars: somebody has cut it off."""


def look(path: Path | str) -> Look | None:
    """The file's size and date; None if there is no file of this name."""
    try:
        found = os.stat(path)  # noqa: PTH116 (many files are looked at, and paths are slow to make)
    except OSError:
        return None
    return Look(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def recognised(path: Path | str, seen: Look, known: Iterable[_Known], *, read: bool = False) -> _Known | None:
    """Which of the known contents a file has; None for another one, or if it cannot be read.

    Args:
        path: The file.
        seen: How it looks.
        known: The contents that are known.
        read: Read it even if its size and date are known.
    """
    alike = [one for one in known if one.size == seen.size]
    if not read:
        for one in alike:
            if one.modified == seen.modified:
                return one
    return next((one for one in alike if _has_content(path, one)), None)


def _has_content(path: Path | str, known: Known) -> bool:
    if known.crc is not None:
        return crc_of(path) == known.crc
    return known.sha256 is not None and sha256_of(path) == known.sha256


def crc_of(path: Path | str) -> int | None:
    """CRC-32 of a whole file; None if it cannot be read."""
    crc = 0
    try:
        with _opened(path) as file:
            for chunk in _chunks(file, None):
                crc = isal_zlib.crc32(chunk, crc)
    except OSError:
        return None
    return crc


def sha256_of(path: Path | str) -> str | None:
    """Hex digest of a whole file; None if it cannot be read."""
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def ends_of(path: Path) -> Ends | None:
    """What the file contains, by its own rows; None if it is not a CSV of bars."""
    scan = _Scan()
    try:
        with _opened(path) as file:
            # Another file is not read to its end.
            if file.read(len(CSV_HEADER)) != CSV_HEADER:
                return None
            scan.add(CSV_HEADER)
            for chunk in _chunks(file, None):
                scan.add(chunk)
    except OSError:
        return None
    return scan.ends()


def is_without_rows(path: Path) -> bool:
    """Whether a file can be read, and has no line beyond a header: whatever it holds is not bars."""
    lines = 0
    try:
        with _opened(path) as file:
            for chunk in _chunks(file, None):
                lines += chunk.count(b"\n")
                if lines > 1:
                    return False
    except OSError:
        return False
    return True


def extended(history: Path, csv: Path, target: Path, *, modified: float) -> Ends:
    """Write the history with a unit's bars as another file; both stay as they are.

    Bars of the history stay; of a minute that both have, the unit's bar counts: it was collected later.

    Args:
        history: The ticker's file; a whole CSV of bars.
        csv: The unit's CSV.
        target: The new file; one of this name goes.
        modified: The date that it gets, s UTC.

    Returns:
        What the new file holds.

    Raises:
        DiskUnusable: the disk is full, or cannot be written.
        TickerError: one of the two is not a CSV of bars any more.
    """
    scan = _Scan()
    with disk_errors(history, name=TickerError), _still_there(history) as old, _opened(csv) as new:
        start = _stamp_after(new, len(CSV_HEADER))
        if start is None:
            raise TickerError(f"{csv} is not a CSV of bars")
        cut = _offset(old, start)
        with _new_file(target, modified) as out:
            for data in _joined(old, new, cut):
                out.write(data)
                scan.add(data)
            found = scan.ends()
            if found is None or not found.is_whole:
                raise _unusable(history)
    return found


def holds(unit: Unit, csv: CsvFile) -> bool:
    """Whether the file at the CSV's path has the CSV's rows, and no others in the unit's range."""
    first, last = unit.bounds()
    digest = hashlib.sha256(CSV_HEADER)
    try:
        with _opened(csv.path) as file:
            for chunk in _chunks(file, _to_rows(file, first, last)):
                digest.update(chunk)
    except (OSError, TickerError):
        return False
    return digest.hexdigest() == csv.sha256


def bars_in(unit: Unit, path: Path) -> int:
    """How many bars of the unit's range a CSV has.

    Raises:
        TickerError: it is not a CSV of bars.
    """
    first, last = unit.bounds()
    with disk_errors(path), _opened(path) as file:
        return sum(chunk.count(b"\n") for chunk in _chunks(file, _to_rows(file, first, last)))


def extract(history: Path, target: Path, *, first: int, last: int, modified: float) -> bool:
    """Write the history's rows from `first` to `last` (ms UTC, both included) as a CSV of their own.

    Returns:
        Whether there are any; else nothing is written.

    Raises:
        DiskUnusable: the disk is full, or cannot be written.
        TickerError: a file of this name cannot be made.
    """
    with disk_errors(target, name=TickerError), _opened(history) as file:
        size = _to_rows(file, first, last)
        if not size:
            return False
        with _new_file(target, modified) as new:
            new.write(CSV_HEADER)
            for chunk in _chunks(file, size):
                new.write(chunk)
    return True


class _Scan:
    """What a file contains, as far as it has been read or written; only its ends are kept."""

    def __init__(self) -> None:
        self._crc = 0
        self._lines = 0
        self._head = b""
        self._tail = b""

    def add(self, data: bytes) -> None:
        """The next bytes: some whole or broken rows."""
        self._crc = isal_zlib.crc32(data, self._crc)
        self._lines += data.count(b"\n")
        self._head += data[: len(CSV_HEADER) + _LONGEST_ROW - len(self._head)]
        self._tail = (self._tail + data)[-2 * _LONGEST_ROW :]

    def ends(self) -> Ends | None:
        """What it contains; None for no CSV of bars."""
        rows = self._head.splitlines(keepends=True)
        first = _stamp(rows[1]) if rows[:1] == [CSV_HEADER] and len(rows) > 1 else None
        stamps = [_stamp(row) for row in self._tail.splitlines(keepends=True)[-2:]]
        last = next((stamp for stamp in reversed(stamps) if stamp is not None), None)
        if first is None or last is None or last < first:
            return None
        return Ends(bars=self._lines - 1, first=first, last=last, crc=self._crc, is_whole=stamps[-1] is not None)


def _opened(path: Path | str) -> BufferedReader:
    """A regular file to read: a pipe of this name would keep its reader waiting for ever."""
    return open(path, "rb", opener=partial(open_regular, follow=True))


def _still_there(history: Path) -> BufferedReader:
    try:
        return _opened(history)
    except FileNotFoundError:
        raise TickerError(f"{history} was moved away during the run; put it back, or start again") from None


def _unusable(path: Path | str) -> TickerError:
    return TickerError(f"{path} is not a CSV of bars; move it away, or replace it with --force")


@contextlib.contextmanager
def _new_file(path: Path, modified: float) -> Iterator[BufferedWriter]:
    """A file that is complete and on disk if the context ends well; else it is removed."""
    path.unlink(missing_ok=True)
    try:
        # A link that somebody puts there meanwhile is not followed.
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(number, "wb") as file:  # noqa: PTH123 (it is open already)
            yield file
            file.flush()
            sync_file(file.fileno())
        date_file(path, modified)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _to_rows(file: BufferedReader, first: int, last: int) -> int:
    """Go to the rows of the bars from `first` to `last`, both included; returns how many bytes they are."""
    begin, end = _offset(file, first), _offset(file, last + 1)
    file.seek(begin)
    return max(0, end - begin)


def _offset(file: BufferedReader, stamp: int) -> int:
    """The place of the first row whose bar does not start before `stamp`; the file's end if there is none."""
    low, high = len(CSV_HEADER), file.seek(0, os.SEEK_END)
    # Rows that begin before `low` start before the stamp; the row that begins at `high`, or after it, does not.
    while low < high:
        middle = (low + high) // 2
        begin = _row_at(file, middle, low)
        found = _stamp_after(file, begin)
        if found is None:
            raise _unusable(file.name)
        if found < stamp:
            low = file.tell()
        else:
            high = begin
    return low


def _row_at(file: BufferedReader, offset: int, least: int) -> int:
    """Where the row begins that the byte at `offset` is part of; `least` is where a row begins, at or before it."""
    start = max(least, offset - _LONGEST_ROW)
    file.seek(start)
    return start + file.read(offset - start).rfind(b"\n") + 1


def _stamp_after(file: BufferedReader, offset: int) -> int | None:
    """The timestamp of the row that begins at `offset`; the file is then at its end."""
    file.seek(offset)
    return _stamp(file.readline(_LONGEST_ROW))


def _stamp(row: bytes) -> int | None:
    """The timestamp of a complete row; None for what is not a row of bars."""
    cells = row.split(b",")
    if len(cells) != len(COLUMNS) or not row.endswith(b"\n") or not cells[TIMESTAMP].isdigit():
        return None
    return int(cells[TIMESTAMP])


def _is_at_end(file: BufferedReader) -> bool:
    here = file.tell()
    at_end = not file.read(1)
    file.seek(here)
    return at_end


def _chunks(file: BufferedReader, size: int | None) -> Iterator[bytes]:
    """The next `size` bytes of a file, or all that is left of it."""
    while chunk := file.read(_CHUNK if size is None else min(_CHUNK, size)):
        yield chunk
        size = None if size is None else size - len(chunk)


def _rows(file: BufferedReader) -> Iterator[tuple[int, bytes]]:
    while row := file.readline(_LONGEST_ROW):
        if (stamp := _stamp(row)) is None:
            raise _unusable(file.name)
        yield stamp, row


def _joined(old: BufferedReader, new: BufferedReader, cut: int) -> Iterator[bytes]:
    """A file of both files' rows; those of `old` before `cut` precede all of `new`'s."""
    old.seek(0)
    yield from _chunks(old, cut)
    new.seek(len(CSV_HEADER))
    if not _is_at_end(old):
        yield from _merged(_rows(old), _rows(new))
    yield from _chunks(new, None)


def _merged(old: Iterator[tuple[int, bytes]], new: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """Rows of both in order; of two of the same minute, the new one."""
    kept, fresh = next(old, None), next(new, None)
    while kept is not None and fresh is not None:
        if kept[0] < fresh[0]:
            yield kept[1]
            kept = next(old, None)
        else:
            yield fresh[1]
            if kept[0] == fresh[0]:
                kept = next(old, None)
            fresh = next(new, None)
    for rest, iterator in ((kept, old), (fresh, new)):
        if rest is not None:
            yield rest[1]
            yield from (row for _, row in iterator)
