"""Attempts at requests in; each sent when it may be, and again for as long as patience lasts: their results out."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import backoff

from polygon_async.errors import OutOfPatience, Retryable, TickerError
from polygon_async.model.counters import Pace
from polygon_async.polygon.pace.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from polygon_async.model.counters import Counters
    from polygon_async.polygon.pace.outage import Outage

__all__ = ["Gate", "TokenSource"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class TokenSource(Pace, Protocol):
    """Where tokens come from: this process's own `Pacer`, or one that asks a bucket which many machines share."""

    async def acquire(self) -> float:
        """Wait for a token and take it; returns the seconds waited."""

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for `seconds` from now on."""

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        """A request that was sent at `sent` (the loop's time) met a 429 that `said` something."""

    def succeeded(self, *, sent: float) -> None:
        """A request that was sent at `sent` was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What all requests share, and the only way for one to be sent.

    Whoever runs units on many machines opens the client with a gate whose tokens come from one place.
    """

    tokens: TokenSource
    """Pays for every attempt; told of every 429."""
    outage: Outage
    """Knows when the API is down for everyone, and holds all requests but a probe then."""
    counters: Counters
    """Counts requests, answers and retries."""
    patience: float
    """Seconds from a request's first failure for which it is retried; waits for tokens and common pauses
    don't count."""

    async def run(self, attempt: Callable[[], Awaitable[_T]], *, request: str, subject: str) -> _T:
        """What `attempt` returns; it is called again for as long as it raises Retryable and patience lasts.

        Each call waits until a request may be sent, and pays a token.

        Args:
            attempt: Sends the request, and reads the answer.
            request: What errors call it; without the key.
            subject: Whose trouble its failures are: of several requests about one ticker, they are that ticker's.

        Raises:
            OutOfPatience: it was still failing when patience was used up.
            TickerError, RunError: out of `attempt`.
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
            raise OutOfPatience(f"{error} ({trial.patience})", request=request) from error
        except TickerError as error:
            self.outage.answered()
            error.request = request
            raise
        self.outage.answered()
        return result


class _Trial(Generic[_T]):
    """One request on its way through the gate, and what follows from each of its failures."""

    def __init__(self, gate: Gate, attempt: Callable[[], Awaitable[_T]], *, request: str, subject: str) -> None:
        self.patience = Patience(gate.patience)
        self._gate = gate
        self._attempt = attempt
        self._request = request
        self._subject = subject
        self._failed_by: str | None = None
        """Why the attempt before failed, until the next one is sent."""

    async def once(self) -> _T:
        """One attempt, when it may be sent; it pays a token."""
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

    def gives_up(self, error: Exception) -> bool:
        """Note a failure; whether it was the last one."""
        outage = self._gate.outage
        outage.failing(self._subject, str(error))
        if outage.was_on_since(self.patience.failing_since):
            # Everybody's trouble counts against the run's patience, and begins this request's anew.
            self.patience.begin_anew()
        return self.patience.is_used_up(error) and not outage.is_on

    def wait(self, error: Retryable) -> float:
        """Seconds until the next attempt."""
        return 0.0 if self._gate.outage.is_on else self.patience.wait(error)

    def note(self, details: Any) -> None:  # backoff's own type of it lacks the exception
        """Tell of a retry."""
        error: Retryable = details["exception"]
        self._failed_by = error.reason
        when = f"in {details['wait']:.1f} s" if details["wait"] else "as soon as it may be sent"
        facts = {"reason": error.reason, "wait": round(details["wait"], 3)}
        extra = {"event": "retry", "facts": facts}
        log.warning("retry %s: %s [GET %s]", when, error, self._request, extra=extra)
