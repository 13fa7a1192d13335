"""One worker process, which can be killed at any moment. Blocking: a thread talks to it."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import traceback
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, NoReturn

from polygon_async.errors import PolygonAsyncError, one_line
from polygon_async.system.descendants import end_descendants, end_session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Child", "Lost", "TookTooLong", "Worker", "end_with_parent", "get_ready", "leave_at_once", "portable"]

_LENGTH = 8
"""Bytes for the length of a message."""
_SECONDS_TO_DIE = 5.0
_SLICE = 1.0
"""Seconds between two checks of the time that is left."""

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 * 2**20
_MOST_KEPT = 128 * 2**20


class Lost(Exception):
    """The process has ended."""


class TookTooLong(Exception):
    """The process did not answer in time; it may continue until it is killed."""


class Child:
    """A process of this program's own, which runs `work` and ends with its parent if that calls `end_with_parent`.

    Args:
        work: What it does; it and its arguments can be pickled.
        arguments: The arguments.
        leads_session: Whether it calls `os.setsid` first: then what it has started ends with it, whoever killed it.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, work: Callable[..., None], *arguments: object, leads_session: bool = False) -> None:
        self._leads_session = leads_session
        self._is_over = False
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=arguments, daemon=True)
        # Ctrl-C in the terminal, or a service manager's signal to all, is for this process to handle: its children
        # inherit the blocked signals. The tracker comes first, as starting it would undo that.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def interrupt(self) -> None:
        """Kill it, and all that it has started if it leads a session, from any thread."""
        with contextlib.suppress(ValueError):  # it is gone already
            if self._leads_session and not self._is_over and self._process.pid is not None:
                # Once it is buried, its number may become another's.
                self._is_over = self._process.exitcode is not None
                end_session(self._process.pid)
            self._process.kill()

    def end(self) -> None:
        """Kill it and wait for its end; one that the system cannot kill (the disk hangs) is abandoned."""
        self.interrupt()
        with contextlib.suppress(ValueError):
            self._process.join(_SECONDS_TO_DIE)
            self._process.close()


class Worker:
    """A process that was just started; one thread at a time talks to it.

    Args:
        preload: The module that it imports before its first work.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, preload: str | None) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._child = Child(_serve, theirs, preload)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    def wait_until_ready(self, left: Callable[[], float]) -> None:
        """Wait until it has imported what it needs; `left` tells how many seconds that may still take.

        Raises:
            Lost, TookTooLong
        """
        self._receive(left)

    def ask(self, work: Callable[[], Any], left: Callable[[], float]) -> Any:
        """The result of `work()`, which can be pickled; `left` tells how many seconds it may still take.

        Raises:
            Lost, TookTooLong: this process is of no more use.
            Whatever `work` raises.
        """
        told = pickle.dumps(work)
        for part in (len(told).to_bytes(_LENGTH, "big"), told):
            view = memoryview(part)
            while view:
                view = view[self._try(partial(self._socket.send, view), left) :]
        done, result = pickle.loads(self._receive(left))  # noqa: S301 (from our own process)
        if not done:
            raise result
        return result

    def interrupt(self) -> None:
        """Kill it, from any thread."""
        self._child.interrupt()

    def end(self) -> None:
        """Kill it and wait for its end; one that the system cannot kill (the disk hangs) is abandoned."""
        self.interrupt()
        self._socket.close()
        self._child.end()

    def _receive(self, left: Callable[[], float]) -> bytearray:
        length = self._exactly(_LENGTH, left)
        return self._exactly(int.from_bytes(length, "big"), left)

    def _exactly(self, size: int, left: Callable[[], float]) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._try(partial(self._socket.recv_into, view), left)
            if not count:
                raise Lost
            view = view[count:]
        return data

    def _try(self, act: Callable[[], int], left: Callable[[], float]) -> int:
        """Send or receive, as soon as that is possible."""
        while (seconds := left()) > 0:
            self._socket.settimeout(min(seconds, _SLICE))
            try:
                return act()
            except TimeoutError:
                continue
            except OSError as error:
                raise Lost from error
        raise TookTooLong


def _serve(asker: socket.socket, preload: str | None) -> None:
    """What the process does, until its parent closes the connection."""
    get_ready(preload)
    asker.sendall(bytes(_LENGTH))
    with asker.makefile("rb") as asked:
        while length := asked.read(_LENGTH):
            told = _outcome(asked.read(int.from_bytes(length, "big")))
            asker.sendall(len(told).to_bytes(_LENGTH, "big"))
            asker.sendall(told)


def _outcome(told: bytes) -> bytes:
    """The pickled result of the work, or its error, which is raised in the parent."""
    try:
        return pickle.dumps((True, pickle.loads(told)()))  # noqa: S301 (from our own process)
    except Exception as error:  # noqa: BLE001 (passed on)
        return pickle.dumps((False, portable(error)))


def portable(error: Exception) -> Exception:
    """The error as another process can take it: without its cause, and what cannot be pickled as its text."""
    if not isinstance(error, PolygonAsyncError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:  # noqa: BLE001 (whatever an error holds)
        return RuntimeError(one_line(repr(error)))
    return error


def get_ready(preload: str | None) -> None:
    """What a process does first: make sure that it does not outlive its parent, and import what is slow."""
    end_with_parent()
    _keep_memory()
    if preload is not None:
        importlib.import_module(preload)  # now, while nobody is waiting


def _keep_memory() -> None:
    """Let the C library keep the memory of one page for the next.

    By default it returns all of it after each page, and the system has to clear it again, which takes a
    third of the parsing time.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, with other ways
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def end_with_parent() -> None:
    """Let this process end with the one that started it, however that ends."""
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        leave_at_once()


def leave_at_once() -> NoReturn:
    """End this process and all that it has started."""
    end_descendants()
    os._exit(1)
