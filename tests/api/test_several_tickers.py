"""Bars of several tickers in one call: one frame, or an error that names all that failed."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from polygon_async import ConfigError, RunError, TickerError, fetch_bars, session
from polygon_async.errors import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)
ASKED = ["X:BTCUSD", "QQ", "NODATA", "QQ", "AAPL"]
EACH = ["X:BTCUSD", "QQ", "NODATA", "AAPL"]


async def test_they_come_as_one_frame_in_the_order_asked(opened: Callable[..., Sandbox]) -> None:
    opened(page_size=300)
    frame = await fetch_bars(iter(ASKED), DAY, DAY, rate="unlimited")

    assert frame.columns[0] == "ticker"
    assert frame["ticker"].cat.categories.tolist() == EACH
    assert frame["ticker"].drop_duplicates().tolist() == ["X:BTCUSD", "QQ", "AAPL"]
    assert frame.index.tolist() == list(range(len(frame)))
    for ticker in EACH:
        alone = await fetch_bars(ticker, DAY, DAY, rate="unlimited")
        part = frame[frame["ticker"] == ticker].drop(columns="ticker").reset_index(drop=True)
        assert part.equals(alone.astype(part.dtypes.to_dict())), ticker
        assert part.dtypes.to_dict() == alone.dtypes.to_dict() or not len(alone)


async def test_a_list_of_one_has_the_column_too(opened: Callable[..., Sandbox]) -> None:
    opened()
    one, nothing = await asyncio.gather(
        fetch_bars(["QQ"], DAY, DAY, rate="unlimited"), fetch_bars(("NODATA",), DAY, DAY, rate="unlimited")
    )
    assert list(one.columns) == list(nothing.columns) == ["ticker", *one.columns[1:]]
    assert len(one) > len(nothing) == 0
    assert nothing["ticker"].cat.categories.tolist() == ["NODATA"]


async def test_a_frame_is_grouped_and_sorted_without_doubt(opened: Callable[..., Sandbox]) -> None:
    opened()
    frame = await fetch_bars(["QQ", "AAPL"], DAY, DAY, rate="unlimited")
    assert set(frame.columns).isdisjoint(frame.index.names)
    assert frame.groupby("ticker", observed=True)["close"].count().to_dict() == frame["ticker"].value_counts().to_dict()
    assert frame.sort_values("timestamp")["timestamp"].is_monotonic_increasing
    assert list(frame.reset_index().columns) == ["index", *frame.columns]


def in_flight(box: Sandbox, latency: float) -> int:
    """The most requests at once: an answer takes the latency at least, so no more arrive within it."""
    moments = [request.time for request in box.requests]
    return max(sum(0 <= other - moment < latency for other in moments) for moment in moments)


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_than_asked_are_in_flight(opened: Callable[..., Sandbox], most: int) -> None:
    box = opened(latency=0.3)
    tickers = [f"A{number}" for number in range(2 * most + 1)]
    await fetch_bars(tickers, DAY, DAY, rate="unlimited", concurrency=most)
    assert in_flight(box, 0.3) == most
    box.forget_requests()

    async with session(rate="unlimited", concurrency=most) as shared:
        await asyncio.gather(*(shared.fetch_bars(each, DAY, DAY) for each in tickers))
    assert in_flight(box, 0.3) == most


async def test_an_error_names_all_that_failed_when_the_others_have_ended(opened: Callable[..., Sandbox]) -> None:
    box = opened("QQ * status=404", "AAPL * status=403", "SPLIT * latency=0.3")
    with pytest.raises(TickerError) as caught:
        await fetch_bars(["SPLIT", "QQ", "GAPPY", "AAPL"], DAY, DAY, rate="unlimited", concurrency=2)

    assert str(caught.value).startswith("QQ: HTTP 404")
    assert "; AAPL: HTTP 403" in str(caught.value)
    assert "SPLIT" not in str(caught.value)
    assert {request.ticker for request in box.requests} == {"SPLIT", "QQ", "GAPPY", "AAPL"}
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing goes on"


async def test_many_that_fail_alike_are_told_together(opened: Callable[..., Sandbox]) -> None:
    opened("A* * status=404", "B* * status=403")
    tickers = [f"{letter}{number}" for number in range(10) for letter in "AB"]
    with pytest.raises(TickerError) as caught:
        await fetch_bars([*tickers, "QQ"], DAY, DAY, rate="unlimited")
    alike = str(caught.value).split("; ")
    assert [text.partition(": HTTP ")[0] for text in alike] == [", ".join(tickers[::2]), ", ".join(tickers[1::2])]


async def test_what_fails_all_ends_all(opened: Callable[..., Sandbox]) -> None:
    box = opened("* * latency=0.05")
    tickers = [f"A{number}" for number in range(50)]
    with pytest.raises(RunError, match="does not accept the key in api_key") as caught:
        await fetch_bars(tickers, DAY, DAY, rate="unlimited", api_key="wrong", concurrency=3)
    assert type(caught.value) is KeyRefused
    assert len(box.requests) <= 6
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_call_that_is_cancelled_leaves_nothing_behind(opened: Callable[..., Sandbox]) -> None:
    box = opened("* * latency=30")
    call = asyncio.create_task(fetch_bars(["QQ", "AAPL"], DAY, DAY, rate="unlimited"))
    while len(box.requests) < 2:  # noqa: ASYNC110 (the sandbox has no event)
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_ticker_is_refused(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    with pytest.raises(ConfigError, match="tickers is empty"):
        await fetch_bars([], DAY, DAY)
    async with session(rate="unlimited") as opened_one:
        with pytest.raises(ConfigError, match="tickers is empty"):
            await opened_one.fetch_bars((), DAY, DAY)
    assert box.requests == []
