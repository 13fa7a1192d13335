"""A Dask cluster of the test's own: a scheduler and workers that can be stopped, spoilt, cut off, and started again."""

from __future__ import annotations

import bisect
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from stored import csvs
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from conftest import Program
    from tls import Authority

    from polygon_async.sandbox import Sandbox

OnOneMachine: TypeAlias = "Callable[[Sequence[str]], list[tuple[str, bytes]]]"

__all__ = ["RANGE", "TICKERS", "Cluster", "OnOneMachine", "Wire", "asked", "cluster", "encrypted_by", "most_within"]

RANGE = ("--from", "2026-03-02", "--to", "2026-03-06")
TICKERS = tuple(f"T{number:03}" for number in range(40))


NOT_ENCRYPTED: Mapping[str, str] = MappingProxyType({})


class Cluster:
    """A scheduler and workers."""

    def __init__(
        self, directory: Path, box: Sandbox, stack: contextlib.ExitStack, encryption: Mapping[str, str]
    ) -> None:
        self._port = _free_port()
        self._stack = stack
        self._rest: dict[str, Any] = {
            "env": {**os.environ, **box.environment, **encryption, "PYTHONWARNINGS": "ignore"},
            "cwd": directory,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        self._protocol = "tls" if encryption else "tcp"
        self.address = f"{self._protocol}://127.0.0.1:{self._port}"

    def scheduler(self) -> subprocess.Popen[str]:
        """Start the scheduler; it always has the same address."""
        place = ("--protocol", self._protocol, "--host", "127.0.0.1", "--port", str(self._port))
        process = self._started("scheduler", *place)
        wait_until(self._answers, process)
        return process

    def worker(
        self, *, by: Wire | None = None, without: str = "", first: str = "", cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a worker.

        Args:
            by: How it reaches the scheduler.
            without: A variable that its environment lacks.
            first: Code that it runs first.
            cwd: Where it is.
        """
        arguments = ("--nthreads", "2", "--no-nanny", "--death-timeout", "60")
        variables = {name: value for name, value in self._rest["env"].items() if name != without}
        if first:
            place = self._rest["cwd"] / f"site-{len(list(self._rest['cwd'].glob('site-*')))}"
            place.mkdir()
            (place / "sitecustomize.py").write_text(first)
            variables["PYTHONPATH"] = str(place)
        address = self.address if by is None else by.address
        return self._started("worker", address, *arguments, env=variables, cwd=cwd or self._rest["cwd"])

    def wait_for_workers(self, count: int) -> None:
        """Return when so many have joined."""
        from distributed import Client

        with Client(self.address, timeout=20) as client:
            client.wait_for_workers(count, timeout=60)

    def wire(self) -> Wire:
        """A way to the scheduler that can be cut."""
        wire = Wire(self._port)
        self._stack.callback(wire.close)
        return wire

    def _started(self, what: str, *arguments: str, **rest: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--dashboard-address", ":0"]
        process: subprocess.Popen[str] = self._stack.enter_context(
            subprocess.Popen(command, text=True, **self._rest | rest)
        )
        self._stack.callback(process.kill)
        return process

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def cluster(directory: Path, box: Sandbox, encryption: Mapping[str, str] = NOT_ENCRYPTED) -> Iterator[Cluster]:
    """Nothing is started yet; all that will be is killed at the end. `encryption`: Dask's own variables for TLS."""
    with contextlib.ExitStack() as stack:
        yield Cluster(directory, box, stack, encryption)


def encrypted_by(authority: Authority) -> dict[str, str]:
    """Dask's own variables, with which everybody shows, and asks for, a certificate of this authority."""
    authority.server("127.0.0.1")
    own = str(authority.bundle.with_name("127.0.0.1.pem"))
    start = "DASK_DISTRIBUTED__COMM__"
    variables = {f"{start}REQUIRE_ENCRYPTION": "true", f"{start}TLS__CA_FILE": str(authority.bundle)}
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        variables |= {f"{start}TLS__{who}__CERT": own, f"{start}TLS__{who}__KEY": own}
    return variables


class Wire:
    """A port that passes bytes on to another one of this machine, both ways, as long as nobody cuts it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._is_up = self._moves = True
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Every connection ends, and no new one lives."""
        self._is_up = False
        self._wake.send(b"-")

    def hold(self) -> None:
        """Nothing moves any more, and nobody is told: as when a cable is pulled."""
        self._moves = False
        self._wake.send(b"-")

    def mend(self) -> None:
        """It passes everything on again; what was held arrives."""
        self._is_up = self._moves = True
        self._wake.send(b"-")

    def close(self) -> None:
        """End it for good."""
        self._wake.close()
        self._thread.join()

    def _pass_on(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._listener)
            stack.callback(self._end_all)
            while True:
                moving = [*self._pairs] if self._moves else []
                for ready in select.select([self._woken, self._listener, *moving], [], [])[0]:
                    if ready is self._woken:
                        if not self._woken.recv(100):
                            self._woken.close()
                            return
                        if not self._is_up:
                            self._end_all()
                    elif ready is self._listener:
                        self._meet(self._listener.accept()[0])
                    elif ready in self._pairs:
                        self._move(ready)

    def _meet(self, near: socket.socket) -> None:
        try:
            if not self._is_up:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._port))
        except OSError:
            near.close()
            return
        self._pairs |= {near: far, far: near}

    def _move(self, ready: socket.socket) -> None:
        other = self._pairs[ready]
        try:
            some = ready.recv(2**16)
            other.sendall(some)
        except OSError:
            some = b""
        if not some:
            for end in (ready, other):
                self._pairs.pop(end)
                end.close()

    def _end_all(self) -> None:
        for end in self._pairs:
            end.close()
        self._pairs.clear()


@pytest.fixture(scope="session")
def known_csvs() -> list[tuple[str, bytes]]:
    """What `on_one_machine` has found out."""
    return []


@pytest.fixture
def on_one_machine(
    program: Program, sandbox: Callable[..., Sandbox], known_csvs: list[tuple[str, bytes]]
) -> OnOneMachine:
    """The CSVs of the objects that a quiet run of this machine alone writes for some of the tickers."""
    if not known_csvs:
        box, where = sandbox(page_size=300), ("--output-dir", "quiet")
        ended = program("--tickers", *TICKERS, *RANGE, "--rate", "unlimited", *where, box=box)
        assert ended.code == 0, ended.err
        known_csvs += csvs(box)
    return lambda tickers: [found for found in known_csvs if found[0] in tickers]


def asked(box: Sandbox, count: int) -> Callable[[], bool]:
    """Whether the API has been asked so often."""
    return lambda: len(box.requests) >= count


def most_within(seconds: float, box: Sandbox) -> int:
    """The most requests that have come to the API in any stretch of time of this length."""
    times = sorted(request.time for request in box.requests)
    return max(bisect.bisect_right(times, begin + seconds) - first for first, begin in enumerate(times))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
