"""The terminal: standard streams, signals and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from polygon_async._version import __version__
from polygon_async.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

__all__ = [
    "COULD_NOT",
    "INTERRUPTED",
    "RESUME",
    "complain",
    "open_streams",
    "refuse",
    "run_cancellable",
    "run_until",
    "say",
]

COULD_NOT = 2
INTERRUPTED = 130
"""Exit codes: could not run or could not go on; interrupted by a signal."""

_SECONDS_TO_LEAVE = 4.5
"""After the first signal; what hangs longer than that is abandoned."""
RESUME = "run the same command again to resume"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_T = TypeVar("_T")


def open_streams() -> None:
    """Make sure that there are streams to write to, and that they take every character."""
    # A daemon may have closed them; they stay open until the process ends.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character outside the locale is no reason to fail


def say_file(text: str) -> bool:
    """Print the content of a file: as `say`, but in UTF-8 with Unix line ends, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return say(text, end="")


def say(result: str | Iterable[str], *, end: str = "\n") -> bool:
    """Print the result; returns False if standard output cannot be written. A closed pipe is no error."""
    try:
        for piece in (result,) if isinstance(result, str) else result:
            print(piece, end="")
        print(end=end, flush=True)
    except OSError as error:
        # Else Python would try to flush again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            complain(f"error: cannot write to standard output ({error.strerror})")
            return False
    return True


def complain(words: str) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError):  # nobody can be told; the exit code still says it
        print(f"polygon-async: {words}", file=sys.stderr)


def refuse(error: str, *, as_json: bool, code: int = COULD_NOT) -> int:
    """Report that a command could not do its work: one line, and on request the same as JSON; returns the exit code."""
    if as_json:
        say(json.dumps({"version": __version__, "exit_code": code, "error": error}))
    complain(error if code == INTERRUPTED else f"error: {error}")
    return code


def run_until(work: Callable[[asyncio.Event], Coroutine[Any, Any, _T]]) -> _T:
    """Run work that stops and cleans up when its event is set; a Ctrl-C or a SIGTERM sets it."""

    patience = threading.Timer(_SECONDS_TO_LEAVE, _leave_at_once)
    patience.daemon = True

    def leave(stop: asyncio.Event) -> None:
        if stop.is_set():
            _leave_at_once()
        stop.set()
        with contextlib.suppress(RuntimeError):  # no more threads: then a second signal is needed where something hangs
            patience.start()

    async def to_its_end() -> _T:
        stop = asyncio.Event()
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, leave, stop)
        return await work(stop)

    try:
        return _run(to_its_end())
    finally:
        patience.cancel()


def _leave_at_once() -> NoReturn:
    """Quit immediately, and end the child processes; the ledger already holds all that was done."""
    from polygon_async.system.descendants import end_descendants

    with contextlib.suppress(OSError):
        print(f"polygon-async: interrupted, quitting immediately; {RESUME}", file=sys.stderr, flush=True)
    end_descendants()
    os._exit(INTERRUPTED)


def run_cancellable(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work`; a Ctrl-C or a SIGTERM cancels it.

    Raises:
        Interrupted: it was cancelled.
    """

    async def to_its_end() -> _T:
        task = asyncio.ensure_future(work)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted("interrupted") from None

    return _run(to_its_end())


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    done: list[_T] = []

    async def kept() -> None:
        done.append(await work)

    try:
        asyncio.run(kept())
    except RuntimeError:
        # Closing the loop takes a thread, which may not be to be had any more.
        if not done:
            raise
    finally:
        # The loop no longer handles them, and all that is left is to print how it ended.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    return done[0]
