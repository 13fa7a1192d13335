"""Whoever is cancelled while a thread works for it leaves when that work has ended, and not before."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from polygon_async.system import limits, threads
from polygon_async.system.threads import Threads


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_wait_ends_with_the_work(times: int) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    async with Threads(1) as offload:
        task = asyncio.create_task(offload.until_done(work, hurry=may_end.set if times == 1 else lambda: None))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        if times > 1:
            assert not task.done()
            may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()


async def busy(offload: Threads) -> tuple[asyncio.Task[None], threading.Event]:
    """What occupies the only thread until the event is set."""
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(10)

    task = asyncio.create_task(offload(work))
    await asyncio.to_thread(begun.wait, 10)
    return task, may_end


async def test_what_has_not_begun_is_never_done() -> None:
    done: list[int] = []
    async with Threads(1) as offload:
        first, may_end = await busy(offload)
        second = asyncio.create_task(offload(done.append, 1))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        may_end.set()
        await first
    assert done == []


async def test_what_cleans_up_is_done_even_where_its_turn_had_not_come() -> None:
    done: list[int] = []
    async with Threads(1) as offload:
        first, may_end = await busy(offload)
        second = asyncio.create_task(offload.surely(lambda: done.append(1)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        await first
    assert done == [1]


# What takes too long is told


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings; each step may take no time."""
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 0.0)
    return []


def wait_until_told(told: list[str], monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set by the first warning."""
    event = threading.Event()

    def warn(text: str, *facts: object) -> None:
        told.append(text % facts)
        event.set()

    monkeypatch.setattr(threads.log, "warning", warn)
    return event


@pytest.mark.parametrize("way", ["watched", "surely"])
async def test_work_that_hangs_is_told_once_by_its_name(
    told: list[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    event = wait_until_told(told, monkeypatch)
    async with Threads(1) as offload:
        assert await getattr(offload, way)(partial(event.wait, 30), subject="reading A.csv")
        await offload(int)
    assert told == ["reading A.csv has taken 0 s so far, in a thread, which cannot be killed; is the disk hanging?"]


async def test_of_many_files_the_one_is_told_that_hangs(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    event, at = wait_until_told(told, monkeypatch), ["A"]

    def read_all() -> bool:
        at[0] = "B"
        return event.wait(30)

    async with Threads(1) as offload:
        assert await offload.watched(read_all, subject=lambda: at[0])
    assert [text.split()[0] for text in told] == ["B"]


async def test_what_waits_for_a_thread_does_not_hang(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    event = wait_until_told(told, monkeypatch)
    async with Threads(1) as offload:
        first = asyncio.create_task(offload.watched(partial(event.wait, 30), subject="first"))
        second = asyncio.create_task(offload.watched(int, subject="second", size=10**9))
        assert await first
        await second
    assert [text.split()[0] for text in told] == ["first"]


async def test_who_gives_up_waiting_is_told_what_is_waited_for(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event, begun = wait_until_told(told, monkeypatch), threading.Event()

    def work() -> None:
        begun.set()
        event.wait(30)

    monkeypatch.setattr(limits, "_LEAST_SECONDS", 0.05)
    async with Threads(2) as offload:
        task = asyncio.create_task(offload.watched(work, subject="hashing A.lzo"))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert event.is_set()
    assert [text.split()[:2] for text in told] == [["hashing", "A.lzo"]]
