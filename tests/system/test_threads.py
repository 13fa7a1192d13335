"""Whoever is cancelled while a thread works for it leaves when that work has ended, and not before."""

from __future__ import annotations

import asyncio
import threading

import pytest

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
