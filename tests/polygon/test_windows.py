"""A long range cut into windows is the same range, costs hardly more requests, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import math
import random
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from hypothesis import given, settings
from hypothesis import strategies as st

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.page import Border
from polygon_async.errors import TickerError
from polygon_async.model.counters import Counters
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit
from polygon_async.polygon.bar_requests import PageRequest
from polygon_async.polygon.session import open_polygon
from polygon_async.polygon.walk import RestSource, Step, next_minute
from polygon_async.polygon.windows import Cutter, Slots
from polygon_async.sandbox import Sandbox
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60_000


def unit_of(symbol: str, first: dt.date, days: int) -> Unit:
    ticker = Ticker(symbol, AssetType.of(symbol), "unknown", "USD")
    return Unit(ticker=ticker, start=first, end=first + dt.timedelta(days=days - 1), adjusted=True)


def fetch(
    unit: Unit,
    box: Sandbox,
    slots: Slots | None,
    *,
    cutter: type[Cutter] = Cutter,
    rate: str = "unlimited",
    stop_after: int | None = None,
) -> tuple[str, Counters]:
    """The CSV of a unit's pages, perhaps not all of them; nothing may be under way afterwards."""

    async def rows() -> tuple[str, Counters]:
        flags = {"rate": rate, "patience": "5", "concurrency": "8", "processes": "0"}
        counters, csv, count = Counters(), bytearray(CSV_HEADER), 0
        async with (
            Threads(2) as offload,
            open_polygon(
                settings_from(flags, Environment(box.environment, {})).access, offload=offload, counters=counters
            ) as polygon,
        ):
            tasks = asyncio.all_tasks()
            try:
                async with contextlib.aclosing(
                    RestSource(client=polygon, counters=counters, slots=slots, cutter=cutter).pages(unit)
                ) as chain:
                    async for page in chain:
                        csv += page.rows
                        count += 1
                        if count == stop_after:
                            break
            finally:
                assert asyncio.all_tasks() == tasks
        return csv.decode(), counters

    return asyncio.run(rows())


@settings(deadline=None, max_examples=40)
@given(
    symbol=st.sampled_from(["AAPL", "PENNY", "GAPPY", "OTCX", "X:BTCUSD", "C:EURUSD", "I:SPX", "NODATA", "LATE"]),
    page_size=st.integers(40, 3000),
    first=st.dates(dt.date(2025, 10, 28), dt.date(2025, 11, 5)),
    days=st.integers(1, 8),
    total=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_windows_of_any_size_bring_what_one_chain_brings(
    symbol: str, page_size: int, first: dt.date, days: int, total: int, seed: int
) -> None:
    unit, chance = unit_of(symbol, first, days), random.Random(seed)

    class Anywhere(Cutter):
        can_afford = True

        def end(self, begin: int, last: int) -> int:
            return min(begin + chance.randrange(1, 600) * MINUTE - 1, last)

    slots = Slots(total, busy=1)
    with Sandbox(page_size=page_size) as box:
        cut, _ = fetch(unit, box, slots, cutter=Anywhere)
        sized, _ = fetch(unit, box, slots)
        truth = csv_of(box.market.days(symbol, unit.start, unit.end))
    assert cut == truth
    assert sized == truth
    assert slots == Slots(total, busy=1)


@pytest.mark.parametrize(("page_size", "days"), [(1000, 35), (440, 20)])
def test_windows_cost_at_most_a_tenth_more_requests(page_size: int, days: int) -> None:
    unit = unit_of("X:BTCUSD", dt.date(2026, 3, 2), days)
    with Sandbox(page_size=page_size) as box:
        csv, counters = fetch(unit, box, Slots(8, busy=1))
    fewest = math.ceil((csv.count("\n") - 1) / page_size)
    assert fewest <= counters.requests <= math.floor(1.1 * fewest) + 1


def test_what_fits_one_page_is_one_request() -> None:
    with Sandbox() as box:
        _, counters = fetch(unit_of("AAPL", dt.date(2026, 3, 2), 5), box, Slots(8, busy=1))
    assert counters.requests == 1


@pytest.mark.parametrize(
    ("slots", "rate", "page_size"),
    [
        pytest.param(Slots(1, busy=1), "unlimited", 500, id="every slot is taken"),
        pytest.param(Slots(8, busy=8), "unlimited", 500, id="every slot is another ticker's"),
        pytest.param(Slots(8, busy=1, waiting=1), "unlimited", 500, id="a ticker is waiting"),
        # Unless an answer took over half a second.
        pytest.param(Slots(8, busy=1), "2/s", 3000, id="the pace leaves no room"),
    ],
)
def test_nothing_is_cut_where_nobody_stands_idle(slots: Slots, rate: str, page_size: int) -> None:
    unit = unit_of("X:BTCUSD", dt.date(2026, 3, 2), 5)
    with Sandbox(page_size=page_size) as box:
        csv, counters = fetch(unit, box, slots, rate=rate)
        assert csv == csv_of(box.market.days("X:BTCUSD", unit.start, unit.end))
        assert [request.page for request in box.requests] == list(range(1, counters.requests + 1))
        assert counters.requests > 2


@pytest.mark.parametrize(
    "trouble", ["status=503 1x", "drop 1x", "cut_gzip 1x", "reset 1x", "rate429=1 1x", "duplicate"]
)
def test_passing_trouble_in_windows_changes_nothing(trouble: str) -> None:
    unit = unit_of("X:BTCUSD", dt.date(2026, 3, 2), 6)
    with Sandbox(page_size=500, troubles=[f"* * {trouble}"]) as box:
        csv, _ = fetch(unit, box, Slots(4, busy=1))
        assert csv == csv_of(box.market.days("X:BTCUSD", unit.start, unit.end))


@pytest.mark.parametrize(
    "trouble", ["3 count_lie", "3 disorder", "3 outside", "3 other_ticker", "3 status=404", "2 next_ticker"]
)
def test_lasting_trouble_in_windows_fails_and_leaves_nothing_running(trouble: str) -> None:
    slots = Slots(4, busy=1)
    with Sandbox(page_size=500, troubles=[f"* {trouble}"]) as box, pytest.raises(TickerError):
        # The second page is a window's first one, the third follows it there.
        fetch(unit_of("X:BTCUSD", dt.date(2026, 3, 2), 6), box, slots, cutter=_Overflowing)
    assert slots == Slots(4, busy=1)


class _Overflowing(Cutter):
    """Windows of three pages: each has a second and a third one."""

    can_afford = True

    def end(self, begin: int, last: int) -> int:
        return min(begin + 1400 * MINUTE - 1, last)


@pytest.mark.parametrize(("last", "start", "begin"), [(0, 60_000, 60_000), (0, 1, 60_000), (0, 60_001, 60_000)])
def test_windows_begin_with_a_whole_minute_that_is_not_done(last: int, start: int, begin: int) -> None:
    """An API may name the very millisecond after a bar, and pull it to its minute's start all the same."""
    step = Step(unit_of("AAPL", dt.date(2026, 3, 2), 1), PageRequest(path="", query="", start=start), Border(last=last))
    assert next_minute(step) == begin


def test_who_stops_reading_stops_the_windows(sandbox: Callable[..., Sandbox]) -> None:
    slots = Slots(8, busy=1)
    box = sandbox(page_size=500)
    csv, _ = fetch(unit_of("X:BTCUSD", dt.date(2026, 3, 2), 20), box, slots, stop_after=2)
    assert csv.count("\n") - 1 <= 1000
    assert slots == Slots(8, busy=1)
