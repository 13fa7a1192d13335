"""Notices when the API is down for everyone, and makes the whole run wait."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from polygon_async.errors import RunError
from polygon_async.model.counters import Down

if TYPE_CHECKING:
    from polygon_async.model.counters import Counters

__all__ = ["Outage"]

log = logging.getLogger(__name__)

_MANY = 3
_FIRST_PROBE = 5.0
_LAST_PROBE = 30.0


class Outage:
    """Distinguishes one ticker's trouble from an outage.

    The API is down when three or more tickers are failing (or have failed) and none has been answered
    for a while. The whole run then waits: a single request is sent now and then as a probe, and no
    request's own patience is used up. The first answer ends the outage.

    A host that could not be reached since the run began is no outage but a wrong address or a network without a
    way out: that ends the run.

    Args:
        patience: Seconds of an outage after which the run ends.
        after: Seconds without an answer after which many failures are an outage, and a host that was never
            reached ends the run.
        host: The API's, for messages.
        counters: Learn of an outage, for the views, and the log says when it begins and ends; without them, telling
            of it is left to others.
    """

    def __init__(
        self, patience: float, *, after: float = 30.0, host: str = "the API", counters: Counters | None = None
    ) -> None:
        self._patience = patience
        self._after = after
        self._host = host
        self._counters = counters
        self._reached = False
        self._unreachable_since: float | None = None
        self._failing: set[str] = set()
        self._last_words = ""
        self._silent_since: float | None = None
        self._declared: float | None = None
        self._ended = -math.inf
        self._next_probe = 0.0
        self._between_probes = _FIRST_PROBE

    @property
    def is_on(self) -> bool:
        """Whether the API is down for everyone."""
        return self._declared is not None

    @property
    def down(self) -> tuple[str, float] | None:
        """The newest failure, and the seconds until the run gives up; None: there is no outage."""
        if self._declared is None:
            return None
        return self._last_words, self._declared + self._patience - self._now()

    @property
    def ended_ago(self) -> float | None:
        """Seconds since the last outage ended; None: there was none."""
        return None if math.isinf(self._ended) else self._now() - self._ended

    def was_on_since(self, moment: float) -> bool:
        """Whether there is an outage now, or one has ended after `moment` (the loop's time)."""
        return self.is_on or self._ended >= moment

    @property
    def was_reached(self) -> bool:
        """Whether anything at all has been answered."""
        return self._reached

    def failing(self, ticker: str, words: str, *, unreachable: bool = False) -> None:
        """Record that a request about this ticker failed with this message, and may be retried.

        Raises:
            RunError: the host could not be reached, and never was.
        """
        now = self._now()
        if not unreachable:
            self._reached = True
        elif not self._reached:
            self._see_that_reached(now, words)
        self._failing.add(ticker)
        self._last_words = words
        if self._silent_since is None:
            self._silent_since = now
        if not self.is_on and len(self._failing) >= _MANY and now - self._silent_since >= self._after:
            self._declared = now
            self._next_probe = now + self._between_probes
            if self._counters is not None:
                self._counters.down = Down(words, until=now + self._patience)
                tell_down(words, self._patience)

    def answered(self) -> None:
        """Record that a request was answered."""
        self._reached = True
        if self._counters is not None:
            self._counters.down = None
        if self._declared is not None:
            self._ended = self._now()
            if self._counters is not None:
                tell_back(self._ended - self._declared)
        self._declared = None
        self._silent_since = None
        self._failing.clear()
        self._between_probes = _FIRST_PROBE

    async def admit(self) -> float:
        """Wait until a request may be sent: now, after the outage, or as its next probe.

        Returns:
            The seconds waited.

        Raises:
            RunError: the outage has lasted too long.
        """
        began = self._now()
        while self._declared is not None:
            now = self._now()
            if now - self._declared >= self._patience:
                raise RunError(
                    f"the API has been down for {self._patience:.0f} s, last error: {self._last_words};"
                    " run the same command again when it is back"
                )
            if now >= self._next_probe:
                self._next_probe = now + self._between_probes
                self._between_probes = min(self._between_probes * 2, _LAST_PROBE)
                break
            await asyncio.sleep(min(self._next_probe - now, self._declared + self._patience - now, 1.0))
        return self._now() - began

    def _see_that_reached(self, now: float, words: str) -> None:
        if self._unreachable_since is None:
            self._unreachable_since = now
        if now - self._unreachable_since >= self._after:
            raise RunError(
                f"{self._host} could not be reached for {now - self._unreachable_since:.0f} s ({words}); check the"
                " network, POLYGON_BASE_URL, and the proxy, if one is needed (HTTPS_PROXY)"
            )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def tell_down(words: str, patience: float) -> None:
    """Say in the log that an outage has begun."""
    log.warning(
        "the API is down (%s); waiting and probing for at most %.0f s", words, patience, extra={"event": "outage"}
    )


def tell_back(lasted: float) -> None:
    """Say in the log that it has ended, after so many seconds."""
    extra = {"event": "outage_over", "facts": {"seconds": round(lasted, 1)}}
    log.warning("the API is back after %.0f s", lasted, extra=extra)
