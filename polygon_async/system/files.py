"""Files: the cache directory, errors of the disk, and replacing a file as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.errors import DiskUnusable, PolygonAsyncError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "cache_directory",
    "check_replaceable",
    "date_file",
    "disk_errors",
    "is_as_written",
    "open_regular",
    "replace_file",
    "sync_file",
]

_REFUSED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES})
"""How a file system says that it never does this; EIO and the like say that it could not."""
_ABOUT_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENXIO})


def cache_directory(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """The user's directory for what this program could find out again; None if the user has no home."""
    told = Path(environment.get("XDG_CACHE_HOME", ""))
    if told.is_absolute():
        return told / "polygon_async"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    cache = home / "Library" / "Caches" if platform == "darwin" else home / ".cache"
    return cache / "polygon_async"


@contextlib.contextmanager
def disk_errors(path: Path, *, name: type[PolygonAsyncError] = DiskUnusable) -> Iterator[None]:
    """Turn an OSError about `path` into an error that stops the run.

    `name` is the error for trouble with this very name: too long, or that of a directory, a link or a pipe.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskUnusable(f"the disk is full ({path}); free some space and start again") from error
        kind = name if error.errno in _ABOUT_THE_NAME else DiskUnusable
        raise kind(f"{path} cannot be written ({one_line(error.strerror or error)})") from error


def sync_file(number: int) -> bool:
    """Write an open file through to the disk; returns False if its file system never does that.

    Raises:
        OSError: it could not be written.
    """
    return _is_done(lambda: os.fsync(number))


def date_file(path: Path, modified: float) -> bool:
    """Set a file's time (s UTC); returns False if its file system never does that.

    Raises:
        OSError: anything else went wrong.
    """
    return _is_done(lambda: os.utime(path, (modified, modified)))


def _is_done(act: Callable[[], None]) -> bool:
    try:
        act()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def open_regular(path: str | Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file, and nothing else: a pipe would keep its reader or writer waiting for ever.

    Args:
        path: The file.
        flags: As for `os.open`.
        follow: Whether to follow a link, which may lead to somebody else's file.

    Returns:
        The descriptor, which the caller closes.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    number = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), 0o666)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise OSError(errno.ENXIO, "not a regular file", str(path))


def is_as_written(path: Path, *, size: int, modified: int | None) -> bool:
    """Whether a file is there, with this size in bytes and, if that is known, this date (ns since 1970). Blocking."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and modified in {None, found.st_mtime_ns}


def check_replaceable(path: Path) -> None:
    """Check that nothing is there but a regular file: a device or a pipe would be lost if it were replaced.

    Args:
        path: The file; a link is followed.

    Raises:
        OSError: something else is there, or nothing of this name can be.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        number, said = (errno.EISDIR, "Is a directory") if stat.S_ISDIR(mode) else (errno.ENXIO, "not a regular file")
        raise OSError(number, said, str(path))


def replace_file(path: Path, content: str | bytes, *, mode: int = 0o666, shared: bool = False) -> None:
    """Replace a file as a whole, by way of another name, so that nobody ever reads half of it.

    Args:
        path: The file; a link is followed.
        content: The whole content; text is written as UTF-8.
        mode: The permissions, as far as the umask allows.
        shared: Whether another process may be writing the same file.

    Raises:
        OSError: it cannot be written, or what is there is no regular file; the old content stays.
    """
    check_replaceable(path)
    target = path.resolve()
    # One name for all attempts, so that the next one removes what a kill has left.
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new" if shared else f".{target.name}.new")
    new.unlink(missing_ok=True)
    try:
        # A link that somebody planted meanwhile is not followed.
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(number, "wb") as file:  # noqa: PTH123 (it is open already)
            file.write(content.encode() if isinstance(content, str) else content)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
