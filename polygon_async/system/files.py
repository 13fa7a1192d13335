"""The environment in; the user's directory for what this program can learn anew, out."""

from __future__ import annotations

import contextlib
import errno
import os
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


def replace_file(path: Path, text: str) -> None:
    """Write a file whole: under a name of its own first, so that nobody ever reads half of it.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    target = path.resolve()  # behind a link, the file is what is meant
    new = target.with_name(f".{target.name}.new")
    try:
        new.write_text(text, encoding="utf-8", newline="")
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
