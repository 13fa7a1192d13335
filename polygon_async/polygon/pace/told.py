"""Retries in; a few log lines out: the same trouble of many requests is told once, then counted."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.system.text import counted

if TYPE_CHECKING:
    from polygon_async.errors import Retryable

__all__ = ["RetryLog"]

log = logging.getLogger(__name__)

_GATHER = 0.25
"""Seconds in which requests that fail in the same way share one line."""
_FIRST_SPAN, _LONGEST_SPAN = 10.0, 60.0
"""Seconds from one line about a trouble to the next, while it lasts; each span is twice as long as the one before."""


@dataclass(slots=True)
class _Trouble:
    """Requests that failed in the same way, and that no line has counted yet."""

    timer: asyncio.TimerHandle
    span: float = 0.0
    """Seconds since the last line about it; 0 before the first."""
    requests: int = 0
    example: str = ""
    """What the first of them was answered."""
    request: str = ""
    wait: float = 0.0
    """The longest of their waits, in s; 0: until sending resumes."""


class RetryLog:
    """Logs why requests are retried: each at debug level, all that fail in one way together as a warning."""

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}

    def note(self, error: Retryable, *, request: str, wait: float) -> None:
        """A request failed and is retried in `wait` s; 0: as soon as sending resumes."""
        facts = {"reason": error.reason, "wait": round(wait, 3)}
        extra = {"event": "attempt_failed", "facts": facts}
        log.debug("retry %s: %s [GET %s]", _when(wait), error, request, extra=extra)
        trouble = self._troubles.get(error.reason)
        if trouble is None:
            timer = asyncio.get_running_loop().call_later(_GATHER, self._tell, error.reason)
            trouble = self._troubles[error.reason] = _Trouble(timer)
        if not trouble.requests:
            trouble.example, trouble.request = str(error), request
        trouble.requests += 1
        trouble.wait = max(trouble.wait, wait)

    def end(self) -> None:
        """Tell what is not told yet; there are no more requests."""
        for reason, trouble in self._troubles.items():
            trouble.timer.cancel()
            _say(reason, trouble)
        self._troubles.clear()

    def _tell(self, reason: str) -> None:
        trouble = self._troubles[reason]
        if not trouble.requests:
            # It is over; the next such failure is news again.
            del self._troubles[reason]
            return
        _say(reason, trouble)
        span = min(trouble.span * 2, _LONGEST_SPAN) or _FIRST_SPAN
        timer = asyncio.get_running_loop().call_later(span, self._tell, reason)
        self._troubles[reason] = _Trouble(timer, span)


def _say(reason: str, trouble: _Trouble) -> None:
    if not trouble.requests:
        return
    facts = {"reason": reason, "requests": trouble.requests, "wait": round(trouble.wait, 3)}
    extra = {"event": "retry", "facts": facts}
    if trouble.span:
        more = counted(trouble.requests, "more request")
        log.warning("%s for %s in %.0f s: %s", reason, more, trouble.span, trouble.example, extra=extra)
    elif trouble.requests == 1:
        log.warning("retry %s: %s [GET %s]", _when(trouble.wait), trouble.example, trouble.request, extra=extra)
    else:
        waiting = f"waiting {trouble.wait:.1f} s" if trouble.wait else "waiting until sending resumes"
        log.warning("%s for %d requests: %s (%s)", reason, trouble.requests, waiting, trouble.example, extra=extra)


def _when(wait: float) -> str:
    return f"in {wait:.1f} s" if wait else "when sending resumes"
