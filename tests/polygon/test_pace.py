"""The pace: tokens evenly spaced, pauses that all obey, by a clock that the test controls; and once for real."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import check_pace, in_virtual_time, now

from polygon_async.model.rate import parse_rate
from polygon_async.polygon.pace.limiter import Pacer, fine_sleep
from polygon_async.polygon.refusals import retry_after_seconds
from polygon_async.run import pipeline
from polygon_async.sandbox import Market
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from polygon_async.sandbox import Sandbox


RATES = ["5/min", "1/h", "7/s", "50/s", "200/s"]
FEW = settings(deadline=None, max_examples=40)


def per_second(text: str) -> float:
    rate = parse_rate(text).per_second
    assert rate is not None
    return rate


def exact(rate: float | None = None) -> Pacer:
    """A pacer for a clock whose timers are exact."""
    return Pacer(rate, sleep=asyncio.sleep)


async def tokens(pacer: Pacer, arrivals: Sequence[float]) -> list[tuple[float, int]]:
    """When each of those who arrive at these moments got its token, in the order of the tokens."""
    got: list[tuple[float, int]] = []

    async def ask(number: int, moment: float) -> None:
        await asyncio.sleep(moment)
        waited = await pacer.acquire()
        assert waited == pytest.approx(now() - moment, abs=1e-6)
        got.append((now(), number))

    async with asyncio.TaskGroup() as askers:
        for number, moment in enumerate(arrivals):
            askers.create_task(ask(number, moment))
    return got


# The bucket


@pytest.mark.parametrize("text", RATES)
@FEW
@given(gaps=st.lists(st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.999, 1.0, 1.7, 20.0]), min_size=1, max_size=40))
def test_no_stretch_holds_more_than_its_share_whoever_comes_when(text: str, gaps: list[float]) -> None:
    rate = per_second(text)
    arrivals = list(itertools.accumulate(gap / rate for gap in gaps))
    got = in_virtual_time(tokens(exact(rate), arrivals))
    assert [arrivals[number] for _, number in got] == arrivals
    check_pace([moment for moment, _ in got], rate)
    # Nobody waits for longer than the tokens before need.
    due = 0.0
    for (moment, _), arrival in zip(got, arrivals, strict=True):
        due = max(due, arrival)
        assert moment <= due + 0.001 / rate + 1e-6
        due = moment + 1 / rate


@pytest.mark.parametrize("text", RATES)
def test_demand_uses_nearly_all_of_the_pace(text: str) -> None:
    rate = per_second(text)
    moments = [moment for moment, _ in in_virtual_time(tokens(exact(rate), [0.0] * 300))]
    check_pace(moments, rate)
    assert 299 / (moments[-1] - moments[0]) >= 0.999 * rate


@pytest.mark.parametrize(
    ("text", "share"), [("5/min", 0.98), ("7/s", 0.98), ("50/s", 0.98), ("100/s", 0.95), ("200/s", 0.95)]
)
def test_coarse_timers_cost_next_to_nothing(text: str, share: float) -> None:
    rate = per_second(text)
    count = 200
    # Timers that are late by a millisecond, turns that take a while: the pace is kept all the same.
    pacer = Pacer(rate, sleep=fine_sleep)
    moments = [moment for moment, _ in in_virtual_time(tokens_in_a_row(pacer, count), turn=5e-5, tick=1e-3)]
    check_pace(moments, rate)
    assert (count - 1) / (moments[-1] - moments[0]) >= share * rate


async def tokens_in_a_row(pacer: Pacer, count: int) -> list[tuple[float, int]]:
    """As tokens(), for workers who come again as soon as they have got one."""
    got: list[tuple[float, int]] = []

    async def work() -> None:
        while len(got) < count:
            await pacer.acquire()
            got.append((now(), len(got)))

    async with asyncio.TaskGroup() as workers:
        for _ in range(8):
            workers.create_task(work())
    return got[:count]


def test_without_a_rate_nobody_waits() -> None:
    assert in_virtual_time(tokens(exact(), [0.0] * 100)) == [(0.0, number) for number in range(100)]


@FEW
@given(leaving=st.sets(st.integers(0, 9), max_size=9), after=st.floats(0.01, 9))
def test_who_leaves_the_line_takes_nothing_along(leaving: set[int], after: float) -> None:
    async def story() -> list[tuple[float, int]]:
        pacer = exact(1.0)
        got: list[tuple[float, int]] = []

        async def ask(number: int) -> None:
            await pacer.acquire()
            got.append((now(), number))

        askers = [asyncio.create_task(ask(number)) for number in range(10)]
        await asyncio.sleep(after)
        for number in leaving:
            askers[number].cancel()
        await asyncio.wait(askers)
        return got

    got = in_virtual_time(story())
    moments, numbers = [moment for moment, _ in got], [number for _, number in got]
    assert numbers == sorted(numbers)
    assert set(range(10)) - leaving <= set(numbers)
    check_pace(moments, 1.0)
    # Nobody's place in the line stays empty: as many tokens as seconds.
    assert moments[-1] - moments[0] <= len(moments) - 1 + 1e-3


# Pauses


def test_nobody_gets_a_token_during_a_pause() -> None:
    async def story() -> list[tuple[float, int]]:
        pacer = exact(10.0)
        asyncio.get_running_loop().call_later(1.05, pacer.pause, 7.0)
        return await tokens(pacer, [0.0] * 20)

    moments = [moment for moment, _ in in_virtual_time(story())]
    check_pace(moments, 10.0)
    assert not [moment for moment in moments if 1.05 < moment < 8.05]
    assert min(moment for moment in moments if moment > 1.05) == pytest.approx(8.05, abs=1e-3)


def test_a_pause_holds_without_a_rate_too() -> None:
    async def story() -> list[tuple[float, int]]:
        pacer = exact()
        pacer.pause(3.0)
        return await tokens(pacer, [0.0, 1.0, 2.0, 4.0])

    assert [moment for moment, _ in in_virtual_time(story())] == pytest.approx([3.0, 3.0, 3.0, 4.0], abs=1e-3)


@pytest.mark.parametrize(
    ("pauses", "ends"),
    [
        ([(0.0, 5.0), (1.0, 1.0)], 5.0),
        ([(0.0, 1.0), (0.5, 5.0)], 5.5),
        ([(0.0, 5.0), (4.0, 5.0)], 9.0),
        ([(0.0, 0.0)], 0.0),
    ],
    ids=["a shorter one", "a longer one", "one after the other", "none"],
)
def test_pauses_that_overlap_end_with_the_last(pauses: list[tuple[float, float]], ends: float) -> None:
    async def story() -> float:
        pacer, loop = exact(), asyncio.get_running_loop()
        for begins, seconds in pauses:
            loop.call_at(begins, pacer.pause, seconds)
        await asyncio.sleep(max(begins for begins, _ in pauses))
        await asyncio.sleep(0)
        await pacer.acquire()
        return now()

    assert in_virtual_time(story()) == pytest.approx(ends, abs=1e-3)


async def refusals(pacer: Pacer, count: int, *, retry_after: float | None = None) -> list[float]:
    """How long the pauses are that so many 429s in a row bring."""
    pauses = []
    for _ in range(count):
        await pacer.acquire()
        pacer.refused(sent=now(), retry_after=retry_after)
        pauses.append(pacer.paused_for)
    return pauses


def test_pauses_without_a_word_grow_to_a_minute() -> None:
    assert in_virtual_time(refusals(exact(), 9)) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


@pytest.mark.parametrize("retry_after", [0.5, 3.0, 90.0])
def test_a_pause_is_as_long_as_it_was_told(retry_after: float) -> None:
    told = in_virtual_time(refusals(exact(), 4, retry_after=retry_after))
    assert told == pytest.approx([retry_after] * 4)


def test_many_refusals_at_once_are_one_step() -> None:
    async def story() -> list[float]:
        pacer = exact()
        pauses = []
        for _ in range(3):
            await pacer.acquire()
            sent = now()
            await asyncio.sleep(0.2)
            for _ in range(10):
                pacer.refused(sent=sent, retry_after=None)
            pauses.append(pacer.paused_for)
        return pauses

    assert in_virtual_time(story()) == pytest.approx([1, 2, 4])


def test_a_success_after_the_pause_takes_the_steps_back() -> None:
    async def story() -> list[float]:
        pacer = exact()
        first = await refusals(pacer, 3)
        sent_before = now() - 0.1
        pacer.succeeded(sent=sent_before)
        after_an_old_success = await refusals(pacer, 1)
        await pacer.acquire()
        pacer.succeeded(sent=now())
        return [*first, *after_an_old_success, *(await refusals(pacer, 2))]

    assert in_virtual_time(story()) == pytest.approx([1, 2, 4, 8, 1, 2])


def test_every_pause_is_told_once() -> None:
    async def story() -> list[float]:
        told: list[float] = []
        pacer = Pacer(None, sleep=asyncio.sleep, on_pause=told.append)
        for seconds in (2.0, 1.0, 2.0, 5.0):
            pacer.pause(seconds)
        return told

    assert in_virtual_time(story()) == [2.0, 5.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        (" 3 ", 3),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("²", None),
    ],
)
def test_a_retry_after_is_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S +0000", "%d %b %Y %H:%M:%S -0000"]
)
def test_a_retry_after_is_a_date(form: str) -> None:
    moment = dt.datetime.now(dt.UTC)
    told = retry_after_seconds({"Retry-After": (moment + dt.timedelta(hours=1)).strftime(form)})
    assert told is not None
    assert 3500 < told <= 3600
    assert retry_after_seconds({"Retry-After": (moment - dt.timedelta(hours=1)).strftime(form)}) == 0


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(max_size=20)
    | st.builds(
        "Wed, {} Oct {} {}:28:00 {:+}".format,
        st.integers(0, 40),
        st.integers(0, 10**6),
        st.integers(0, 99),
        st.integers(-(10**20), 10**20),
    )
    | st.integers(0, 10**400).map(str)
)
def test_any_retry_after_is_a_finite_pause_or_none(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text})
    # A day is more than anybody means; beyond that the clock of a run should not stop.
    assert seconds is None or 0 <= seconds <= 86_400


# For real


async def test_a_run_keeps_its_pace_retries_and_later_pages_included(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    day, rate = dt.date(2026, 3, 3), 25
    symbols = [f"P{number}" for number in range(6)]
    box = sandbox("P1 1 status=503 2x", "P2 2 rate429=1 1x", "P3 1 cut_gzip 2x", "P4 * reset 1x", page_size=80)
    flags = {
        "from": str(day), "to": str(day), "rate": f"{rate}/s", "concurrency": "6", "processes": "0",
        "patience": "30", "upload": False, "output_dir": str(tmp_path),
    }  # fmt: skip
    asked = universe.from_names(symbols, universe.Defaults())
    plain = settings_from(flags, Environment(box.environment, {}))
    summary = await pipeline.download(plain, asked, redact=Redactor([box.api_key]))
    assert (summary.exit_code, len(summary.done)) == (0, len(symbols))
    moments = [request.time for request in box.requests]
    assert len(moments) == summary.counters.requests > 25
    assert sum(summary.counters.retries.values()) >= 7
    pages = sum(-(-len(Market().days(symbol, day, day)) // 80) for symbol in symbols)
    assert pages + sum(summary.counters.retries.values()) <= len(moments)
    # A request may be on its way for longer than the one behind it; retries that paid nothing would be seven too many.
    check_pace(moments, rate, tolerance=0.1)
