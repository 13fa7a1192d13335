"""Every attempt waits at the gate and pays a token, wherever the tokens come from."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from virtual_time import in_virtual_time, now

from polygon_async.errors import OutOfPatience, Refused, Retryable
from polygon_async.model.counters import Counters
from polygon_async.polygon.pace.gate import Gate
from polygon_async.polygon.pace.limiter import Pacer
from polygon_async.polygon.pace.outage import Outage
from polygon_async.polygon.reference import TickerQuery, entry_pages
from polygon_async.polygon.session import open_client
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polygon_async.polygon.pace.gate import TokenSource
    from polygon_async.sandbox import Sandbox

PATH = "/v2/aggs/ticker/AAPL/range/1/minute/2026-03-02/2026-03-03"


def gate_of(tokens: TokenSource, *, patience: float = 300.0) -> Gate:
    return Gate(tokens=tokens, outage=Outage(600.0), counters=Counters(), patience=patience)


class Attempts:
    """Fails with these reasons, one after another, and then succeeds; notes when it was called."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = list(reasons)
        self.moments: list[float] = []

    async def __call__(self) -> str:
        self.moments.append(now())
        if self.reasons:
            raise Retryable("it failed", reason=self.reasons.pop(0))
        return "the answer"


class Lease:
    """Tokens that somebody else hands out, each after `seconds`."""

    per_second = None
    paused_for = 0.0
    next_in = 0.0

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.handed_out = 0
        self.answers: list[float | str | None] = []
        """What it was told: `good`, or a refusal's Retry-After."""

    async def acquire(self) -> float:
        self.handed_out += 1
        await asyncio.sleep(self.seconds)
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.answers.append(seconds)

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        assert sent <= now()
        assert "exceeded the maximum requests" in said
        self.answers.append(retry_after)

    def succeeded(self, *, sent: float) -> None:
        assert sent <= now()
        self.answers.append("good")


async def through(gate: Gate, attempt: Attempts) -> str:
    return await gate.run(attempt, request=PATH, subject="AAPL")


@pytest.mark.parametrize("reasons", [[], ["503"], ["503", "429", "reset"]])
def test_retries_pay_as_first_attempts_do(reasons: Sequence[str]) -> None:
    attempts = Attempts(*reasons)

    async def story() -> tuple[str, Gate]:
        gate = gate_of(Pacer(1 / 40, sleep=asyncio.sleep))  # slower than any wait between two attempts
        return await through(gate, attempts), gate

    answer, gate = in_virtual_time(story())
    assert answer == "the answer"
    assert attempts.moments == pytest.approx([40.0 * number for number in range(len(reasons) + 1)], abs=0.1)
    assert gate.counters.requests == len(reasons) + 1
    assert gate.counters.retries == dict.fromkeys(reasons, 1)


def test_tokens_may_come_from_anywhere(sandbox: Callable[..., Sandbox]) -> None:
    """Many machines share one budget: the client is opened with a gate whose tokens come from one place."""
    box, lease = sandbox("* * rate429=7 1x"), Lease()
    access = settings_from({"rate": "5/min", "processes": "0"}, Environment(box.environment, {})).access
    day = dt.date(2026, 3, 3)

    async def entries() -> list[str]:
        async with Threads(2) as offload, open_client(access, gate=gate_of(lease), offload=offload) as client:
            assert client.pace is lease
            pages = entry_pages(TickerQuery(market="stocks", active=True, day=day), client=client)
            return [entry.ticker async for page in pages for entry in page.rows]

    assert "AAPL" in asyncio.run(entries())
    assert lease.handed_out == len(box.requests) >= 2
    assert lease.answers == [7.0, *["good"] * (len(box.requests) - 1)]


def test_waits_for_tokens_cost_no_patience() -> None:
    """Four attempts take over 36 s of waiting for tokens, and the patience is of 10 s."""
    attempts = Attempts("429", "429", "429")
    assert in_virtual_time(through(gate_of(Lease(12.0), patience=10.0), attempts)) == "the answer"


def test_who_runs_out_of_patience_says_what_was_asked() -> None:
    attempts = Attempts(*["503"] * 100)
    with pytest.raises(OutOfPatience) as caught:
        in_virtual_time(through(gate_of(Pacer(None), patience=10.0), attempts))
    assert caught.value.request == PATH
    assert str(caught.value).startswith(f"it failed ({len(attempts.moments)} attempts, patience of 10 s used up)")


def test_what_cannot_succeed_is_not_sent_again() -> None:
    calls: list[float] = []

    async def refused() -> str:
        calls.append(now())
        raise Refused("HTTP 404: no", status=404)

    async def story() -> None:
        await gate_of(Pacer(None)).run(refused, request=PATH, subject="AAPL")

    with pytest.raises(Refused) as caught:
        in_virtual_time(story())
    assert (caught.value.request, len(calls)) == (PATH, 1)
