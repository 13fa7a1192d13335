"""Whatever happens to a cluster, and in whatever order: the end is that of a quiet run, and the rate holds."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from clusters import RANGE, TICKERS, asked, cluster, most_within
from stored import csvs
from waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from clusters import Cluster, OnOneMachine, Wire
    from conftest import Program

    from polygon_async.sandbox import Sandbox

RATE = 60
SEEDS = (2, 3)
"""Between them, each thing happens; the first thirty seeds were tried."""
EVENTS = 5
REQUESTS_BETWEEN = (15, 45)
"""At least and at most, from one event to the next."""
MOST_SECONDS = 4.0
"""From one event to the next: what one of two workers holds may be all that is left."""


@dataclass
class Chaos:
    """A run of the real program on a cluster to which things happen."""

    seed: int
    dask: Cluster
    box: Sandbox
    command: tuple[str, ...]
    program: Program
    stack: Any
    scheduler: subprocess.Popen[str] = field(init=False)
    workers: list[tuple[subprocess.Popen[str], Wire]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.scheduler = self.dask.scheduler()
        for _ in range(2):
            self.add_worker()
        self.coordinator = self.begin()

    def begin(self) -> subprocess.Popen[str]:
        running: subprocess.Popen[str] = self.stack.enter_context(self.program.running(*self.command, box=self.box))
        return running

    def add_worker(self) -> None:
        wire = self.dask.wire()
        self.workers.append((self.dask.worker(by=wire), wire))

    def some_worker(self) -> tuple[subprocess.Popen[str], Wire]:
        self.workers = [each for each in self.workers if each[0].poll() is None]
        while len(self.workers) < 2:
            self.add_worker()
        return self.chance.choice(self.workers)

    def go_on(self) -> bool:
        """Let the run do some more, if it can; returns whether it is still running."""
        count, end = len(self.box.requests) + self.chance.randint(*REQUESTS_BETWEEN), time.monotonic() + MOST_SECONDS
        wait_until(
            lambda: asked(self.box, count)() or self.coordinator.poll() is not None or time.monotonic() > end,
            self.scheduler,
        )
        return self.coordinator.poll() is None

    def happen(self) -> None:
        """One thing, and what a person or a machine would do about it."""
        names = ("killed", "stopped", "cut", "held", "restarted", "interrupted")
        name = self.chance.choice(names)
        self.happened.append(name)
        getattr(self, name)()

    def killed(self) -> None:
        process, _ = self.some_worker()
        process.kill()
        self.add_worker()

    def stopped(self) -> None:
        process, _ = self.some_worker()
        process.send_signal(signal.SIGSTOP)
        self.go_on()
        process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        _, wire = self.some_worker()
        wire.cut()
        self.go_on()
        wire.mend()

    def held(self) -> None:
        _, wire = self.some_worker()
        wire.hold()
        self.go_on()
        wire.mend()

    def restarted(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = self.dask.scheduler()
        # Workers may take the end of their scheduler for their own.
        self.add_worker()

    def interrupted(self) -> None:
        self.coordinator.kill()
        self.coordinator.communicate()
        self.coordinator = self.begin()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_end_is_that_of_a_quiet_run(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine, seed: int
) -> None:
    box = sandbox(page_size=300, latency=0.05)
    with cluster(program.directory, box) as dask, contextlib.ExitStack() as stack:
        command = ("--tickers", *TICKERS, *RANGE, "--rate", f"{RATE}/s", "--scheduler", dask.address)
        chaos = Chaos(seed, dask, box, command, program, stack)
        while len(chaos.happened) < EVENTS and chaos.go_on():
            chaos.happen()
        _, err = chaos.coordinator.communicate(timeout=90)
        assert chaos.coordinator.returncode == 0, (chaos.happened, err)
    assert chaos.happened
    assert most_within(1.0, box) <= RATE + 1
    assert csvs(box) == on_one_machine(TICKERS)
