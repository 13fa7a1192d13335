"""One request's failures in; whether and when it is tried again, out."""

from __future__ import annotations

import asyncio

import backoff

from polygon_async.errors import Retryable

__all__ = ["Patience"]

_LONGEST_WAIT = 30.0
_REFUSALS_IN_A_ROW = 10


class Patience:
    """How long one request has been failing, and how long it waits before it tries again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failing_since: float | None = None
        self._excused = 0.0
        self._attempts = 0
        self._refusals = 0

    def __str__(self) -> str:
        return f"{self._attempts} attempts, patience of {self._seconds:g} s used up"

    @property
    def failing_since(self) -> float:
        """When the request failed first (the loop's time); now, when it has not."""
        return self._now() if self._failing_since is None else self._failing_since

    def excuse(self, waited: float) -> None:
        """Seconds that were spent waiting for a token or a common pause."""
        if self._failing_since is not None:
            self._excused += waited

    def begin_anew(self) -> None:
        """Forget the failures so far, as they were not this request's own."""
        self._failing_since = None
        self._excused = 0.0
        self._refusals = 0

    def is_used_up(self, error: Exception) -> bool:
        """Note a failure; whether it was the last one."""
        if self._failing_since is None:
            self._failing_since = self._now()
        self._attempts += 1
        self._refusals = self._refusals + 1 if isinstance(error, Retryable) and error.reason == "429" else 0
        return self._spent() >= self._seconds

    def wait(self, error: Retryable) -> float:
        """Seconds until the next attempt: none where the common pause says when, else jittered and growing."""
        if error.reason == "429":
            return 0.0
        longest = min(2.0 ** min(self._attempts - 1, 16), _LONGEST_WAIT)
        return max(0.0, min(backoff.full_jitter(longest), self._seconds - self._spent()))

    def _spent(self) -> float:
        spent = self._now() - self.failing_since
        # Pauses are excused as they are not this request's fault; one that the API refuses again
        # and again after each of them would otherwise hold up everybody for ever.
        return spent if self._refusals > _REFUSALS_IN_A_ROW else spent - self._excused

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
