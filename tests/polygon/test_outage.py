"""When the API is down for everyone: the run waits as one, probes, and gives up as one."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of, names
from trouble_cases import CASES, DAY, SIZE, download
from virtual_time import in_virtual_time, now

from polygon_async.errors import RunError
from polygon_async.polygon import session
from polygon_async.polygon.pace import outage
from polygon_async.polygon.pace.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.report.summary import Summary
    from polygon_async.sandbox import Sandbox

SYMBOLS = [case.symbol for case in CASES[:5]]


def fail(state: Outage, *requests: str) -> None:
    for request in requests:
        state.failing(request, f"HTTP 503 [{request}]")


async def down(patience: float = 600.0, *, at: float = 30.0) -> Outage:
    """An outage that is declared `at` seconds from now."""
    state = Outage(patience)
    fail(state, "/a", "/b", "/c")
    await asyncio.sleep(at)
    fail(state, "/a")
    return state


# When it is one


@pytest.mark.parametrize(
    ("failing", "silence", "is_one"),
    [
        (["/a", "/b", "/c"], 30.0, True),
        (["/a", "/b", "/c", "/d"], 45.0, True),
        (["/a", "/b", "/c"], 29.9, False),
        (["/a", "/b"], 100.0, False),
        (["/a"] * 10, 100.0, False),
    ],
    ids=["three", "four", "too soon", "two", "one again and again"],
)
def test_many_failures_and_silence_are_an_outage(failing: list[str], silence: float, is_one: bool) -> None:
    async def story() -> bool:
        state = Outage(600)
        fail(state, *failing)
        assert not state.is_on
        await asyncio.sleep(silence)
        fail(state, failing[0])
        return state.is_on

    assert in_virtual_time(story()) is is_one


def test_any_answer_breaks_the_silence() -> None:
    async def story() -> bool:
        state = Outage(600)
        for _ in range(10):
            fail(state, "/a", "/b", "/c", "/d")
            await asyncio.sleep(20)
            state.answered()
            fail(state, "/a", "/b", "/c", "/d")
            await asyncio.sleep(9)
        return state.is_on

    assert in_virtual_time(story()) is False


def test_until_then_nobody_waits() -> None:
    async def story() -> float:
        state = Outage(600)
        fail(state, "/a", "/b", "/c")
        return await state.admit()

    assert in_virtual_time(story()) == 0


def test_a_host_that_was_never_reached_is_a_wrong_address() -> None:
    async def story() -> str:
        state = Outage(600, host="api.example")
        for _ in range(30):
            state.failing("/a", "no connection", unreachable=True)
            await asyncio.sleep(1)
        with pytest.raises(RunError) as found:
            state.failing("/a", "no connection", unreachable=True)
        return str(found.value)

    text = in_virtual_time(story())
    assert text.startswith("api.example could not be reached for 30 s (no connection); ")
    assert all(word in text for word in ("POLYGON_BASE_URL", "HTTPS_PROXY"))


@pytest.mark.parametrize("is_answer", [True, False], ids=["an answer", "a failure of the API's own"])
def test_a_host_that_was_reached_once_is_waited_for(is_answer: bool) -> None:
    async def story() -> bool:
        state = Outage(600)
        state.failing("/a", "no connection", unreachable=True)
        if is_answer:
            state.answered()
        else:
            fail(state, "/a")
        for _ in range(100):
            state.failing("/a", "no connection", unreachable=True)
            await asyncio.sleep(1)
        return state.is_on

    assert not in_virtual_time(story())


# While it lasts


def test_one_probe_at_a_time_and_ever_fewer() -> None:
    async def story() -> list[float]:
        state, sent = await down(), []

        async def work(name: str) -> None:
            while True:
                await state.admit()
                sent.append(now())
                # A server that is down takes its time to say so.
                await asyncio.sleep(1.0)
                fail(state, name)

        async def work_together() -> None:
            async with asyncio.TaskGroup() as workers:
                for number in range(8):
                    workers.create_task(work(f"/{number}"))

        with pytest.raises(ExceptionGroup) as caught:
            await work_together()
        assert caught.group_contains(RunError, match="the API has been down for 600 s, last error: HTTP 503")
        assert now() == pytest.approx(30 + 600, abs=2)
        return sent

    sent = in_virtual_time(story())
    waits = [after - before for before, after in zip([30.0, *sent], sent, strict=False)]
    assert waits[:3] == pytest.approx([5, 5, 10], abs=1.1)
    assert all(wait == pytest.approx(30, abs=1.1) for wait in waits[5:])
    assert len(sent) < 30


def test_the_first_answer_lets_everybody_go_on() -> None:
    async def story() -> list[float]:
        state, resumed = await down(), []

        async def work(name: str) -> None:
            while True:
                await state.admit()
                await asyncio.sleep(0.1)
                if now() > 100:
                    state.answered()
                    resumed.append(now())
                    return
                fail(state, name)

        async with asyncio.TaskGroup() as workers:
            for number in range(8):
                workers.create_task(work(f"/{number}"))
        assert not state.is_on
        return resumed

    resumed = in_virtual_time(story())
    assert len(resumed) == 8
    assert max(resumed) - min(resumed) < 1.5


def test_after_it_another_one_needs_its_own_silence() -> None:
    async def story() -> tuple[bool, bool]:
        state = await down()
        state.answered()
        fail(state, "/a", "/b", "/c")
        at_once = state.is_on
        await asyncio.sleep(30)
        fail(state, "/a")
        return at_once, state.is_on

    assert in_virtual_time(story()) == (False, True)


def test_what_was_waited_is_told() -> None:
    async def story() -> float:
        state = await down()
        return await state.admit()

    assert in_virtual_time(story()) == pytest.approx(5, abs=0.1)


# Through HTTP, the silence cut short


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages that are declared and probed in tenths of a second."""
    monkeypatch.setattr(session, "Outage", partial(Outage, after=0.3))
    monkeypatch.setattr(outage, "_FIRST_PROBE", 0.1)
    monkeypatch.setattr(outage, "_LAST_PROBE", 0.2)


