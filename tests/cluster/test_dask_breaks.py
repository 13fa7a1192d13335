"""What breaks between the machines of a cluster costs time, and no bar: the end is that of a quiet run."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import clusters
import pytest
from clusters import asked, cluster, most_within
from stored import csvs
from waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

    from clusters import Cluster, OnOneMachine
    from conftest import Program

    from polygon_async.sandbox import Sandbox

TICKERS = clusters.TICKERS[:24]
RANGE = (*clusters.RANGE, "--rate", "60/s")


@contextlib.contextmanager
def running(
    program: Program, dask: Cluster, box: Sandbox, *, until: int, flags: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A run on the cluster, from when it has sent so many requests."""
    command = ("--tickers", *TICKERS, *RANGE, "--scheduler", dask.address, *flags)
    with program.running(*command, box=box) as process:
        wait_until(asked(box, until), process)
        yield process


def ended_well(process: subprocess.Popen[str]) -> str:
    """What a run says until its end."""
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return err


def test_a_scheduler_that_restarts_is_joined_again(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    box = sandbox(page_size=300, latency=0.05)
    with cluster(program.directory, box) as dask:
        scheduler = dask.scheduler()
        dask.worker()
        with running(program, dask, box, until=40) as process:
            scheduler.kill()
            scheduler.wait()
            dask.scheduler()
            # Workers may take the end of their scheduler for their own.
            dask.worker()
            err = ended_well(process)
    assert "the Dask scheduler has lost this run (it restarted, or was cut off); what is not done is sent again" in err
    assert csvs(box) == on_one_machine(TICKERS)


def test_a_scheduler_that_restarts_while_the_run_begins_is_found_again(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, asks = sandbox(page_size=300), program.directory / "asks"
    slow = f"""
import pathlib, time
import polygon_async.run.cluster.versions as it
before = it.versions
def versions():
    pathlib.Path({str(asks)!r}).touch()
    time.sleep(3)
    return before()
it.versions = versions
"""
    with cluster(program.directory, box) as dask:
        scheduler = dask.scheduler()
        dask.worker(first=slow)
        command = ("--tickers", *TICKERS[:4], *RANGE, "--scheduler", dask.address, "--no-upload")
        with program.running(*command, box=box) as process:
            wait_until(asks.exists, process)
            scheduler.kill()
            scheduler.wait()
            dask.scheduler()
            dask.worker()
            ended_well(process)


def test_a_worker_that_stands_still_spends_no_old_token(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    """It is stopped for longer than its tokens live: when it goes on, it asks for new ones."""
    box = sandbox(page_size=300, latency=0.02)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        still = dask.worker()
        dask.worker()
        with running(program, dask, box, until=40) as process:
            still.send_signal(signal.SIGSTOP)
            before = len(box.requests)
            wait_until(asked(box, before + 25), process)
            still.send_signal(signal.SIGCONT)
            ended_well(process)
    assert most_within(1.0, box) <= 61
    assert csvs(box) == on_one_machine(TICKERS)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ({"without": "POLYGON_API_KEY"}, "POLYGON_API_KEY is not set"),
        (
            {"first": "import polygon_async._version as it; it.__version__ = '0.0.1'"},
            "it has polygon-async 0.0.1, and the coordinator ",
        ),
        (
            {"first": "import polygon_async.run.cluster.versions as it; it.versions = lambda: 1 / 0"},
            "ZeroDivisionError('division by zero'); see its log",
        ),
        ({"cwd": "/"}, "it does not share /proc/self/cwd/out with the coordinator; mount the same directory there"),
    ],
)
def test_a_worker_that_comes_late_and_lacks_something_is_passed_over(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine, late: dict[str, Any], said: str
) -> None:
    box = sandbox(page_size=300, latency=0.05)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        dask.worker()
        # For each process, this path is in the directory where it runs.
        flags = ("--output-dir", "/proc/self/cwd/out", "--log-file", "run.log")
        with running(program, dask, box, until=10, flags=flags) as process:
            # The run goes on until the other worker is there, however long that takes to start.
            box.set_troubles(["* * latency=2"])
            dask.worker(**late)
            wait_until(lambda: "it gets no tickers" in (program.directory / "run.log").read_text(), process)
            box.set_troubles([])
            err = ended_well(process)
    (told,) = [line for line in err.splitlines() if " WARNING " in line]
    assert "worker tcp://127.0.0.1:" in told
    assert said in told
    assert told.endswith("; it gets no tickers")
    assert csvs(box) == on_one_machine(TICKERS)


def test_a_worker_that_dies_when_it_is_asked_costs_nothing(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=300)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        dask.worker()
        dask.worker(first="import os, polygon_async.run.cluster.versions as it; it.versions = lambda: os._exit(1)")
        dask.wait_for_workers(2)
        ended = program("--tickers", *TICKERS[:4], *RANGE, "--scheduler", dask.address, "--no-upload", box=box)
    assert ended.code == 0, ended.err


def test_a_worker_that_is_cut_off_ends(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    """It never comes back, so that its process must not stay: what has started it starts another one."""
    box = sandbox(page_size=300, latency=0.05)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        wire = dask.wire()
        cut_off = dask.worker(by=wire)
        with running(program, dask, box, until=30) as process:
            wire.cut()
            # Dask by itself waits 30 s for the threads.
            cut_off.wait(timeout=20)
            dask.worker()
            err = ended_well(process)
    assert " is gone; its tickers are done by others: T0" in err
    assert csvs(box) == on_one_machine(TICKERS)


def test_what_a_worker_that_is_cut_off_still_does_spoils_no_file(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    """Its first pages are on their way when it is cut off; another one gets them at once, and begins the same files."""
    tickers = TICKERS[2:5]
    box = sandbox(*(f"{ticker} 1 latency=5 1x" for ticker in tickers), page_size=300, latency=0.5)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        wire = dask.wire()
        for way in (wire, None, None):
            dask.worker(by=way)
        dask.wait_for_workers(3)
        command = ("--tickers", *tickers, *RANGE, "--scheduler", dask.address)
        with program.running(*command, box=box) as process:
            wait_until(asked(box, 3), process)
            wire.cut()
            err = ended_well(process)
    assert " is gone; its tickers are done by others: T00" in err
    assert csvs(box) == on_one_machine(tickers)


def test_a_coordinator_that_is_killed_leaves_the_workers_free(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    """One worker, all of whose threads are busy with the run that is killed: the next run needs them."""
    box = sandbox(page_size=300, latency=0.05)
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        dask.worker()
        with running(program, dask, box, until=30) as process:
            process.kill()
        ended = program("--tickers", *TICKERS, *RANGE, "--scheduler", dask.address, box=box, timeout=80)
    assert ended.code == 0, ended.err
    assert csvs(box) == on_one_machine(TICKERS)
