"""`--rate auto`: the limit is found, kept to and remembered; by a clock that the test controls, and twice for real."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import check_pace, in_virtual_time

import polygon_async
from polygon_async.cli.live import Speed, spell_requests
from polygon_async.model.counters import Counters
from polygon_async.model.rate import parse_rate, spell_rate
from polygon_async.polygon.pace.auto import AutoPacer, Search
from polygon_async.polygon.pace.limiter import Pacer
from polygon_async.polygon.pace.memory import LearnedRate, RateMemory, cache_file
from polygon_async.sandbox import Market

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 3)
FEW = settings(deadline=None, max_examples=30)
FREE_PLAN_SAYS = "You've exceeded the maximum requests per minute, please wait or upgrade your subscription"


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Plan:
    """What an API allows: so many in any stretch of `window` seconds, or in each by the clock."""

    limit: float = math.inf
    window: float = 60.0
    fixed: bool = False
    counts_refused: bool = False
    says: str = FREE_PLAN_SAYS
    spent: int = 0
    """Requests that somebody else had sent before the run began."""
    _counted: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._counted.extend([0.0] * self.spent)

    def admits(self, moment: float) -> bool:
        """Whether a request that arrives at `moment` is answered."""
        # The clock's windows begin in the middle of those of the test.
        begin = moment - (moment - 0.4 * self.window) % self.window if self.fixed else moment - self.window
        while self._counted and self._counted[0] <= begin:
            self._counted.popleft()
        admitted = len(self._counted) < self.limit
        if admitted or self.counts_refused:
            self._counted.append(moment)
        return admitted


@dataclass
class Run:
    """What happened in one."""

    sent: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    """The rates in force, each with the moment from which it was."""
    lesson: LearnedRate | None = None

    def pace(self, begin: float, end: float) -> float:
        """Requests a second in a stretch."""
        return sum(begin < moment <= end for moment in self.sent) / (end - begin)


def run(
    plan: Plan,
    seconds: float,
    *,
    workers: int = 8,
    latency: float = 0.15,
    lesson: LearnedRate | None = None,
    retry_after: float | None = None,
) -> Run:
    """Workers who ask a plan for pages for so long, in no time."""

    async def story() -> Run:
        search, happened = Search(lesson), Run()
        pacer = AutoPacer(search, sleep=asyncio.sleep)
        happened.rates.append((0.0, search.per_second))

        async def work() -> None:
            while now() < seconds:
                await pacer.acquire()
                sent = now()
                happened.sent.append(sent)
                await asyncio.sleep(latency / 2)
                admitted = plan.admits(now())
                await asyncio.sleep(latency / 2)
                if admitted:
                    pacer.succeeded(sent=sent)
                else:
                    happened.refused.append(now())
                    pacer.refused(sent=sent, retry_after=retry_after, said=plan.says)
                assert pacer.per_second == pytest.approx(search.per_second)
                if search.per_second != happened.rates[-1][1]:
                    happened.rates.append((now(), search.per_second))

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        happened.lesson = search.lesson
        return happened

    happened = in_virtual_time(story())
    check_pace_of_each_rate(happened)
    return happened


def check_pace_of_each_rate(happened: Run) -> None:
    """No stretch holds more than what the rates in force within it allow, and one."""
    moments = [*happened.rates, (math.inf, 0.0)]

    def allowed(until: float) -> float:
        return sum(rate * (min(end, until) - begin) for (begin, rate), (end, _) in pairwise(moments) if begin < until)

    check_pace([allowed(moment) for moment in happened.sent], 1.0, tolerance=1e-5)


# What is found


def test_a_plan_without_a_limit_is_used_to_what_the_vendor_advises() -> None:
    happened = run(Plan(), 60, workers=64)
    assert [rate for _, rate in happened.rates] == [3.5, 7, 14, 28, 56, 100]
    assert happened.rates[-1][0] < 8
    assert happened.pace(10, 60) == pytest.approx(100, rel=0.02)
    assert happened.lesson == LearnedRate(per_second=100.0, ceiling=None)


def test_the_rate_grows_only_where_it_is_the_limit() -> None:
    # Two workers whose answers take half a second cannot send more than four a second.
    happened = run(Plan(), 300, workers=2, latency=0.5)
    assert max(rate for _, rate in happened.rates) <= 8


@pytest.mark.parametrize(
    ("plan", "most"),
    [
        (Plan(5), 4),
        (Plan(5, counts_refused=True), 4),
        (Plan(5, fixed=True), 5),
        (Plan(5, spent=3), 6),
        (Plan(5, says=""), 16),
    ],
    ids=["rolling", "rolling, refused ones count", "fixed", "somebody else was there", "without a word"],
)
def test_the_free_plan_is_found_at_once(plan: Plan, most: int) -> None:
    happened = run(plan, 7200)
    assert happened.pace(3600, 7200) * 60 == pytest.approx(5, rel=0.04)
    assert len(happened.refused) <= most
    if plan.says:
        assert len([moment for moment in happened.refused if moment < 600]) <= (3 if plan.spent else 2)
        assert happened.lesson is not None
        assert spell_rate(happened.lesson.per_second) == "5/min"


def test_the_minute_that_is_spent_is_waited_for_and_no_longer() -> None:
    happened = run(Plan(5), 300)
    (refused,) = happened.refused
    after = [moment for moment in happened.sent if moment > refused]
    assert 59 < after[0] <= refused + 60
    assert after[1] - after[0] == pytest.approx(12.1, abs=0.01)


def test_a_retry_after_is_believed() -> None:
    happened = run(Plan(5), 60, retry_after=20.0)
    first = happened.refused[0]
    assert min(moment for moment in happened.sent if moment > first) == pytest.approx(first + 20, abs=0.01)


@pytest.mark.parametrize("fixed", [False, True], ids=["rolling", "fixed"])
@pytest.mark.parametrize("says", ["", FREE_PLAN_SAYS], ids=["without a word", "speaks of a minute"])
@pytest.mark.parametrize(("limit", "share"), [(20, 0.9), (6, 0.75), (2, 0.6)])
def test_another_plan_is_found_within_a_factor(limit: int, share: float, says: str, fixed: bool) -> None:
    happened = run(Plan(limit, 1.0, fixed=fixed, says=says), 200, workers=16)
    assert share * limit <= happened.pace(120, 200) <= limit
    # What is on its way when the first one is refused is refused, too.
    assert len(happened.refused) <= 4 + limit
    assert len([moment for moment in happened.refused if moment > 120]) <= 1


def test_who_knows_the_plan_begins_there() -> None:
    free = run(Plan(5), 300).lesson
    assert not run(Plan(5), 500, lesson=free).refused
    paid = run(Plan(20, 1.0), 300, workers=32).lesson
    again = run(Plan(20, 1.0), 300, workers=32, lesson=paid)
    assert not again.refused
    assert again.pace(0, 300) >= 18


def test_a_lesson_that_is_no_longer_true_is_unlearned() -> None:
    free = LearnedRate(per_second=5 / 60.5, ceiling=6 / 60)
    upgraded = run(Plan(), 950, workers=64, lesson=free)
    assert upgraded.rates[-1][1] == 100
    assert upgraded.rates[1][0] > 590
    ended = run(Plan(5), 600, lesson=LearnedRate(per_second=100.0, ceiling=None))
    assert ended.pace(300, 600) * 60 == pytest.approx(5, rel=0.05)


def test_a_stray_refusal_costs_half_for_half_a_minute() -> None:
    async def story() -> list[float]:
        search = Search(LearnedRate(per_second=100.0, ceiling=None))
        pacer = AutoPacer(search, sleep=asyncio.sleep)
        rates = []
        for number in range(8000):
            await pacer.acquire()
            if number == 500:
                pacer.refused(sent=now(), retry_after=None, said=FREE_PLAN_SAYS)
            else:
                pacer.succeeded(sent=now())
            rates.append(search.per_second)
        return rates

    rates = in_virtual_time(story())
    assert (rates[0], min(rates)) == (100, 50)
    assert rates[-1] > 80


# The pace, whatever is learned


@FEW
@given(
    limit=st.integers(1, 150),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    fixed=st.booleans(),
    says=st.sampled_from(["", FREE_PLAN_SAYS]),
    workers=st.integers(1, 40),
    latency=st.floats(0.001, 3.0),
    start=st.none() | st.floats(0.001, 1000.0),
)
def test_no_stretch_holds_more_than_its_rates_allow(
    limit: int, window: float, fixed: bool, says: str, workers: int, latency: float, start: float | None
) -> None:
    lesson = LearnedRate(per_second=start, ceiling=None) if start else None
    happened = run(Plan(limit, window, fixed=fixed, says=says), 90, workers=workers, latency=latency, lesson=lesson)
    assert max(rate for _, rate in happened.rates) <= 100
    check_pace(happened.sent, 100.0, tolerance=1e-6)


@FEW
@given(
    changes=st.lists(
        st.tuples(st.floats(0.0, 3.0), st.sampled_from([0.2, 1.0, 4.0, 7.5, 50.0])), min_size=1, max_size=25
    )
)
def test_a_change_gives_no_free_token(changes: list[tuple[float, float]]) -> None:
    async def story() -> Run:
        pacer, happened = Pacer(4.0, sleep=asyncio.sleep), Run(rates=[(0.0, 4.0)])

        async def change() -> None:
            for after, rate in changes:
                await asyncio.sleep(after)
                pacer.change(rate)
                happened.rates.append((now(), rate))

        task = asyncio.create_task(change())
        while not task.done() or len(happened.sent) < 3:
            await pacer.acquire()
            happened.sent.append(now())
        return happened

    check_pace_of_each_rate(in_virtual_time(story()))


# What is seen


def test_progress_says_the_rate_in_force(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> list[str]:
        pacer, counters = AutoPacer(Search(), sleep=asyncio.sleep), Counters()
        pace, seen = Speed(counters, 1), []
        for _ in range(6):
            await pacer.acquire()
        seen.append(spell_requests(pace, parse_rate("auto"), pacer, counters))
        sent = now()
        await asyncio.sleep(0.7)
        pacer.refused(sent=sent, retry_after=None, said=FREE_PLAN_SAYS)
        seen.append(spell_requests(pace, parse_rate("auto"), pacer, counters))
        return [*seen, spell_requests(pace, parse_rate("7/s"), Pacer(7.0), counters)]

    with caplog.at_level("INFO", "polygon_async"):
        before, after, fixed = in_virtual_time(story())
    assert before == "0.0/min of auto (now 3.5/s)"
    assert after == "0.0/min of auto (now 5/min), paused by the API for 59 s"
    assert fixed == "0.0/min of 7/s"
    assert caplog.messages == [
        "the API allows 5/min: rate lowered from 3.5/s",
        "this minute's requests are used up; the next one follows in 59 s",
    ]


@pytest.mark.parametrize(
    ("rate", "text"), [(4.0, "4/s"), (100.0, "100/s"), (22.6, "23/s"), (5 / 60.5, "5/min"), (0.9, "54/min")]
)
def test_rates_are_told_to_two_digits(rate: float, text: str) -> None:
    assert spell_rate(rate) == text


# What is remembered


LESSON = LearnedRate(per_second=12.5, ceiling=None)


def memory(
    path: Path | None, *, key: str = "a-key", url: str = "https://api.polygon.io", later: float = 0.0
) -> RateMemory:
    return RateMemory(path, key=key, base_url=url, clock=lambda: time.time() + later)


@pytest.mark.parametrize("lesson", [LESSON, LearnedRate(per_second=5 / 60.5, ceiling=0.1)])
def test_a_lesson_is_remembered_for_its_key_and_host(tmp_path: Path, lesson: LearnedRate) -> None:
    path = tmp_path / "not yet" / "rates.json"
    assert memory(path).recall() is None
    memory(path).keep(lesson)
    memory(path, key="another").keep(LESSON)
    assert memory(path, url="https://API.polygon.io/").recall() == lesson
    assert memory(path, key="another").recall() == LESSON
    assert memory(path, url="https://api.massive.com").recall() is None
    assert [other.name for other in path.parent.iterdir()] == ["rates.json"]
    assert "a-key" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("days", "known"), [(6.9, True), (7.1, False), (-1.0, False)])
def test_a_lesson_expires(tmp_path: Path, days: float, known: bool) -> None:
    path = tmp_path / "rates.json"
    memory(path).keep(LESSON)
    assert (memory(path, later=days * 86_400).recall() is not None) == known


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    for number in range(120):
        memory(path, key=f"key {number}", later=number).keep(LESSON)
    assert len(json.loads(path.read_text())["rates"]) <= 100
    assert memory(path, key="key 119", later=120).recall() == LESSON


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"rates": {"x": 1}}',
        b'{"rates": []}',
        b"[" * 100_000,
        b'{"rates": {"\xff": 1}}',
    ],
    ids=repr,
)
def test_a_broken_file_is_no_error_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rates.json"
    path.write_bytes(content)
    assert memory(path).recall() is None
    memory(path).keep(LESSON)
    assert memory(path).recall() == LESSON


@pytest.mark.parametrize(("rate", "ceiling"), [(0, None), (-1, None), (5, 0), (5, -3)])
def test_an_impossible_lesson_is_none(tmp_path: Path, rate: float, ceiling: float | None) -> None:
    path = tmp_path / "rates.json"
    memory(path).keep(LearnedRate(per_second=rate, ceiling=ceiling))
    assert memory(path).recall() is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory" / "rates.json").mkdir(parents=True)
    for path in (None, tmp_path / "file" / "rates.json", tmp_path / "directory" / "rates.json", Path("/proc/no/rates")):
        memory(path).keep(LESSON)
        assert memory(path).recall() is None
    assert [other.name for other in (tmp_path / "directory").iterdir()] == ["rates.json"]


def test_the_place_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for platform, place in (("linux", "/home/me/.cache"), ("darwin", "/home/me/Library/Caches")):
        for told in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "not/absolute"}):
            assert cache_file(told, platform) == Path(place, "polygon_async", "rates.json")
        assert cache_file({"XDG_CACHE_HOME": "/c"}, platform) == Path("/c/polygon_async/rates.json")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_file({}, "linux") is None


# For real


def test_a_run_finds_the_plan_and_the_next_one_knows_it(
    sandbox: Callable[..., Sandbox], program: Program, tmp_path: Path
) -> None:
    box = sandbox(rate_limit="5/s", page_size=150)
    flags = ("--from", str(DAY), "--to", str(DAY), "--no-upload", "--json", "--processes", "0")

    def answers(*symbols: str) -> tuple[Counter[int | None], str]:
        before = len(box.requests)
        ended = program(*flags, "--tickers", *symbols, box=box, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
        assert ended.code == 0, ended.err
        assert box.api_key not in ended.err
        for symbol in symbols:
            whole = csv_of(Market().days(symbol, DAY, DAY))
            assert (tmp_path / "output" / f"{symbol}_historical.csv").read_text() == whole
        return Counter(request.status for request in box.requests[before:]), ended.err

    first, log = answers(*(f"A{number}" for number in range(6)))
    assert first[200] > 12
    assert 1 <= first[429] <= 6
    assert "the API refuses 7/s: rate lowered to 3.5/s" in log
    assert "starting at" not in log
    second, log = answers("A6", "A7")
    assert set(second) == {200}
    assert "starting at 3.5/s, the rate learned earlier" in log
    (kept,) = (tmp_path / "cache").rglob("rates.json")
    assert box.api_key not in kept.read_text()


async def test_it_is_the_default_from_python_and_needs_no_cache(
    sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    told = await polygon_async.fetch_bars("AAPL", DAY, DAY, rate="auto")
    untold = await polygon_async.fetch_bars("AAPL", DAY, DAY)
    assert told.equals(untold)
    assert len(told) == len(list(Market().days("AAPL", DAY, DAY)))
