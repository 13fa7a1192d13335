"""The shared limiter: one token bucket for every request, and a pause that all of them obey after a 429."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Pacer", "fine_sleep"]

_LONGEST_UNTOLD_PAUSE = 60.0
# Rounding must not make a bucket that has just leaked empty look full by a hair.
_CAPACITY = 1.000001
_LAST_STRETCH = 0.0015


async def fine_sleep(seconds: float) -> None:
    """Sleep at most `seconds`: of a long sleep all but its last stretch, of that one turn of the loop.

    asyncio's timers round up to whole milliseconds, and what is late is lost: at 100 requests a
    second a tenth of the pace. Whoever loops on this until the time has come is right to a few
    microseconds, for about one millisecond of CPU a token.
    """
    await asyncio.sleep(seconds - _LAST_STRETCH if seconds > _LAST_STRETCH else 0)


class Pacer:
    """Hands out tokens one after another, evenly spaced, to whoever asked first.

    A bucket of one token is what "without bursts" means: any stretch of w seconds holds at most
    rate x w + 1 tokens. What is late is lost, so the waits are kept exact by `sleep`.

    Args:
        per_second: Tokens a second; None for as many as are asked for.
        sleep: Waits about as many seconds as it is told; it may return early.
        on_pause: Told the seconds of each pause that begins.
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
        """Tokens a second; None when there is no limit."""
        return 1 / self._interval if self._interval else None

    @property
    def paused_for(self) -> float:
        """Seconds for which nobody may send anything; 0 when there is no pause."""
        return max(0.0, max(self._pause_ends, self._held_until) - self._now())

    @property
    def next_in(self) -> float:
        """Seconds until the next token; 0 where one can be had at once."""
        return max(0.0, self._next_token - self._now())

    async def acquire(self) -> float:
        """Wait for a token and take it; returns the seconds waited."""
        asked = self._now()
        async with self._turn:
            while (wait := await self._next_wait()) > 0:
                await self._sleep(wait)
            if self._bucket is not None:
                await self._bucket.acquire()
            self._last_token = self._now()
            self._next_token = self._last_token + self._interval
        return self._last_token - asked

    def change(self, per_second: float) -> None:
        """Go on at another rate, which the spacing to the next token has already.

        What is owed for the last token stays owed, in parts of a token, so that no change gives a
        free one: the new rate works it off from now on, and a slower one counts from that token.
        """
        now, interval = self._now(), 1 / per_second
        owed = (self._next_token - now) / self._interval
        slower = self._last_token + interval if interval > self._interval else -math.inf
        self._next_token = max(now + owed * interval, slower)
        self._interval = interval
        self._bucket = None

    def hold(self, until: float) -> None:
        """Nobody sends anything before `until` (the loop's time), as the pace wants it."""
        self._held_until = max(self._held_until, until)

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for `seconds` from now on; a longer pause stays as it is."""
        now = self._now()
        if self._pause_ends <= now:
            self._pause_began = now
        if now + seconds > self._pause_ends:
            self._pause_ends = now + seconds
            self._on_pause(seconds)

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:  # noqa: ARG002 (see AutoPacer)
        """A request that was sent at `sent` (the loop's time) met a 429: everybody pauses.

        For `retry_after` seconds; where the answer told none, for 1, 2, 4 ... at most 60. Requests
        that were on their way when a pause began are part of what it answered, and do not
        lengthen it by a step each. What the answer `said` teaches nothing where the rate is given.
        """
        if retry_after is not None and retry_after > 0:
            self.pause(retry_after)
        elif sent >= self._pause_began:
            self.pause(min(2.0**self._untold_pauses, _LONGEST_UNTOLD_PAUSE))
            self._untold_pauses += 1

    def succeeded(self, *, sent: float) -> None:
        """A request that was sent at `sent` was answered: after a pause, the steps begin anew."""
        if sent >= self._pause_began:
            self._untold_pauses = 0

    async def _next_wait(self) -> float:
        """Seconds until a token may be taken, as far as is known now; 0 when one may."""
        if (pause := self.paused_for) > 0:
            return pause
        if not self._interval:
            return 0.0
        if self._bucket is None:
            self._bucket = await self._new_bucket()
        if self._bucket.has_capacity():
            return 0.0
        # The bucket has the last word; a hair more than nothing keeps the clock moving.
        return max(self._next_token - self._now(), 1e-5)

    async def _new_bucket(self) -> AsyncLimiter:
        """A bucket of the rate in force, as full as is owed; it is never waited for, as it was empty."""
        bucket = AsyncLimiter(_CAPACITY, self._interval * _CAPACITY)
        await bucket.acquire(min(max((self._next_token - self._now()) / self._interval, 0.0), 1.0))
        return bucket

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
