"""Slots to send in: a few at a time from one owner to many workers; void when late, or of an earlier generation."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near import Near, Streams, register, registered
from virtual_time import VirtualLoop, check_pace, in_virtual_time, now

from polygon_async.polygon.pace.lease import LeasePacer
from polygon_async.run.cluster.owner import Owner

RATES = [5 / 60, 3.0, 20.0, 50.0, 100.0]


async def sending(pacer: LeasePacer, sent: list[float], count: int) -> None:
    """So many requests, one after another."""
    for _ in range(count):
        await pacer.acquire()
        sent.append(now())
        pacer.succeeded(sent=now())


async def all_sent(pacers: list[LeasePacer], *, at_once: int, each: int) -> list[float]:
    """When requests were sent, with so many of each worker under way."""
    sent: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        for pacer in pacers:
            for _ in range(at_once):
                tasks.create_task(sending(pacer, sent, each))
    return sent


@settings(deadline=None, max_examples=25)
@given(
    rate=st.sampled_from(RATES),
    workers=st.integers(1, 5),
    at_once=st.integers(1, 12),
    longest=st.sampled_from([0.0, 0.0005, 0.002]),
    seed=st.integers(0, 2**16),
)
def test_no_stretch_holds_more_than_its_share_whoever_asks(
    rate: float, workers: int, at_once: int, longest: float, seed: int
) -> None:
    chance = random.Random(seed)

    async def story() -> list[float]:
        owner = await registered(per_second=rate)
        nears = [
            Near(owner, holder=f"w{number}", delay=lambda: chance.uniform(0, longest)) for number in range(workers)
        ]
        return await all_sent([LeasePacer(near) for near in nears], at_once=at_once, each=4)

    sent = in_virtual_time(story(), turn=1e-4)
    assert len(sent) == workers * at_once * 4
    # What differs on the way is no more than what the owner keeps in hand, but for the first stretch.
    check_pace(sent, rate, tolerance=2 * longest)
    # Nothing is lost: it is the owner's pace, which is 3% slower, and the way there and back.
    assert sent[-1] <= (len(sent) - 1) * 1.04 / rate + len(sent) * 0.002 + 8 * longest


@pytest.mark.parametrize(("rate", "at_most"), [(100.0, 30), (20.0, 110), (5 / 60, 200)])
def test_slots_come_in_small_batches_but_one_by_one_at_a_slow_pace(rate: float, at_most: int) -> None:
    async def story() -> list[str]:
        near = Near(await registered(per_second=rate), holder="w")
        await all_sent([LeasePacer(near)], at_once=20, each=10)
        return near.calls

    calls = in_virtual_time(story(), turn=1e-4).count("lease")
    assert calls <= at_most
    if rate < 1:
        assert calls == 200


def test_a_refusal_makes_void_what_the_others_hold() -> None:
    async def story() -> tuple[list[float], list[str]]:
        pacers: dict[str, LeasePacer] = {}
        owner, streams = Owner(), Streams(pacers)
        await owner.start(streams)
        await register(owner, per_second=50)
        for name in ("w0", "w1"):
            pacers[name] = LeasePacer(Near(owner, holder=name))
        sent: list[float] = []
        running = [asyncio.create_task(sending(pacer, sent, 9)) for pacer in pacers.values() for _ in range(10)]
        await asyncio.sleep(0.5)
        pacers["w0"].refused(sent=now(), retry_after=5.0)
        refused = now()
        await asyncio.sleep(4.5)
        during = [moment for moment in sent if moment > refused + 0.002]
        await asyncio.wait(running)
        assert len(sent) == 180
        check_pace([moment for moment in sent if moment > refused + 1], 50, tolerance=0.002)
        return during, streams.told

    during, told = in_virtual_time(story(), turn=1e-4)
    assert during == []
    assert set(told) == {"w0", "w1"}


def test_slots_that_were_overtaken_by_a_refusal_are_void() -> None:
    """They were given before it, and arrive after word of it."""

    async def story() -> list[float]:
        pacers: dict[str, LeasePacer] = {}
        owner = Owner()
        await owner.start(Streams(pacers))
        await register(owner, per_second=1)
        pacer = pacers["w"] = LeasePacer(Near(owner, holder="w", delay=lambda: 0.2))
        sent: list[float] = []
        running = asyncio.create_task(sending(pacer, sent, 1))
        await asyncio.sleep(0.3)  # the slot was given at 0.2
        await owner.refused("run", sent=0.0, retry_after=10.0, said="")
        await running
        return sent

    (sent,) = in_virtual_time(story(), turn=1e-4)
    assert sent > 10


@pytest.mark.parametrize("rate", [2.0, 100.0])
def test_what_comes_too_late_is_never_used(rate: float) -> None:
    """And is no reason to give up: the next one is asked for."""
    late = iter([0.001, 3.0])

    async def story() -> tuple[list[float], list[str]]:
        near = Near(await registered(per_second=rate), delay=lambda: next(late, 0.001))
        return await all_sent([LeasePacer(near)], at_once=5, each=1), near.calls

    sent, calls = in_virtual_time(story(), turn=1e-4)
    assert len(sent) == 5
    assert min(sent) > 3
    check_pace(sent, rate, tolerance=0.001)
    assert calls.count("lease") >= 2


@pytest.mark.parametrize("seconds", [0.04, 30])
def test_who_stands_still_uses_no_slots_in_a_bunch_afterwards(seconds: float) -> None:
    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        sent: list[float] = []
        running = asyncio.create_task(
            all_sent_into(sent, LeasePacer(Near(await registered(per_second=100))), at_once=20, each=10)
        )
        await asyncio.sleep(1)
        loop.pass_time(seconds)
        stood = now()
        await running
        assert len(sent) == 200
        return [moment for moment in sent if moment >= stood]

    sent = in_virtual_time(story(), turn=1e-4)
    assert min(later - earlier for earlier, later in itertools.pairwise(sent)) >= 0.98 / 100
    check_pace(sent, 100, tolerance=0.003)


async def all_sent_into(sent: list[float], pacer: LeasePacer, *, at_once: int, each: int) -> None:
    sent += await all_sent([pacer], at_once=at_once, each=each)


def test_who_leaves_the_line_holds_up_nobody() -> None:
    chance = random.Random(4)

    async def story() -> list[float]:
        pacer = LeasePacer(Near(await registered(per_second=20), delay=lambda: 0.003))
        sent: list[float] = []
        running = []
        for _ in range(300):
            running.append(asyncio.create_task(sending(pacer, sent, 1)))
            await asyncio.sleep(chance.choice([0, 0.01, 0.1]))
            if chance.random() < 0.5:
                chance.choice(running).cancel()
            if chance.random() < 0.05:
                for task in running:
                    task.cancel()
        await asyncio.wait(running)
        assert len(sent) == sum(not task.cancelled() for task in running)
        return sent

    sent = in_virtual_time(story(), turn=1e-4)
    assert len(sent) > 50
    check_pace(sent, 20, tolerance=0.006)


def test_who_comes_when_the_last_one_leaves_is_served() -> None:
    async def story() -> float:
        pacer = LeasePacer(Near(await registered(per_second=1)))
        await pacer.acquire()
        leaving = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(0.5)
        leaving.cancel()
        return await asyncio.create_task(pacer.acquire())

    assert in_virtual_time(story(), turn=1e-4) == pytest.approx(0.53, abs=0.02)


def test_who_leaves_when_the_slots_come_takes_none_along() -> None:
    class Leaving(Near):
        async def lease(self, want: int, succeeded: list[float], *, answered: bool) -> Any:
            found = await super().lease(want, succeeded, answered=answered)
            leaving[0].cancel()
            return found

    async def story() -> float:
        pacer = LeasePacer(Leaving(await registered(per_second=100)))
        leaving.append(asyncio.create_task(pacer.acquire()))
        return await asyncio.create_task(pacer.acquire())

    leaving: list[asyncio.Task[float]] = []
    assert in_virtual_time(story(), turn=1e-4) < 0.02


def test_a_run_that_is_registered_again_gives_slots_again() -> None:
    """Its generations begin anew, lower than those that the workers know."""

    async def story() -> int:
        pacers: dict[str, LeasePacer] = {}
        owner = Owner()
        await owner.start(Streams(pacers))
        await register(owner, per_second=50)
        near = Near(owner, holder="w")
        pacer = pacers["w"] = LeasePacer(near)
        sent: list[float] = []
        for _ in range(3):
            await sending(pacer, sent, 1)
            pacer.pause(1.0)
            await asyncio.sleep(0.1)
        near.owner = Owner()
        lost = asyncio.create_task(sending(pacer, sent, 5))
        await asyncio.sleep(60)
        assert len(sent) == 3
        await register(near.owner, per_second=50)
        await lost
        return len(sent)

    assert in_virtual_time(story(), turn=1e-4) == 8


def test_the_owner_learns_of_answers_though_nobody_asks_for_slots() -> None:
    """At a slow pace the next call for slots may be minutes away, and an outage is judged by the answers."""

    async def story() -> Any:
        owner = await registered(per_second=1 / 60)
        pacer = LeasePacer(Near(owner))
        await pacer.acquire()
        waiting = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(1)
        pacer.succeeded(sent=now())
        pacer.outage.answered()
        before = (await owner.poll("run", -1, []))["outage"]["reached"]  # type: ignore[index]
        await asyncio.sleep(1)
        after = (await owner.poll("run", -1, []))["outage"]["reached"]  # type: ignore[index]
        waiting.cancel()
        return before, after

    assert in_virtual_time(story(), turn=1e-4) == (False, True)


def test_what_is_no_answer_is_told_to_who_waits() -> None:
    class Odd(Near):
        async def lease(self, want: int, succeeded: list[float], *, answered: bool) -> Any:  # noqa: ARG002
            return {"slots": want}

    async def story() -> None:
        await LeasePacer(Odd(await registered(per_second=1))).acquire()

    with pytest.raises(KeyError):
        in_virtual_time(story(), turn=1e-4)
