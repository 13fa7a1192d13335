"""The market of the sandbox: the same bars on every machine, and all of them possible."""

from __future__ import annotations

import datetime as dt
import json
import random
import re

import pytest
from browser import DAY

from polygon_async.sandbox import Market
from polygon_async.sandbox.profile import asset_type, day_start_ms, profile


@pytest.mark.parametrize("ticker", ["AAPL", "QQ", "X:BTCUSD", "C:EURUSD", "I:SPX", "O:SPY251219C00650000", "GAPPY"])
def test_any_part_of_a_range_is_that_part_of_the_whole(ticker: str) -> None:
    market, chance = Market(), random.Random(ticker)
    start, end = day_start_ms(ticker, dt.date(2025, 10, 30)), day_start_ms(ticker, dt.date(2025, 11, 5)) - 1
    whole = market.bars(ticker, start, end)
    assert [bar.t for bar in whole] == sorted({bar.t for bar in whole})
    for _ in range(10):
        first, last = sorted(chance.randrange(start, end) for _ in range(2))
        expected = [bar for bar in whole if first <= bar.t <= last]
        assert market.bars(ticker, first, last) == expected
        cut = market.cut(ticker, first, last, limit=7, descending=True)
        assert [json.loads(row)["t"] for row in cut.split()] == [bar.t for bar in expected[::-1][:7]]
        assert cut.more == (len(expected) > 7)


def test_bars_are_the_same_on_every_machine() -> None:
    bar = Market().days("AAPL", DAY, DAY)[0]
    assert (bar.t, bar.o, bar.h, bar.l, bar.c) == (1772528400000, "336.01", "336.07", "335.92", "335.94")
    assert (bar.v, bar.vw, bar.n, bar.otc) == ("181034", "336.0491", "974", False)


@pytest.mark.parametrize("ticker", ["AAPL", "PENNY", "X:BTCUSD", "C:EURUSD", "SPLIT", "O:SPY251219C00650000"])
@pytest.mark.parametrize("adjusted", [True, False])
def test_bars_are_possible(ticker: str, adjusted: bool) -> None:
    for bar in Market().days(ticker, DAY, DAY + dt.timedelta(days=3), adjusted=adjusted):
        low, high = float(bar.l), float(bar.h)
        assert 0 < low <= min(float(bar.o), float(bar.c)) <= max(float(bar.o), float(bar.c)) <= high
        assert not bar.vw or low <= float(bar.vw) <= high
        assert float(bar.v) > 0
        assert not bar.n or int(bar.n) > 0
        assert re.fullmatch(r"\d+(\.\d{1,6})?", bar.v)
        assert all(re.fullmatch(r"\d+(\.\d{1,4})?", text) for text in (bar.o, bar.h, bar.l, bar.c))


def test_numbers_come_in_all_forms() -> None:
    bars = Market().days("AAPL", DAY, DAY + dt.timedelta(days=9))
    assert any(bar.v.endswith(".0") for bar in bars)
    assert any("." not in bar.v for bar in bars)
    assert any(len(bar.v.partition(".")[2]) == 6 for bar in bars)
    assert any("." not in bar.c for bar in bars)


def test_sessions_follow_new_york_and_its_clocks() -> None:
    def first_and_last(day: dt.date) -> tuple[str, str]:
        stamps = [bar.t for bar in Market().days("AAPL", day, day)]
        ends = (dt.datetime.fromtimestamp(t / 1000, dt.UTC) for t in (min(stamps), max(stamps)))
        first, last = (f"{moment:%H:%M}" for moment in ends)
        return first[:4], last[:4]

    assert first_and_last(dt.date(2026, 3, 6)) == ("09:0", "00:5")
    assert first_and_last(dt.date(2026, 3, 9)) == ("08:0", "23:5")
    assert not Market().days("AAPL", dt.date(2026, 3, 7), dt.date(2026, 3, 8))
    assert Market().days("X:BTCUSD", dt.date(2026, 3, 7), dt.date(2026, 3, 8))
    friday = Market().days("C:EURUSD", dt.date(2026, 3, 6), dt.date(2026, 3, 8))
    hours = {dt.datetime.fromtimestamp(bar.t / 1000, dt.UTC).strftime("%a %H") for bar in friday}
    assert {"Fri 21", "Sun 21", "Sun 22"} <= hours
    assert not {hour for hour in hours if hour.startswith("Sat")} | ({"Fri 22", "Sun 20"} & hours)


def test_a_busy_ticker_fills_nine_tenths_of_a_day() -> None:
    assert 0.87 * 960 < len(Market().days("AAPL", DAY, DAY)) < 0.95 * 960


def test_names_decide() -> None:
    market, year = Market(), (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
    assert not market.days("NODATA7", *year)
    assert not market.days("X:NODATA", *year)
    late = market.days("LATE3", *year)
    assert day_start_ms("LATE3", dt.date(2025, 11, 3)) <= late[0].t < day_start_ms("LATE3", dt.date(2025, 11, 4))
    assert all(bar.otc for bar in market.days("OTCX", DAY, DAY))
    assert not any(bar.otc for bar in market.days("AAPL", DAY, DAY))
    gappy = market.days("GAPPY", DAY, DAY + dt.timedelta(days=5))
    assert {(bool(bar.vw), bool(bar.n)) for bar in gappy} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    assert {bar.v + bar.vw + bar.n for bar in market.days("I:SPX", DAY, DAY)} == {""}
    types = [asset_type(name) for name in ("X:A", "C:A", "I:A", "O:A", "A", "AX:B")]
    assert types == ["crypto", "forex", "indices", "options", "stocks", "stocks"]


def test_a_split_shows_in_unadjusted_prices_before_its_day() -> None:
    before, after = dt.date(2025, 6, 6), dt.date(2025, 6, 9)
    market = Market()
    for day, ratio in ((before, 4), (after, 1)):
        pairs = zip(market.days("SPLIT", day, day), market.days("SPLIT", day, day, adjusted=False), strict=True)
        assert all(round(float(a.c) * ratio, 4) == float(b.c) for a, b in pairs)
    assert not profile("MSFT").splits
