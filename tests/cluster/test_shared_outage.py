"""An outage concerns all workers: it is judged in one place, and one probe at a time is sent for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from near import Near, registered
from virtual_time import in_virtual_time, now

from polygon_async.errors import OutOfPatience, Retryable
from polygon_async.model.counters import Counters
from polygon_async.polygon.pace.gate import Gate
from polygon_async.polygon.pace.lease import LeasePacer

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.run.cluster.owner import Owner

SECRET = "a-key-that-nobody-may-see"
DOWN, UP = 10.0, 200.0


async def opened(patience: float) -> Owner:
    return await registered(per_second=20, outage_patience=patience)


async def worker(owner: Owner, tickers: str, answer: Callable[[], None], *, patience: float = 60) -> None:
    """Ask for its tickers again and again, as long as the story lasts."""
    counters, pacer = Counters(), LeasePacer(Near(owner, secret=SECRET))
    gate = Gate(tokens=pacer, outage=pacer.outage, counters=counters, patience=patience)

    async def attempt() -> None:
        await asyncio.sleep(0.05)
        answer()

    async def one(ticker: str) -> None:
        while True:
            await gate.run(attempt, request=f"/{ticker}", subject=ticker)
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        for ticker in tickers:
            tasks.create_task(one(ticker))


def test_workers_wait_as_one_and_go_on_as_one() -> None:
    sent: list[float] = []

    def answer() -> None:
        sent.append(now())
        if DOWN < now() < UP:
            raise Retryable(f"HTTP 503 [{SECRET}]", reason="503")

    async def story() -> tuple[Any, Any]:
        owner = await opened(600)
        running = [asyncio.create_task(worker(owner, tickers, answer)) for tickers in ("ab", "c", "d")]
        await asyncio.sleep(100)
        during = await owner.poll("run", 0, [])
        await asyncio.sleep(150)
        after = await owner.poll("run", 0, [])
        assert not [task for task in running if task.done()]
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        return during, after

    during, after = in_virtual_time(story(), turn=1e-5)
    words, left = during["outage"]["down"]
    assert words.startswith("HTTP 503 [")
    assert SECRET not in words
    assert 520 < left < 600
    assert after["outage"]["down"] is None
    # From when it is certain, after half a minute, until it ends: one probe after 5 s, then 10, 20 and every 30.
    assert 4 <= sum(60 < moment < UP for moment in sent) <= 7
    # Within one more interval, all four go on, each once a second.
    assert sum(UP + 31 < moment < UP + 41 for moment in sent) >= 36


def test_an_outage_without_end_ends_the_run_where_the_coordinator_is() -> None:
    def answer() -> None:
        raise Retryable("HTTP 503", reason="503")

    async def story() -> tuple[str, float]:
        owner = await opened(100)
        running = [asyncio.create_task(worker(owner, tickers, answer)) for tickers in ("ab", "c")]
        while (found := await owner.poll("run", 0, [])) is not None and found["over"] is None:
            pass
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        assert found is not None
        return found["over"], now()

    text, moment = in_virtual_time(story(), turn=1e-5)
    assert text == "the API has been down for 100 s, last error: HTTP 503; run the same command again when it is back"
    assert 130 <= moment < 170


def test_one_tickers_trouble_is_its_own() -> None:
    def answer() -> None:
        raise Retryable("HTTP 503", reason="503")

    async def story() -> Any:
        owner = await opened(100)
        healthy = asyncio.create_task(worker(owner, "ab", lambda: None))
        with pytest.raises(ExceptionGroup) as found:
            await worker(owner, "c", answer)
        healthy.cancel()
        await asyncio.wait([healthy])
        assert found.value.subgroup(OutOfPatience) is not None
        return await owner.poll("run", 0, [])

    told = in_virtual_time(story(), turn=1e-5)
    assert told["outage"]["down"] is None
    assert told["over"] is None
