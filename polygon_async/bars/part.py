"""Pages' rows in, a complete CSV under its final name out, or nothing under that name. Blocking: it runs in threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isal import isal_zlib

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.errors import DiskUnusable, TickerError
from polygon_async.system.files import date_file, disk_errors, open_regular, sync_file

if TYPE_CHECKING:
    from io import BufferedIOBase
    from pathlib import Path

__all__ = ["Digests", "Finished", "Part", "append_rows", "digests", "finish", "remove"]

_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How far a part file has got; the next rows go there.

    A plain value, so that the process that parses a page can write its rows itself.
    """

    path: Path
    size: int = 0
    """Bytes that are valid; anything beyond them was never confirmed and is overwritten."""
    crc: int = 0
    """CRC-32 of these bytes."""


class Digests(NamedTuple):
    """The digests of a file's content."""

    crc: int
    """CRC-32."""
    sha256: str
    """In hex."""


class Finished(NamedTuple):
    """A complete file."""

    sha256: str
    """In hex."""
    modified: int
    """Its date, ns since 1970, as the file system keeps it."""


def append_rows(part: Part, rows: bytes) -> Part:
    """Write the rows of one page; the first rows create the file, after its header.

    Doing it twice with the same part has the same effect as doing it once.

    Raises:
        DiskUnusable: the disk is full, or cannot be written.
        TickerError: a file of this name cannot be made.
    """
    if not rows:
        return part
    data = rows if part.size else CSV_HEADER + rows
    with disk_errors(part.path, name=TickerError):
        if not part.size:
            part.path.unlink(missing_ok=True)  # whatever is there: writing through a link would reach another file
        number = open_regular(part.path, os.O_WRONLY | (0 if part.size else os.O_CREAT | os.O_EXCL))
        try:
            view, offset = memoryview(data), part.size
            while view:
                written = os.pwrite(number, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(number)
    return Part(path=part.path, size=part.size + len(data), crc=isal_zlib.crc32(data, part.crc))


def finish(part: Part, whole: Path, *, modified: float) -> Finished:
    """Make the part the final file, dated `modified` (s UTC).

    It is read once more and synced to disk before it gets its final name: a file under that name is always complete.

    Raises:
        DiskUnusable: the disk is full, cannot be written, or lost what was written.
        TickerError: a file of this name cannot be made.
    """
    with disk_errors(whole, name=TickerError):
        with open(part.path, "rb+", opener=open_regular) as file:
            file.truncate(part.size)
            found = digests(file, part.size)
            if found is None or found.crc != part.crc:
                raise DiskUnusable(
                    f"{part.path} does not contain what was written to it; check the disk, then start again"
                )
            # Where a file system refuses this or the next, whoever claimed the directory has said so.
            sync_file(file.fileno())
        # lzop stores its input's time; with a fixed time, the same bars give the same object.
        date_file(part.path, modified)
        dated = part.path.stat().st_mtime_ns
        part.path.replace(whole)
    return Finished(found.sha256, dated)


def digests(file: BufferedIOBase, size: int) -> Digests | None:
    """The digests of the next `size` bytes of a file; None if it has fewer."""
    crc, sha256, left = 0, hashlib.sha256(), size
    # One buffer for all chunks: a new one for each costs more than hashing it.
    memory = memoryview(bytearray(min(_CHUNK, size)))
    while left and (count := file.readinto(memory[:left])):
        chunk = memory[:count]
        crc, left = isal_zlib.crc32(chunk, crc), left - count
        sha256.update(chunk)
    return None if left else Digests(crc, sha256.hexdigest())


def remove(part: Path) -> None:
    """Remove a part, if it is there."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
