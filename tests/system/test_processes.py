"""Bodies are read in processes: the first ticker's first, and to the end even when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from polygon_async.errors import Retryable
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