async def run(box: Sandbox, directory: Path, **flags: Any) -> Summary:
    return await download(box, SYMBOLS, directory, **{"patience": "1.5", "outage_patience": "1.5", **flags})


async def test_a_run_without_an_api_ends_as_one(short: None, sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    box = sandbox("* * status=503", page_size=SIZE)
    summary = await run(box, tmp_path, patience="1")
    assert (summary.exit_code, summary.outcomes, len(summary.unfinished)) == (2, [], len(SYMBOLS))
    assert "the API has been down for" in (summary.error or "")
    assert "HTTP 503" in (summary.error or "")
    assert names(tmp_path) == ["failed.csv"]


async def test_nobody_fails_for_an_outage_that_ends(
    short: None,
    sandbox: Callable[..., Sandbox],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = sandbox("* * status=503", page_size=SIZE)
    declared = asyncio.Event()

    def hear(record: logging.LogRecord) -> bool:
        if "waiting and probing" in record.getMessage():
            declared.set()
        return True

    monkeypatch.setattr(outage.log, "filters", [hear])

    async def mend() -> None:
        await declared.wait()
        # For longer than anybody's patience; then shaky at first: one more failure for each.
        await asyncio.sleep(1.5)
        box.set_troubles(["* 1 status=502 1x"])

    with caplog.at_level(logging.WARNING):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mend())
            running = tasks.create_task(run(box, tmp_path, patience="1.2", outage_patience="60"))
    summary = running.result()
    assert (summary.exit_code, len(summary.done)) == (0, len(SYMBOLS)), [o.error for o in summary.failed]
    for symbol in SYMBOLS:
        assert (tmp_path / f"{symbol}_historical.csv").read_text() == csv_of(box.market.days(symbol, DAY, DAY))
    assert sum("the API is back" in record.message for record in caplog.records) == 1


async def test_one_bad_ticker_is_no_outage(short: None, sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    box = sandbox(f"{SYMBOLS[0]} 1 status=503", page_size=SIZE)
    summary = await run(box, tmp_path, outage_patience="0")
    assert (summary.exit_code, summary.error, len(summary.done)) == (1, None, len(SYMBOLS) - 1)


async def test_a_refusal_is_an_answer(short: None, sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    # Three workers fail for a second, the fourth is refused every tenth of one: the API is there.
    refused = [f"R{number}" for number in range(24)]
    answers = ["plan403", "status=404", "not_authorized_200"]
    troubles = [f"{symbol} 1 {answers[number % 3]}" for number, symbol in enumerate(refused)]
    box = sandbox(*troubles, "R* 1 latency=0.1", "* * status=503", page_size=SIZE)
    flags: dict[str, Any] = {"patience": "1", "outage_patience": "0", "concurrency": "4"}
    summary = await download(box, [*SYMBOLS[:3], *refused], tmp_path, **flags)
    assert (summary.exit_code, summary.error, len(summary.failed)) == (1, None, 3 + len(refused))


async def test_windows_of_one_ticker_are_one_ticker(
    short: None, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """They all fail, and nobody else is asked: that is still this ticker's trouble, and not everyone's."""
    box = sandbox("X:BTCUSD 1 delayed 1x", "X:BTCUSD * status=503", page_size=100)
    flags = {"patience": "1.5", "outage_patience": "0.3", "concurrency": "8"}
    summary = await download(box, ["X:BTCUSD"], tmp_path, side_by_side=True, **flags)
    assert len({request.path_qs for request in box.requests}) > 3
    assert (summary.exit_code, len(summary.failed)) == (1, 1)
