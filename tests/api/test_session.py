"""A session, and calls without one: whoever uses a key side by side shares its pace, and nothing is left behind."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from virtual_time import check_pace

import polygon_async
from polygon_async import ConfigError, RunError, TickerError, fetch_bars
from polygon_async.polygon import sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)
RATE = "25/s"
TOLERANCE = 0.1
"""Seconds: a request may be on its way for longer than the one behind it."""


def check_shared(box: Sandbox, requests: int) -> None:
    moments = [request.time for request in box.requests]
    assert len(moments) == requests
    # Two paces would take half the time.
    assert moments[-1] - moments[0] >= (requests - 1) / 25 - TOLERANCE
    check_pace(moments, 25, tolerance=TOLERANCE)


async def test_calls_in_a_session_share_its_pace(opened: Callable[..., Sandbox]) -> None:
    box = opened(page_size=100)
    async with polygon_async.session(rate=RATE) as session:
        one, several, other = await asyncio.gather(
            session.fetch_bars("QQ", DAY, DAY),
            session.fetch_bars(["AAPL", "MSFT"], DAY, DAY),
            session.fetch_bars("SPLIT", DAY, DAY, adjusted=False),
        )
    assert list(one.columns) == list(several.columns[1:]) == list(other.columns)
    assert {request.ticker for request in box.requests} == {"QQ", "AAPL", "MSFT", "SPLIT"}
    check_shared(box, len(box.requests))
    assert len(box.requests) > 12


async def test_a_session_keeps_the_pace_from_call_to_call(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    async with polygon_async.session(rate=RATE) as session:
        for _ in range(6):
            await session.fetch_bars("QQ", DAY, DAY)
    check_shared(box, 6)


async def test_calls_outside_a_session_share_a_pace_while_they_run(opened: Callable[..., Sandbox]) -> None:
    box = opened(page_size=100)
    # What only one of them has must not part them.
    await asyncio.gather(
        fetch_bars("QQ", DAY, DAY, rate=RATE),
        fetch_bars("AAPL", DAY, DAY, rate=RATE, patience=5),
        fetch_bars(["MSFT"], DAY, DAY, rate=RATE, concurrency=1, api_key=box.api_key),
    )
    check_shared(box, len(box.requests))
    assert len(box.requests) > 12
    assert asyncio.get_running_loop() not in sharing._OPEN, "nothing stays behind"


async def test_whoever_is_left_keeps_the_pace(opened: Callable[..., Sandbox]) -> None:
    """The gate is closed with the last call, not with the one that opened it."""
    box = opened("QQ * status=404", page_size=100)
    failed, frame = await asyncio.gather(
        fetch_bars("QQ", DAY, DAY, rate=RATE), fetch_bars("AAPL", DAY, DAY, rate=RATE), return_exceptions=True
    )
    assert isinstance(failed, TickerError)
    assert not isinstance(frame, BaseException)
    assert frame["timestamp"].tolist() == [bar.t for bar in box.market.days("AAPL", DAY, DAY)]
    check_shared(box, len(box.requests))


async def test_one_that_is_cancelled_takes_nobody_along(opened: Callable[..., Sandbox]) -> None:
    box = opened("QQ * latency=30")
    first = asyncio.create_task(fetch_bars("QQ", DAY, DAY, rate="auto"))
    second = asyncio.create_task(fetch_bars("AAPL", DAY, DAY, rate="auto"))
    # Before it has opened anything.
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == len(list(box.market.days("AAPL", DAY, DAY)))
    with pytest.raises(asyncio.CancelledError):
        await first
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_key_has_a_pace_of_its_own(opened: Callable[..., Sandbox]) -> None:
    opened()
    async with polygon_async.session(rate=RATE), polygon_async.session(rate=RATE, api_key="another"):
        assert len(sharing._OPEN[asyncio.get_running_loop()]) == 2


async def test_a_session_that_is_not_open_says_so(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    session = polygon_async.session(rate="unlimited")
    with pytest.raises(RunError, match="the session is not open; use it as in async with"):
        await session.fetch_bars("QQ", DAY, DAY)
    async with session:
        assert repr(session) == "<Session: unlimited, open>"
    with pytest.raises(RunError, match="the session is closed; open another"):
        await session.fetch_bars("QQ", DAY, DAY)
    with pytest.raises(RunError, match="can be opened only once"):
        await session.__aenter__()
    assert repr(session) == "<Session: unlimited, closed>"
    assert box.requests == []


async def test_a_session_belongs_to_its_loop(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    async with polygon_async.session(rate="unlimited") as session:
        call = asyncio.to_thread(lambda: asyncio.run(session.fetch_bars("QQ", DAY, DAY)))
        with pytest.raises(RunError, match="belongs to another event loop"):
            await call
    assert box.requests == []


async def test_closing_a_session_ends_its_calls(opened: Callable[..., Sandbox]) -> None:
    box = opened("* * latency=30")
    async with polygon_async.session(rate="unlimited") as session:
        calls = [asyncio.create_task(session.fetch_bars(each, DAY, DAY)) for each in ("QQ", ["AAPL", "MSFT"])]
        while len(box.requests) < 3:  # noqa: ASYNC110 (the sandbox has no event)
            await asyncio.sleep(0.01)
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(ended, RunError)
        assert "closed before all bars were fetched" in str(ended)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_call_in_a_session_that_is_cancelled_stays_cancelled(opened: Callable[..., Sandbox]) -> None:
    box = opened("QQ * latency=30")
    async with polygon_async.session(rate="unlimited") as session:
        call = asyncio.create_task(session.fetch_bars(["QQ"], DAY, DAY))
        while not box.requests:  # noqa: ASYNC110 (the sandbox has no event)
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(await session.fetch_bars("AAPL", DAY, DAY)) > 0, "the session goes on"


def test_a_wrong_argument_is_told_before_anything_is_opened() -> None:
    with pytest.raises(ConfigError, match="rate='5': must be N/s"):
        polygon_async.session(rate="5", api_key="key")


def test_no_variable_is_asked_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_FROM", "nonsense")
    monkeypatch.setenv("POLYGON_API_KEY", "secret-key")
    assert "secret" not in repr(polygon_async.session())
