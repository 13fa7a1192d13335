"""Bodies are read in processes: the first ticker's first, and to the end even when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from polygon_async.errors import Retryable, TickerError
from polygon_async.system import limits, processes, threads
from polygon_async.system.processes import Processes
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 2**20


def note(path: Path, word: str) -> str:
    """What a reading process is given here: it writes a word down, after a file named `go` is there."""
    path.with_name(f"begun-{word}").touch()
    wait_for(path.with_name("go"))
    with path.open("a") as file:
        file.write(f"{word}\n")
    return word


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


async def test_of_bodies_that_wait_the_first_tickers_are_read_first(tmp_path: Path) -> None:
    path = tmp_path / "words"
    async with Threads(2) as offload, Processes(1, offload=offload) as readers, asyncio.TaskGroup() as tasks:
        await readers(partial(os.getpid), size=LARGE)
        for priority in (9, 9, 5, 1, 3, 1):
            tasks.create_task(readers(partial(note, path, str(priority)), size=LARGE, priority=priority))
        await asyncio.sleep(0)
        path.with_name("go").touch()
    # One is being read and one is on its way to the process before the others come.
    assert path.read_text().split() == ["9", "9", "1", "1", "3", "5"]


async def test_a_body_that_is_being_read_is_read_to_its_end_when_nobody_waits_any_more(tmp_path: Path) -> None:
    path = tmp_path / "words"
    async with Threads(2) as offload, Processes(1, offload=offload) as readers:
        await readers(partial(os.getpid), size=LARGE)
        reading = asyncio.create_task(readers(partial(note, path, "read"), size=LARGE))
        waiting = [asyncio.create_task(readers(partial(note, path, "late"), size=LARGE)) for _ in range(3)]
        await asyncio.to_thread(wait_for, path.with_name("begun-read"))
        for task in (reading, *waiting[1:]):
            task.cancel()
        path.with_name("go").touch()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        assert "read" in path.read_text()
        assert await waiting[0] == "late"
        assert await readers(partial(note, path, "after"), size=LARGE) == "after"


async def test_a_process_that_dies_over_a_body_costs_one_attempt() -> None:
    async with Threads(2) as offload, Processes(1, offload=offload) as readers:
        first = await readers(os.getpid, size=LARGE)
        with pytest.raises(Retryable, match="died"):
            await readers(partial(os._exit, 3), size=LARGE)
        assert await readers(os.getpid, size=LARGE) != first


async def test_without_processes_and_for_small_bodies_threads_read() -> None:
    async with Threads(2) as offload, Processes(1, offload=offload) as readers, Processes(0, offload=offload) as none:
        assert await readers(os.getpid, size=10) == os.getpid()
        assert await none(os.getpid, size=LARGE) == os.getpid()


# Processes start when there is work for them


def started() -> int:
    return len(multiprocessing.active_children())


async def test_one_body_after_another_takes_one_process() -> None:
    async with Threads(2) as offload, Processes(8, offload=offload) as readers:
        assert len({await readers(os.getpid, size=LARGE) for _ in range(5)}) == 1
        assert started() == 1
    assert started() == 0


async def test_small_bodies_take_none() -> None:
    async with Threads(2) as offload, Processes(8, offload=offload) as readers:
        for _ in range(5):
            with readers.expecting(), readers.expecting():
                await readers(os.getpid, size=10)
        assert started() == 0


async def test_once_a_large_body_has_come_each_request_under_way_has_a_process_at_most() -> None:
    async with Threads(2) as offload, Processes(3, offload=offload, at_first=1) as readers:
        assert started() == 0
        with contextlib.ExitStack() as under_way:
            counts = []
            for number in range(5):
                under_way.enter_context(readers.expecting())
                if number == 1:
                    await readers(os.getpid, size=LARGE)
                counts.append(len(readers._readers))
        assert counts == [1, 2, 3, 3, 3]


async def test_where_processes_end_at_their_start_threads_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with Threads(2) as offload, Processes(2, offload=offload, preload="no_such_module") as readers:
        found = await asyncio.gather(*(readers(os.getpid, size=LARGE) for _ in range(4)))
        assert {*found, await readers(os.getpid, size=LARGE)} == {os.getpid()}
    assert caplog.messages == ["parsing pages in threads, as no process can be started (it ends)"]


# Everything has its time


def stop_once(path: Path, word: str) -> str:
    """A process that stands still over its first body."""
    with contextlib.suppress(FileExistsError):
        path.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGSTOP)
    return word


def stop(path: Path) -> None:
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGSTOP)


async def test_a_process_that_hangs_is_killed_and_its_body_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 1.0)
    bodies = [partial(stop_once, tmp_path / "stopped", str(number)) for number in range(6)]
    async with Threads(2) as offload, Processes(2, offload=offload) as readers:
        found = await asyncio.gather(*(readers(body, size=LARGE, subject="/v2/aggs") for body in bodies))
    assert found == [str(number) for number in range(6)]
    assert caplog.messages == ["parsing /v2/aggs took longer than 2 s; its process was killed"]


async def test_what_hangs_twice_fails_and_the_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 1.0)
    async with Threads(2) as offload, Processes(2, offload=offload) as readers:
        hanging = asyncio.create_task(readers(partial(stop, tmp_path / "pids"), size=LARGE))
        others = [await readers(partial(int, number), size=LARGE) for number in range(20)]
        with pytest.raises(TickerError, match=r"^parsing the answer took longer than 2 s, twice") as caught:
            await hanging
        assert await readers(partial(int, 20), size=LARGE) == 20
    assert (others, type(caught.value)) == (list(range(20)), TickerError)
    assert len(set((tmp_path / "pids").read_text().split())) == 2


async def test_nobody_waits_long_for_what_hangs_and_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_SECONDS_UNWANTED", 0.1)
    async with asyncio.timeout(30), Threads(2) as offload, Processes(1, offload=offload) as readers:
        hanging = asyncio.create_task(readers(partial(stop, tmp_path / "pids"), size=LARGE))
        await asyncio.to_thread(wait_for, tmp_path / "pids")
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await readers(partial(int, 1), size=LARGE) == 1


async def test_a_process_that_hangs_at_its_start_is_replaced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "_SECONDS_TO_START", 2.0)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stands_still.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n")
    async with Threads(2) as offload, Processes(1, offload=offload, preload="stands_still") as readers:
        assert await readers(os.getpid, size=LARGE) == os.getpid()
    assert caplog.messages == ["a process to parse pages did not start within 2 s and was killed"]
    assert started() == 0


async def test_a_thread_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 0.0)
    may_end = threading.Event()
    monkeypatch.setattr(threads.log, "warning", lambda *_: may_end.set())
    async with Threads(2) as offload, Processes(0, offload=offload) as readers:
        assert await readers(partial(may_end.wait, 30), size=10, subject="/v2/aggs")
