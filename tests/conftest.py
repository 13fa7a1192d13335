"""What every test stands on: the sandbox, the real program in a subprocess, and an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prepared import Prepared, prepared
from recording import RecordingLoop

from polygon_async.model.exchange_calendar import trading_days
from polygon_async.model.layout import LEDGER, REPORT_HTML, REPORT_JSON
from polygon_async.model.units import today
from polygon_async.sandbox import Sandbox
from polygon_async.sandbox.s3 import EmbeddedS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from polygon_async.sandbox import Bar

pytest_plugins = ("browser", "clusters", "refusing")

HEADER = "open,high,low,close,volume,vwap,timestamp,transactions,otc\n"
_FOREIGN = (
    "AWS_",
    "POLYGON_",
    "MASSIVE_",
    "S3_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "SSL_CERT_",
    "REQUESTS_CA_",
    "LZOP",
)


def pytest_asyncio_loop_factories() -> dict[str, type[RecordingLoop]]:
    """Every coroutine of a test runs in a loop that finds connections left open."""
    return {"recording": RecordingLoop}


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """Its standard output as JSON."""
        summary: dict[str, Any] = json.loads(self.out)
        return summary

    @property
    def error(self) -> str:
        """The one line that it says at its end when it could not run."""
        return self.err.strip().splitlines()[-1]


@dataclass(frozen=True, slots=True)
class Program:
    """The command line, run in `directory` with the variables of a sandbox."""

    directory: Path
    prepared: Prepared

    def environment(self, box: Sandbox | None, extra: Mapping[str, str | None]) -> dict[str, str]:
        """This process's variables, then the sandbox's, then `extra` (None takes one away)."""
        merged: dict[str, str | None] = {**os.environ, **(box.environment if box else {}), **extra}
        return {name: value for name, value in merged.items() if value is not None}

    def __call__(
        self,
        *arguments: str,
        box: Sandbox | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
    ) -> Ended:
        """Run it to its end."""
        arguments = self.with_defaults(arguments)
        environment = self.environment(box, env or {})
        if self.prepared.fits(environment):
            code, *said = self.prepared.run(
                arguments, directory=self.directory, environment=environment, timeout=timeout
            )
            return Ended(code, *(text.decode() for text in said))
        ended = subprocess.run(
            [sys.executable, "-m", "polygon_async", *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def with_defaults(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """No look-ups of tags, which would be among the requests that tests count, but where a test is about them."""
        is_download = bool({"--tickers", "--universe"} & set(arguments)) and arguments[0].startswith("-")
        chosen = {"--reference", "--no-reference", "--help"} & set(arguments)
        return (*arguments, "--no-reference") if is_download and not chosen else arguments

    def in_shell(self, line: str, *, box: Sandbox) -> Ended:
        """A line of bash, run to its end; `polygon-async` in it is the command line."""
        program = f"{shlex.quote(sys.executable)} -m polygon_async"
        ended = subprocess.run(
            ["bash", "-c", line.replace("polygon-async", program)],
            cwd=self.directory,
            env=self.environment(box, {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def ledger(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """What the ledger in `output` answers; what it is told to change, it changes."""
        with contextlib.closing(sqlite3.connect(self.directory / "output" / LEDGER)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def running(
        self, *arguments: str, box: Sandbox | None = None, env: Mapping[str, str | None] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """It while it runs, to send it signals; killed when the block ends."""
        arguments = self.with_defaults(arguments)
        with subprocess.Popen(
            [sys.executable, "-m", "polygon_async", *arguments],
            cwd=self.directory,
            env=self.environment(box, env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="session")
def calendar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which the exchange's sessions are kept; making them takes a second."""
    kept = tmp_path_factory.mktemp("calendar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(kept))
        trading_days(today(), today())
    (file,) = (kept / "polygon_async").iterdir()
    return file


def own_variables() -> dict[str, str]:
    """This process's variables, without the developer's own."""
    # The program is compiled once, and not at every start.
    foreign = (*_FOREIGN, "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    # The package is found from anywhere, also where it is not installed.
    return {**kept, "PYTHONPATH": str(Path(__file__).parent.parent)}


@pytest.fixture(autouse=True)
def own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, calendar: Path
) -> Iterator[None]:
    """No variable, file or directory of the developer's reaches a test, and none that a test sets outlives it."""
    for name in set(os.environ) - set(own_variables()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # What is learned of a plan is remembered here.
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (cache / "polygon_async").mkdir()
    shutil.copy(calendar, cache / "polygon_async")
    monkeypatch.setenv("PYTHONPATH", own_variables()["PYTHONPATH"])
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def program(tmp_path: Path, forked: Prepared) -> Program:
    """The command line, in the test's own directory."""
    return Program(tmp_path, forked)


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """The process of which the programs of all tests are forks."""
    with prepared(tmp_path_factory.mktemp("prepared"), own_variables()) as process:
        yield process


@pytest.fixture(scope="session")
def store() -> Iterator[EmbeddedS3]:
    """One S3 store for all tests; each sandbox gets a bucket of its own in it."""
    with EmbeddedS3() as store:
        yield store


@pytest.fixture
def sandbox(store: EmbeddedS3) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes that end with the test; `sandbox("MSFT 2 status=503 3x", page_size=100)`."""
    with contextlib.ExitStack() as stack:

        def start(*troubles: str, **options: Any) -> Sandbox:
            bucket = f"sandbox-{secrets.token_hex(8)}"
            return stack.enter_context(Sandbox(troubles=troubles, s3=store, bucket=bucket, **options))

        yield start


@pytest.fixture
def opened(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sandbox]:
    """Starts a sandbox that this process itself finds."""

    def start(*troubles: str, **options: int) -> Sandbox:
        box = sandbox(*troubles, **options)
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        return box

    return start


def names(directory: Path) -> list[str]:
    """What is in an output directory, sorted, but for the ledger and the report, which every run keeps."""
    kept = (LEDGER, REPORT_HTML, REPORT_JSON)
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(kept))


def csv_of(bars: Iterable[Bar]) -> str:
    """The CSV that the contract asks for, from the sandbox's own truth."""
    rows = [
        ",".join((b.o, b.h, b.l, b.c, b.v or "", b.vw or "", str(b.t), b.n or "", "True" if b.otc else ""))
        for b in bars
    ]
    return HEADER + "".join(f"{row}\n" for row in rows)
