"""Command lines in, ended programs out: each run is a fork of one process that has imported what the program needs.

Half of what a short run takes is the import of its modules. Here that is done once, and all else is as in a program
that was started by its name: its arguments, variables, directory and streams are its own, and so is its end.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Prepared", "prepared"]

_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "HOME", "SSL_CERT_", "DASK_")
"""Variables that count when an interpreter starts or modules are imported (aiohttp's trust in certificates, botocore's
cache of logins, Dask's settings): with others than here, a program is started anew."""
_LATE = (
    "aioboto3",
    "aiofiles",
    "aiofiles.tempfile",
    "aiobotocore.session",
    "boto3.s3.inject",
    "dotenv.main",
    "encodings.idna",
    "exchange_calendars",
    "multiprocessing.managers",
    "pandas",
    "pygal",
    "rich.live",
)
"""What the program imports only when it needs it."""
_MOST = 2**20
"""Bytes of a request."""
_STREAMS = 3


class Ended(NamedTuple):
    """How a program has ended, as `subprocess` tells it."""

    code: int
    out: bytes
    err: bytes


class Prepared:
    """The process that is forked."""

    def __init__(self, address: Path, environment: Mapping[str, str]) -> None:
        self._address = address
        self._at_start = _of_start(environment)

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a program with these variables is the same if it is forked."""
        return _of_start(environment) == self._at_start

    def run(
        self, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str], timeout: float
    ) -> Ended:
        """Run the program to its end, and that of all who hold its streams.

        Raises:
            subprocess.TimeoutExpired: it has not ended by then; it is killed.
        """
        request = {"arguments": [*arguments], "directory": str(directory), "environment": dict(environment)}
        end = time.monotonic() + timeout
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            connection.connect(str(self._address))
            nothing = os.open(os.devnull, os.O_RDONLY)
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            for number in (out, err):
                stack.callback(os.close, number)
            socket.send_fds(connection, [json.dumps(request).encode()], [nothing, out_end, err_end])
            for number in (nothing, out_end, err_end):
                os.close(number)
            pid = int(connection.recv(_MOST))
            try:
                said = _all_of((out, err), end)
                connection.settimeout(max(0.001, end - time.monotonic()))
                code = int(connection.recv(_MOST))
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired([*arguments], timeout) from None
        return Ended(code, said[out], said[err])


@contextlib.contextmanager
def prepared(directory: Path, environment: Mapping[str, str]) -> Iterator[Prepared]:
    """The process that is forked, as long as the context lasts; its socket stands in the directory."""
    address = directory / "prepared"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen(64)
        command = [sys.executable, __file__, str(listening.fileno())]
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            # As a program's own streams, these cannot be sought in.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        ) as process:
            try:
                yield Prepared(address, environment)
            finally:
                process.kill()


def _of_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}


def _all_of(streams: Sequence[int], end: float) -> dict[int, bytes]:
    """All that comes from some pipes until they are closed."""
    said = {number: bytearray() for number in streams}
    with selectors.DefaultSelector() as selector:
        for number in streams:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(end - time.monotonic())
            if not ready and time.monotonic() >= end:
                raise TimeoutError
            for key, _ in ready:
                if piece := os.read(key.fd, _MOST):
                    said[key.fd] += piece
                else:
                    selector.unregister(key.fd)
    return {number: bytes(all_of_it) for number, all_of_it in said.items()}


def _import_all() -> None:
    import polygon_async

    for module in pkgutil.walk_packages(polygon_async.__path__, "polygon_async."):
        if not module.name.startswith("polygon_async.sandbox") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    _remember_models()
    gc.collect()
    gc.freeze()


def _remember_models() -> None:
    """Have botocore read each of its descriptions of a service once, which is half of what making a client takes."""
    import boto3.session
    from botocore.loaders import JSONFileLoader

    loader = JSONFileLoader()
    JSONFileLoader.load_file = staticmethod(functools.cache(loader.load_file))
    JSONFileLoader.exists = staticmethod(functools.cache(loader.exists))
    boto3.session.Session(aws_access_key_id="none", aws_secret_access_key="none").client("s3", "us-east-1")


def _next_program(listening: socket.socket) -> dict[str, Any]:
    """Fork a program whenever one is asked for; returns in that program only, with what was asked for."""
    while True:
        connection, _ = listening.accept()
        if os.fork():
            connection.close()
            continue
        # This process is the program's parent; it waits for its end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message, numbers, _, _ = socket.recv_fds(connection, _MOST, _STREAMS)
        if (pid := os.fork()) == 0:
            listening.close()
            connection.close()
            for stream, number in enumerate(numbers):
                os.dup2(number, stream)
                os.close(number)
            asked: dict[str, Any] = json.loads(message)
            return asked
        for number in numbers:
            os.close(number)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # whoever asked has given up
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def _main() -> None:
    listening = socket.socket(fileno=int(sys.argv[1]))
    # The parents of programs end by themselves.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the program does, before numpy would start threads
    _import_all()
    asked = _next_program(listening)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["directory"])
    # As the interpreter does for `-m`.
    sys.path[0] = asked["directory"]
    sys.argv = ["polygon_async", *asked["arguments"]]
    runpy.run_module("polygon_async", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
