"""Killed at any instant and started again, a run ends as if nobody had touched it.

`scripts/kills N` does the same about N times, and tells where it killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import names
from door import Answered, Arrived, door, is_object_put, refusal
from stored import Stored, stored

from polygon_async.model.layout import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

FIRST, LAST = dt.date(2026, 3, 2), dt.date(2026, 3, 3)
CONCURRENCY = 4
_LZOP_TIME, _LZOP_NAME, _LZOP_CHECKSUM = 25, 33, 4
"""Where lzop's header has the file's time, and its name's length; and how long its own checksum is."""
KILLS = int(os.environ.get("KILLS", "9"))
"""About so many in all: the dice choose instants that a run may not come to any more."""
MANY = ("AAPL", "QQ", "X:BTCUSD", "I:SPX", "NODATA", "T0001", "T0002", "BRK.B")
ONE = ("X:BTCUSD",)


@dataclass(slots=True)
class Trap:
    """Waits for an instant in a run: nothing passes the door, or the moment, until the program is dead."""

    name: str
    seen: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    left: int = 1

    def met(self) -> bool:
        """Whether this is the instant; then everything stands still until the kill."""
        self.left -= 1
        if self.left:
            return False
        self.seen.set()
        self.gone.wait()
        return True


@dataclass(slots=True)
class Killer:
    """Runs a command again and again, and kills it at an instant that its dice choose."""

    program: Program
    box: Sandbox
    arguments: tuple[str, ...]
    dice: random.Random
    most: int
    """So many times at most something has to happen before the kill."""
    trap: Trap | None = None
    killed_at: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.program.directory / "output"

    def rule(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """At the store's door: before a request is passed on, or before its answer is."""
        trap = self.trap
        kind = "PUT" if is_object_put(asked) else "tags" if asked.path.endswith("?tagging") else asked.method
        if trap is not None and trap.name == f"before {kind}" and trap.met():
            return refusal(503, "SlowDown")
        answer = forward()
        if trap is not None and trap.name == f"after {kind}":
            trap.met()
        return answer

    def until_it_ends(self, most: int, env: dict[str, str | None]) -> None:
        """Start it, and kill it at most so many times before it may end."""
        for _ in range(most):
            if self._ended(env, kill=True):
                return
        while not self._ended(env, kill=False):
            pass

    def _ended(self, env: dict[str, str | None], *, kill: bool) -> bool:
        self.trap = self._set_trap() if kill else None
        instant = self._instant(self.trap) if self.trap else lambda: False
        with subprocess.Popen(
            [sys.executable, "-m", "polygon_async", *self.arguments],
            cwd=self.program.directory,
            env=self.program.environment(self.box, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while process.poll() is None and not instant():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.002)
            alive = process.poll() is None
            process.kill()
            _, err = process.communicate()
        if self.trap is not None:
            self.trap.gone.set()
            if alive:
                self.killed_at.append(self.trap.name)
        assert alive or process.returncode == 0, err
        return not alive

    def _set_trap(self) -> Trap:
        doors = [f"{when} {what}" for when in ("before", "after") for what in ("PUT", "HEAD", "tags")]
        places = ["request", "part grows", "csv", "lzo", "fetched", "uploading", "uploaded", *doors]
        return Trap(self.dice.choice(places), left=self.dice.randint(1, self.most))

    def _instant(self, trap: Trap) -> Callable[[], bool]:
        """Whether the program has got there, seen from outside."""
        match trap.name:
            case "request":
                requests = len(self.box.requests) + self.dice.randint(1, 20)
                return lambda: len(self.box.requests) >= requests
            case "part grows":
                size = self._sizes(".part") + 20_000 * trap.left
                return lambda: self._sizes(".part") >= size
            case "csv":
                size = self._sizes("_historical.csv") + 1
                return lambda: self._sizes("_historical.csv") >= size
            case "lzo":
                return lambda: self._sizes(".lzo") > 0
            case "fetched" | "uploading" | "uploaded":
                count = self._count(trap.name) + trap.left
                return lambda: self._count(trap.name) >= count
            case _:
                return trap.seen.is_set

    def _sizes(self, ending: str) -> int:
        size = 0
        for path in self.output.glob(f"*{ending}"):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return size

    def _count(self, state: str) -> int:
        rows = read(self.output, "SELECT state FROM unit UNION ALL SELECT state FROM upload")
        return sum(row == (state,) for row in rows)


def read(output: Path, query: str) -> list[tuple[Any, ...]]:
    """What the ledger says; nothing while there is none."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(output / LEDGER)) as ledger:
        return ledger.execute(query).fetchall()
    return []


def result(box: Sandbox, output: Path) -> dict[str, Any]:
    """All that a run leaves, but for the time at which it ran."""
    units = read(
        output,
        "SELECT ticker, state, bars, first, last, doubles, size, crc, sha256, error FROM unit ORDER BY ticker",
    )
    uploads = read(
        output,
        "SELECT ticker, upload.state, upload.size, upload.sha256, upload.error FROM upload"
        " JOIN unit ON unit.id = upload.unit ORDER BY ticker",
    )
    return {
        "files": {name: (output / name).read_bytes() for name in names(output)},
        "objects": [timeless(item) for item in stored(box)],
        "units": units,
        "uploads": uploads,
        "runs": read(output, "SELECT state FROM run"),
    }


def timeless(item: Stored) -> Stored:
    """An object without the minute in its key; nor that in its lzop header, which the body holds with a checksum."""
    after_name = _LZOP_NAME + 1 + item.body[_LZOP_NAME] + _LZOP_CHECKSUM
    body = item.body[:_LZOP_TIME] + item.body[after_name:]
    tags = item.tags | {"date": ""}
    return dataclasses.replace(item, key=re.sub(r"\d", "0", item.key), body=body, tags=tags)


@contextlib.contextmanager
def killer(
    program: Program, box: Sandbox, store: EmbeddedS3, tickers: tuple[str, ...], seed: int, *flags: str
) -> Iterator[tuple[Killer, dict[str, str | None]]]:
    days = ("--from", f"{FIRST}", "--to", f"{LAST}", "--rate", "unlimited", "--concurrency", f"{CONCURRENCY}")
    killing = Killer(program, box, ("--tickers", *tickers, *days, *flags), random.Random(seed), len(tickers) // 3 + 1)
    with door(store.endpoint, killing.rule) as endpoint:
        yield killing, {"AWS_ENDPOINT_URL_S3": endpoint}


SCENARIOS = {
    "many tickers": (MANY, 300, ()),
    "windows of one": (ONE, 50, ()),
    "no CSV is kept": (MANY, 300, ("--no-keep-csv",)),
}


@pytest.mark.parametrize("seed", range(-(-KILLS // 9)))
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nobody_had_touched_it(
    name: str, seed: int, program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, tmp_path: Path
) -> None:
    tickers, page_size, flags = SCENARIOS[name]
    calm = sandbox("* * latency=0.01", page_size=page_size)
    (tmp_path / "calm").mkdir()
    undisturbed = dataclasses.replace(program, directory=tmp_path / "calm")
    with killer(undisturbed, calm, store, tickers, seed, *flags) as (killing, env):
        killing.until_it_ends(0, env)
    expected = result(calm, killing.output)

    box = sandbox("* * latency=0.01", page_size=page_size)
    with killer(program, box, store, tickers, seed * 7919 + len(name), *flags) as (killing, env):
        killing.until_it_ends(6, env)
    found = result(box, killing.output)
    killed = ", ".join(killing.killed_at)
    sys.stdout.write(f"\n{name}, seed {seed}: killed {len(killing.killed_at)} times: {killed}\n")
    sys.stdout.write(f"  requests: {len(box.requests)}, undisturbed {len(calm.requests)}\n")
    assert killing.killed_at, "nobody was killed"
    for what in expected:
        assert found[what] == expected[what], (what, killed)
    # What is in flight dies with the program; and windows, which are cut as chance has it, may cost one for a ticker.
    spent = len(calm.requests) + CONCURRENCY * len(killing.killed_at) + len(tickers)
    assert len(box.requests) <= spent, killed
    minutes = {item.key.removesuffix(".csv.lzo")[-12:] for item in stored(box)}
    assert len(minutes) == 1, "all objects have the first start's time in their keys"
