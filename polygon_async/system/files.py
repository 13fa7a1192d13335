"""The environment in; the user's directory for what this program can learn anew, out."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.errors import DiskUnusable, PolygonAsyncError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["cache_directory", "disk_errors", "replace_file"]

_ABOUT_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})


def cache_directory(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """Where things are kept from run to run; None where the user has no home."""
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


def replace_file(path: Path, content: str | bytes, *, mode: int = 0o666, shared: bool = False) -> None:
    """Write a file whole: under another name first, so that nobody ever reads half of it.

    Args:
        path: The file; of a link, the file behind it.
        content: All of it; text is written as UTF-8.
        mode: Who may read and write it, as far as the umask allows.
        shared: Whether another process may write the same file at this moment.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    target = path.resolve()
    # One name for all attempts: what a kill leaves there goes with the next one.
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new" if shared else f".{target.name}.new")
    new.unlink(missing_ok=True)
    try:
        # A link that somebody puts there meanwhile is not followed.
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(number, "wb") as file:  # noqa: PTH123 (it is open already)
            file.write(content.encode() if isinstance(content, str) else content)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
