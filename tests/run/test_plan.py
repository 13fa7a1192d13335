"""`plan`: what it says comes true, what it costs is little, and what looks like a mistake is told."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit, today
from polygon_async.report.estimate import Density, Span, estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

MONTH = ("--from", "2026-03-02", "--to", "2026-03-31")


def unit(symbol: str) -> Unit:
    """A ticker over March 2026, which has 22 sessions of stocks and 31 days."""
    ticker = Ticker(symbol, AssetType.of(symbol), "unknown", "USD")
    return Unit(ticker=ticker, start=dt.date(2026, 3, 1), end=dt.date(2026, 3, 31), adjusted=True)


def test_a_plan_comes_true(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    flags = ("--tickers", "AAPL", "MSFT", "GAPPY", "QQ", *MONTH, "--rate", "50/s", "--no-upload", "--json")
    planned = program("plan", *flags, box=box)
    assert planned.code == 0, planned.err
    plan = planned.summary
    assert (len(box.requests), plan["sampled"], plan["rests_on"]) == (3, 3, {"sample": 3, "others": 1})
    assert plan["sessions"] == {"stocks": 22}
    assert not (program.directory / "output").exists()
    ended = program(*flags, box=box)
    low, high = plan["bars"]
    assert low <= ended.summary["bars"] <= high
    low, high = plan["requests"]
    assert low <= ended.summary["requests"] <= high
    assert ended.summary["estimate"]["rests_on"] == {"assumption": 4}
    (time,) = plan["times"]
    assert time == {"rate": 50, "seconds": [round(low / 50), round(high / 50)]}

    box.forget_requests()
    again = program("plan", *flags, "--offline", box=box, env={"POLYGON_API_KEY": None}).summary
    assert (again["tickers"], again["requests"]) == ({"total": 4, "done": 4, "todo": 0}, [0, 0])
    later = program(
        "plan", *flags[:5], "--from", "2026-04-01", "--to", "2026-04-30", *flags[9:], "--offline", box=box
    ).summary
    assert (later["rests_on"], box.requests) == ({"ledger": 4}, [])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--from", "2026-03-07", "--to", "2026-03-08"), "warning: the range has no session"),
        (("--from", "2010-01-04", "--to", "2010-01-29", "--rate", "5/min"), "warning: the free plan reaches back two"),
        ((*MONTH, "--rate", "1/h"), "warning: at 0.017/min this may take 5"),
        (("--from", "1975-01-02"), "warning: at 5/min, the free plan's rate, this may take 2."),
        (("--to", f"{today() + dt.timedelta(days=9)}"), "is not over yet: its last bars are not final"),
    ],
)
def test_what_looks_like_a_mistake_is_told(flags: tuple[str, ...], said: str, program: Program) -> None:
    (program.directory / "u.csv").write_text("ticker\n" + "".join(f"Q{number}\n" for number in range(60)))
    ended = program("plan", "--universe", "u.csv", "--no-upload", *flags, "--offline")
    assert ended.code == 0, ended.err
    assert said in ended.out


def test_a_range_without_a_session_costs_no_request(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("plan", "--tickers", "AAPL", "--from", "2026-03-07", "--to", "2026-03-08", "--json", box=box)
    assert ended.code == 0, ended.err
    assert (ended.summary["sampled"], box.requests) == (0, [])


def test_a_plan_without_a_key_or_tickers_is_one_line(program: Program) -> None:
    for arguments in (("--tickers", "A"), ("--offline",)):
        ended = program("plan", *arguments)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_what_is_known_of_some_narrows_the_rest() -> None:
    alone = estimate([unit("A"), unit("X:BTCUSD")], {})
    assert alone.bases == {"assumption": 2}
    assert alone.sessions == {"stocks": 22, "crypto": 31}
    assert alone.bars == Span(22 + 31, 22 * 960 + 31 * 1440)
    known = {"A": Density(bars=400, basis="ledger"), "B": Density(bars=100, basis="sample")}
    better = estimate([unit("A"), unit("B"), unit("C")], known)
    assert better.bases == {"ledger": 1, "sample": 1, "others": 1}
    assert better.bars == Span(22 * (300 + 75 + 75), 22 * (500 + 125 + 500))
    assert better.requests == Span(3, 6), "a page each, and a second look at what may be empty"


def test_long_ranges_count_their_pages_and_windows() -> None:
    ticker = Ticker("X:BTCUSD", AssetType.CRYPTO, "unknown", "USD")
    year = Unit(ticker=ticker, start=dt.date(2024, 1, 1), end=dt.date(2024, 12, 31), adjusted=True)
    found = estimate([year], {"X:BTCUSD": Density(bars=1440, basis="ledger")}, lookups=7)
    assert found.requests.low == 8  # 395,280 of 527,040 bars
    assert found.requests.high == 17 + 7  # 658,800: 14 pages, a tenth more and one, and the look-ups
