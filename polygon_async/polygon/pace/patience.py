"""Decides whether and when a failed request is tried again."""

from __future__ import annotations

import asyncio

import backoff

from polygon_async.errors import Retryable

__all__ = ["Patience"]

_LONGEST_WAIT = 30.0
_REFUSALS_IN_A_ROW = 10


class Patience:
    """How long one request has been failing, and how long it waits before the next attempt."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failing_since: float | None = None
        self._excused = 0.0
        self._attempts = 0
        self._refusals = 0

    def __str__(self) -> str:
        return f"{self._attempts} attempt{'s' * (self._attempts != 1)}, patience of {self._seconds:g} s used up"

    @property
    def failing_since(self) -> float:
        """When the request first failed (the loop's time); now if it has not."""
        return self._now() if self._failing_since is None else self._failing_since

    def excuse(self, waited: float) -> None:
        """Do not count these seconds, which were spent waiting for a token or a shared pause."""
        if self._failing_since is not None:
            self._excused += waited

    def begin_anew(self) -> None:
        """Forget the failures so far, as they were not this request's fault."""
        self._failing_since = None
        self._excused = 0.0
        self._refusals = 0

    def is_used_up(self, error: Exception) -> bool:
        """Record a failure; returns whether it was the last one."""
        if self._failing_since is None:
            self._failing_since = self._now()
        self._attempts += 1
        self._refusals = self._refusals + 1 if isinstance(error, Retryable) and error.reason == "429" else 0
        return self._spent() >= self._seconds

    def wait(self, error: Retryable) -> float:
        """Seconds until the next attempt: none if a shared pause decides, else jittered and growing."""
        if error.reason == "429":
            return 0.0
        longest = min(2.0 ** min(self._attempts - 1, 16), _LONGEST_WAIT)
        return max(0.0, min(backoff.full_jitter(longest), self._seconds - self._spent()))

    def _spent(self) -> float:
        spent = self._now() - self.failing_since
        # Pauses are not this request's fault, but a request that is refused again after each of them
        # would otherwise hold up all others for ever.
        return spent if self._refusals > _REFUSALS_IN_A_ROW else spent - self._excused

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
