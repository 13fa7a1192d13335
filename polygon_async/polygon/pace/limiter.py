"""The rate limiter: one token bucket for all requests, and a pause for all of them after a 429."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Pacer", "fine_sleep"]

_LONGEST_UNTOLD_PAUSE = 60.0
# Rounding must not make a bucket that has just leaked empty look full by a hair.
_CAPACITY = 1.000001
_LAST_STRETCH = 0.0015
_AHEAD = 0.1
"""Seconds within which the tokens lie that somebody may take together."""


async def fine_sleep(seconds: float) -> None:
    """Sleep at most `seconds`: a long sleep up to its last stretch, in that stretch one turn of the loop.

    asyncio's timers round up to whole milliseconds, and lateness is lost: at 100 requests a second a
    tenth of the rate. Looping on this until the time has come is accurate to a few microseconds, for
    about one millisecond of CPU a token.
    """
    await asyncio.sleep(seconds - _LAST_STRETCH if seconds > _LAST_STRETCH else 0)


class Pacer:
    """Hands out tokens one after another, evenly spaced, first come, first served.

    A bucket of one token means "without bursts": any stretch of w seconds has at most rate x w + 1
    tokens. Lateness is lost, so `sleep` keeps the waits exact.

    Args:
        per_second: Tokens a second; None for no limit.
        sleep: Waits about the given seconds; it may return early.
        on_pause: Called with the seconds of each pause that begins.
    """

    def __init__(
        self,
        per_second: float | None,
        *,
        sleep: Callable[[float], Awaitable[object]] = fine_sleep,
        on_pause: Callable[[float], object] = lambda _seconds: None,
    ) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._bucket: AsyncLimiter | None = None
        self._sleep = sleep
        self._on_pause = on_pause
        self._turn = asyncio.Lock()
        self._last_token = -1e9
        self._next_token = -1e9
        self._held_until = -1e9
        self._pause_began = -1e9
        self._pause_ends = -1e9
        self._untold_pauses = 0

    @property
    def per_second(self) -> float | None:
        """Tokens a second; None without a limit."""
        return 1 / self._interval if self._interval else None

    @property
    def paused_for(self) -> float:
        """Seconds until requests may be sent again; 0 without a pause."""
        return max(0.0, max(self._pause_ends, self._held_until) - self._now())

    @property
    def next_in(self) -> float:
        """Seconds until the next token; 0 if one is available now."""
        return max(0.0, self._next_token - self._now())

    async def acquire(self) -> float:
        """Wait for a token and take it; returns the seconds waited."""
        waited, _ = await self.acquire_some(1)
        return waited

    async def acquire_some(self, most: int) -> tuple[float, int]:
        """Wait for a token, and take with it those that follow within a tenth of a second: for who asks from afar.

        Args:
            most: So many tokens can be used.

        Returns:
            The seconds waited for the first, which is for now, and the number of tokens, which are as far apart as
            the rate says.
        """
        asked = self._now()
        async with self._turn:
            while (wait := await self._next_wait()) > 0:
                await self._sleep(wait)
            if self._bucket is not None:
                await self._bucket.acquire()
            first = self._now()
            taken = min(most, max(1, round(_AHEAD / self._interval))) if self._interval else most
            self._last_token = first + (taken - 1) * self._interval
            self._next_token = self._last_token + self._interval
            if taken > 1:
                self._bucket = None
            self._note_taken(first, waited=first - asked, taken=taken)
        return first - asked, taken

    def change(self, per_second: float) -> None:
        """Change the rate, which already applies to the spacing of the next token.

        What is owed for the last token stays owed, in parts of a token, so that no change gives a
        free one: the new rate works it off from now on, and a slower one counts from that token.
        """
        now, interval = self._now(), 1 / per_second
        owed = (self._next_token - now) / self._interval
        # The last token may be one that is still to be used.
        self._next_token = max(now + owed * interval, self._last_token + interval)
        self._interval = interval
        self._bucket = None

    def hold(self, until: float) -> None:
        """Hold back all requests until `until` (the loop's time)."""
        self._held_until = max(self._held_until, until)

    def pause(self, seconds: float) -> None:
        """Pause all requests for `seconds` from now on; a longer pause stays as it is."""
        now = self._now()
        if self._pause_ends <= now:
            self._pause_began = now
        if now + seconds > self._pause_ends:
            self._pause_ends = now + seconds
            self._on_pause(seconds)

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:  # noqa: ARG002 (see AutoPacer)
        """Record that a request sent at `sent` (the loop's time) got a 429, and pause all requests.

        They pause for `retry_after` seconds, or if the answer gave none, for 1, 2, 4 ... at most 60. A request
        that was already in flight when a pause began does not lengthen it. The message `said` teaches
        nothing if the rate is given.
        """
        if retry_after is not None and retry_after > 0:
            self.pause(retry_after)
        elif sent >= self._pause_began:
            self.pause(min(2.0**self._untold_pauses, _LONGEST_UNTOLD_PAUSE))
            self._untold_pauses += 1

    def succeeded(self, *, sent: float) -> None:
        """Record that a request sent at `sent` was answered, which resets the steps of the pauses."""
        if sent >= self._pause_began:
            self._untold_pauses = 0

    def _note_taken(self, first: float, *, waited: float, taken: int) -> None:
        """Learn that so many tokens were taken, of which the first was waited for."""

    async def _next_wait(self) -> float:
        """Seconds until a token may be taken, as far as is known now; 0 if one may."""
        if (pause := self.paused_for) > 0:
            return pause
        if not self._interval:
            return 0.0
        if (used_later := self._next_token - self._interval - self._now()) > 0:
            return used_later
        if self._bucket is None:
            self._bucket = await self._new_bucket()
        if self._bucket.has_capacity():
            return 0.0
        # The bucket decides; a little more than nothing keeps the clock moving.
        return max(self._next_token - self._now(), 1e-5)

    async def _new_bucket(self) -> AsyncLimiter:
        """A bucket of the current rate, as full as is owed; filling an empty one never waits."""
        bucket = AsyncLimiter(_CAPACITY, self._interval * _CAPACITY)
        await bucket.acquire(min(max((self._next_token - self._now()) / self._interval, 0.0), 1.0))
        return bucket

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
