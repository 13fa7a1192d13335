"""Pages' rows in, a whole CSV under its final name out; or nothing under it. Blocking: it runs in the executor."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

from polygon_async.errors import DiskUnusable, PolygonAsyncError, TickerError, one_line
from polygon_async.layout import CSV_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PartFile", "disk_errors"]


class PartFile:
    """A CSV that grows page by page under a part's name and is renamed when it is whole."""

    def __init__(self, part: Path, whole: Path) -> None:
        self._part = part
        self._whole = whole
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes written."""

    def append(self, rows: bytes) -> None:
        """Write the rows of one page; the first ones come after the header."""
        with disk_errors(self._part, name=TickerError):
            if self._file is None:
                self._file = self._part.open("wb", buffering=0)
                self._write(CSV_HEADER)
            self._write(rows)

    def finish(self, modified: float) -> str:
        """Make it the whole file, dated `modified` (s UTC); returns its sha256 (hex).

        It is on the disk before it has its final name: a file under that name is always whole.
        """
        if self._file is None:
            raise ValueError("a file without rows has nothing to finish")
        with disk_errors(self._whole, name=TickerError):
            os.fsync(self._file.fileno())
            self._file.close()
            # lzop stores the time of its input: with a fixed one, the same bars give the same object.
            os.utime(self._part, (modified, modified))
            self._part.replace(self._whole)
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Take the part away; after `finish` there is none."""
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101 (for the type checker; append opens it)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._digest.update(data)
        self.size += len(data)


_ABOUT_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})


@contextlib.contextmanager
def disk_errors(path: Path, *, name: type[PolygonAsyncError] = DiskUnusable) -> Iterator[None]:
    """Turn what the disk says about `path` into the family: it stops the run.

    `name` is what trouble with this very name becomes: one that is too long, or a directory's.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskUnusable(f"the disk is full ({path}); free some space and start again") from error
        kind = name if error.errno in _ABOUT_THE_NAME else DiskUnusable
        raise kind(f"{path} cannot be written ({one_line(error.strerror or error)})") from error
