"""A directory in, its lock out: one program at a time works in it, and others can ask whether one does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_locked", "locked"]

_ATTEMPTS = 10
_SECONDS_BETWEEN = 0.02
"""`is_locked` holds the lock for a moment; that is no reason to refuse a run."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; the system releases it however the process ends. Blocking.

    Raises:
        BlockingIOError: another program holds it.
        OSError: the directory cannot be opened, or its file system has no locks.
    """
    lock = _opened(directory)
    try:
        for left in reversed(range(_ATTEMPTS)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise
                time.sleep(_SECONDS_BETWEEN)
        yield
    finally:
        os.close(lock)


def is_locked(directory: Path) -> bool | None:
    """Whether a program holds the directory's lock; None if that cannot be found out. Blocking."""
    try:
        lock = _opened(directory)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(lock)


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
