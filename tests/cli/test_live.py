"""Progress: time that is left without nonsense, and what everybody waits for, at any rate."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re

import pytest

from polygon_async.cli import live
from polygon_async.cli.live import Speed, show, spell_requests
from polygon_async.model.counters import ASKING, Counters, Down
from polygon_async.model.rate import parse_rate
from polygon_async.model.states import OutcomeState
from polygon_async.polygon.pace.limiter import Pacer


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


async def test_time_left_knows_the_rate_and_leaves_pauses_out(clock: Clock) -> None:
    counters, pacer = Counters(), Pacer(5 / 60)
    pace = Speed(counters, 1001)
    assert pace.left(pacer) == "", "nothing has ended: nothing is known"
    counters.ended[OutcomeState.SAVED] += 1
    counters.requests = 2
    clock.now += 12
    assert pace.left(pacer) == "6:40:00 left", "1,000 tickers of 2 requests, 12 s each"
    # Without a rate, what tickers took so far is all there is to go by; a pause is no part of it.
    fast = Pacer(None)
    counters.ended[OutcomeState.SAVED] += 9
    counters.measures.seconds["pauses"] = 10.0
    clock.now += 8
    assert pace.left(fast) == "0:16:31 left"
    counters.ended[OutcomeState.SAVED] = 1001
    assert pace.left(fast) == ""


async def test_what_everybody_waits_for_is_told() -> None:
    counters, rate = Counters(), parse_rate("5/min")
    pacer = Pacer(5 / 60)
    pace = Speed(counters, 3)
    assert spell_requests(pace, rate, pacer, counters) == "0.0/min of 5/min"
    await pacer.acquire()
    assert spell_requests(pace, rate, pacer, counters).endswith(" of 5/min, next request in 12 s")
    pacer.pause(41.0)
    assert spell_requests(pace, rate, pacer, counters).endswith(", paused by the API for 41 s")
    stored = Pacer(50.0)
    counters.in_flight |= {"A": "uploading", "B": "waiting for the bucket"}
    assert spell_requests(pace, rate, stored, counters).endswith(", waiting for the bucket")
    counters.in_flight["C"] = ASKING
    assert spell_requests(pace, rate, stored, counters).endswith(" of 5/min")


async def test_an_outage_is_shown_with_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SECONDS_BETWEEN_LINES", 0.0)
    counters, told = Counters(), asyncio.Event()
    counters.down = Down("HTTP 503", until=asyncio.get_running_loop().time() + 90)

    def hear(record: logging.LogRecord) -> bool:
        told.set()
        return True

    monkeypatch.setattr(live.log, "filters", [hear])
    _, watcher = show(parse_rate("5/min"), quiet=False, plain=True)
    assert watcher is not None
    with caplog.at_level(logging.INFO):
        async with watcher.watch(counters, Pacer(None), 3):
            await told.wait()
    ends = dt.datetime.now().astimezone() + dt.timedelta(seconds=90)
    line = caplog.records[0].getMessage()
    found = re.search(r"; the API is down; waiting until (\d\d:\d\d:\d\d) \(HTTP 503\)$", line)
    assert found is not None, line
    told_end = dt.time.fromisoformat(found[1])
    assert told_end in {(ends - dt.timedelta(seconds=back)).time().replace(microsecond=0) for back in range(5)}


@pytest.mark.parametrize(("quiet", "plain"), [(True, False), (False, True), (False, False)])
def test_nobody_watches_what_is_quiet(quiet: bool, plain: bool) -> None:
    _, watcher = show(parse_rate("5/min"), quiet=quiet, plain=plain)
    assert (watcher is None) is quiet
