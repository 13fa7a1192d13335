"""The machine's limits for this process (open files, threads, processes), and one line if they are too low."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, MachineUnusable
from polygon_async.system.threads import USUAL_THREADS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["no_more", "provide_files", "starting"]

_FILES_FOR_THE_REST = 64
"""Ledger, logs, streams, the event loop's own, and what libraries open in passing."""
_FILES_OF_A_THREAD = 4
"""The file that it reads or writes, or the pipes of the lzop that it has started."""
_FILES_OF_A_PROCESS = 3
_ADVICE = "end others, or raise the limit (ulimit -u, or the container's PID limit)"


def provide_files(concurrency: int, *, each: int, processes: int = 0) -> None:
    """Make sure that enough files can be open at once, for `each` of so many tickers and for the rest.

    Some systems allow 256 at first (macOS), and more if they are asked.

    Raises:
        ConfigError: they do not allow as many.
    """
    rest = _open_now() + _FILES_FOR_THE_REST
    rest += USUAL_THREADS * _FILES_OF_A_THREAD + processes * _FILES_OF_A_PROCESS
    needed = rest + concurrency * each
    allowed = _raised_to(needed)
    if allowed < needed:
        possible = (allowed - rest) // each
        advice = f"use --concurrency {possible}, or " if possible > 0 else ""
        raise ConfigError(
            f"--concurrency {concurrency} needs up to {needed:,} open files at once, and the system allows {allowed:,};"
            f" {advice}raise that limit (ulimit -n)"
        )


def _raised_to(needed: int) -> int:
    """How many files may be open, after the soft limit was raised as far as needed and possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    # The kernel may allow less than its own hard limit.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open_now() -> int:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 (names are enough)
    except OSError:
        return 0


def no_more(error: BaseException) -> MachineUnusable | None:
    """The error for a lack of threads, processes or files; None for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(no_more, error.exceptions)), None)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MachineUnusable(f"no more threads can be started; {_ADVICE}")
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EAGAIN:
        return MachineUnusable(f"no more processes can be started; {_ADVICE}")
    if number in {errno.EMFILE, errno.ENFILE}:
        return MachineUnusable(
            "no more files can be opened; use a lower --concurrency, or raise that limit (ulimit -n)"
        )
    return None


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Turn the system's refusal of a thread or a process into an error that stops the run."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if (found := no_more(error)) is not None:
            raise found from error
        raise
