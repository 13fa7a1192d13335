"""The gate that every request passes: it pays a token, and is retried for as long as patience lasts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import backoff

from polygon_async.errors import OutOfPatience, Retryable, TickerError, Untrue
from polygon_async.model.counters import Pace
from polygon_async.polygon.pace.patience import Patience
from polygon_async.polygon.pace.told import RetryLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from polygon_async.model.counters import Counters

__all__ = ["Gate", "OutageJudge", "TokenSource"]

_T = TypeVar("_T")

_UNREACHABLE = frozenset({"dns", "no connection", "timeout", "proxy"})
"""Reasons of a retry that mean that nothing answered."""
_LONGEST_FIRST_WAIT = 5.0
"""Seconds between attempts as long as nothing was ever answered."""
_MOST_UNTRUE = 3
"""Such answers to one request; the last one counts."""


class TokenSource(Pace, Protocol):
    """Where tokens come from: this process's own `Pacer`, or a bucket that many machines share."""

    async def acquire(self) -> float:
        """Wait for a token and take it; returns the seconds waited."""

    def pause(self, seconds: float) -> None:
        """Pause all requests for `seconds` from now on."""

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        """A request sent at `sent` (the loop's time) got a 429; `said` is its text."""

    def succeeded(self, *, sent: float) -> None:
        """A request sent at `sent` was answered."""


class OutageJudge(Protocol):
    """Who says that the API is down for everyone: this process's own `Outage`, or one that many machines share."""

    @property
    def is_on(self) -> bool:
        """Whether it is."""

    @property
    def was_reached(self) -> bool:
        """Whether anything at all has been answered."""

    def was_on_since(self, moment: float) -> bool:
        """Whether it is, or was at some time after `moment` (the loop's time)."""

    def failing(self, ticker: str, words: str, *, unreachable: bool = False) -> None:
        """A request about this ticker failed with this message, and may be retried."""

    def answered(self) -> None:
        """A request was answered."""

    async def admit(self) -> float:
        """Wait until a request may be sent; returns the seconds waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What all requests share; every attempt passes it.

    An engine that runs units on many machines opens each client with a gate whose tokens come from one place.
    """

    tokens: TokenSource
    """Each attempt takes one; they learn of every 429."""
    outage: OutageJudge
    """Knows when the API is down for everyone; then it holds all requests but a probe."""
    counters: Counters
    """Counts requests, answers and retries."""
    retries: RetryLog = field(default_factory=RetryLog)
    """Tells why requests are retried."""
    patience: float
    """How long a failing request is retried, in seconds; waits for tokens and common pauses don't count."""

    async def run(self, attempt: Callable[[], Awaitable[_T]], *, request: str, subject: str) -> _T:
        """The result of `attempt`, which is called again while it raises Retryable and patience lasts.

        Each call waits until a request may be sent, and pays a token. An answer that cannot belong to the request
        (`Untrue`) is requested a few times more, too.

        Args:
            attempt: Sends the request and reads the answer.
            request: The name of the request in errors, without the key.
            subject: What the request is about: failures of several requests about one ticker count as one.

        Raises:
            OutOfPatience: it still failed when patience was used up.
            TickerError, RunError: as `attempt` raises them.
            RunError: the API has been down for everyone for too long.
        """
        trial = _Trial(self, attempt, request=request, subject=subject)
        # Around the limiter, so that retries pay, too; without backoff's own logger, which prints URLs.
        retried = backoff.on_exception(
            backoff.runtime,
            Retryable,
            value=trial.wait,
            giveup=trial.gives_up,
            jitter=None,
            on_backoff=trial.note,
            logger=None,
        )(trial.once)
        try:
            result = await retried()
        except Retryable as error:
            untrue = error.__cause__
            if not isinstance(untrue, Untrue):
                raise OutOfPatience(f"{error} ({trial.patience})", request=request) from error
            untrue.request = request
            raise untrue from None
        except TickerError as error:
            self.outage.answered()
            error.request = request
            raise
        self.outage.answered()
        return result


class _Trial(Generic[_T]):
    """One request at the gate: its attempts, and what each failure leads to."""

    def __init__(self, gate: Gate, attempt: Callable[[], Awaitable[_T]], *, request: str, subject: str) -> None:
        self.patience = Patience(gate.patience)
        self._gate = gate
        self._attempt = attempt
        self._request = request
        self._subject = subject
        self._failed_by: str | None = None
        """Why the previous attempt failed, until the next one is sent."""
        self._untrue = 0
        """Answers so far that cannot belong to the request."""

    async def once(self) -> _T:
        """One attempt, as soon as it may be sent; it pays a token."""
        gate, counters = self._gate, self._gate.counters
        self.patience.excuse(await gate.outage.admit())
        waited = await gate.tokens.acquire()
        self.patience.excuse(waited)
        if self._failed_by is not None:
            counters.retries[self._failed_by] += 1
            self._failed_by = None
        counters.requests += 1
        now = asyncio.get_running_loop().time()
        span = counters.measures.sent(now, waited=waited, allowed=gate.tokens.per_second)
        try:
            return await self._attempt()
        except Retryable as error:
            span.refused += error.reason == "429"
            span.failed += error.reason != "429"
            raise
        except Untrue as error:
            # The API answers, whatever its answers are worth: that is no outage.
            gate.outage.answered()
            self._untrue += 1
            raise Retryable(str(error), reason="untrue") from error

    def gives_up(self, error: Exception) -> bool:
        """Record a failure; returns whether it was the last one."""
        if isinstance(error.__cause__, Untrue):
            return self.patience.is_used_up(error) or self._untrue >= _MOST_UNTRUE
        outage = self._gate.outage
        unreachable = isinstance(error, Retryable) and error.reason in _UNREACHABLE
        outage.failing(self._subject, str(error), unreachable=unreachable)
        if outage.was_on_since(self.patience.failing_since):
            # An outage counts against the run's patience, and resets this request's own.
            self.patience.begin_anew()
        return self.patience.is_used_up(error) and not outage.is_on

    def wait(self, error: Retryable) -> float:
        """Seconds until the next attempt."""
        if self._gate.outage.is_on:
            return 0.0
        wait = self.patience.wait(error)
        # The sooner it is certain that the address is wrong, the better.
        return wait if self._gate.outage.was_reached else min(wait, _LONGEST_FIRST_WAIT)

    def note(self, details: Any) -> None:  # backoff's own type of it lacks the exception
        """Log a retry."""
        error: Retryable = details["exception"]
        self._failed_by = error.reason
        wait = details["wait"] or self._gate.tokens.paused_for
        self._gate.retries.note(error, request=self._request, wait=wait)
