"""The pacer of a process that shares its rate with others: it asks the owner of the tokens for each one.

Clocks differ between machines, so that only durations travel. A token that arrives late is void: it is never sent,
and never goes back, as what a worker that was cut off still holds would be spent twice. The owner judges outages, too:
during one it gives no token but for its probes.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

__all__ = ["LeasePacer", "Leaser", "SharedOutage"]

_LATE = 1.0
"""Seconds on the way after which a token is void."""
_SPACING_SHARE = 0.5
_LEAST_LATE = 0.05
"""At a high rate, a token that is later than this would make the next second too full."""
_SECONDS_TO_RETRY = 0.5


class Leaser(Protocol):
    """How the owner of the tokens is asked; every call may fail with OSError while it cannot be reached."""

    async def lease(self, succeeded: list[float], *, answered: bool) -> Mapping[str, Any] | None:
        """The next token, after waiting for it: how long it took the owner, and the pace; None: there is none now.

        Args:
            succeeded: How many seconds ago requests were sent that have been answered since the last call.
            answered: Whether any was, be it with a refusal.
        """

    async def failing(self, ticker: str, words: str, unreachable: bool) -> None:
        """A request about this ticker failed with this message, and may be retried."""

    async def answered(self) -> None:
        """A request was answered, during an outage."""

    async def refused(self, sent: float, retry_after: float | None, said: str) -> None:
        """A request that was sent `sent` seconds ago got a 429."""

    async def pause(self, seconds: float) -> None:
        """The API asked for a pause of all requests."""


class LeasePacer:
    """Takes tokens from the owner of all; it has the interface of `Pacer`.

    Args:
        leaser: How the owner is asked.
    """

    def __init__(self, leaser: Leaser) -> None:
        self._leaser = leaser
        self._answered: deque[float] = deque(maxlen=1000)
        self._per_second: float | None = None
        self._pause_ends = self._next = -1e9
        self._telling = _Telling()
        self.outage = SharedOutage(leaser, self._telling)

    @property
    def per_second(self) -> float | None:
        """The owner's rate for all together, as it last said; None: unlimited, or unknown."""
        return self._per_second

    @property
    def paused_for(self) -> float:
        """Seconds until requests may be sent again, as the owner last said."""
        return max(0.0, self._pause_ends - self._now())

    @property
    def next_in(self) -> float:
        """Seconds until the next token, as the owner last said."""
        return max(0.0, self._next - self._now())

    async def acquire(self) -> float:
        """Wait for a token and take it; returns the seconds waited. Without the owner, there is none."""
        asked = self._now()
        while True:
            began = self._now()
            answered = [began - self._answered.popleft() for _ in range(len(self._answered))]
            try:
                token = await self._leaser.lease(answered, answered=self.outage.take_answered())
            except OSError:
                token = None
            if token is None:
                await asyncio.sleep(_SECONDS_TO_RETRY)
                continue
            self.learn(token)
            on_its_way = self._now() - began - token["waited"]
            if on_its_way <= self._late():
                return self._now() - asked

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        """Record that a request sent at `sent` (the loop's time) got a 429: the owner pauses everybody."""
        self._telling(self._leaser.refused(self._now() - sent, retry_after, said))

    def succeeded(self, *, sent: float) -> None:
        """Record that a request sent at `sent` was answered; the owner learns with the next token."""
        self._answered.append(sent)

    def pause(self, seconds: float) -> None:
        """Pause all requests, of all workers."""
        self._telling(self._leaser.pause(seconds))

    def learn(self, pace: Mapping[str, Any]) -> None:
        """What the owner says of its pace."""
        self._per_second = pace["per_second"]
        self._pause_ends = self._now() + pace["paused_for"]
        self._next = self._now() + pace["next_in"]
        self.outage.learn(pace["outage"])

    def _late(self) -> float:
        if not self._per_second:
            return _LATE
        return min(_LATE, max(_LEAST_LATE, _SPACING_SHARE / self._per_second))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class SharedOutage:
    """What this process knows of the outage that the owner of the tokens judges for all of them.

    It never raises: an outage that has lasted too long ends the run where the owner is.
    """

    def __init__(self, leaser: Leaser, telling: _Telling) -> None:
        self._leaser = leaser
        self._telling = telling
        self._is_on = self._is_reached = self._has_answer = False
        self._ended = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether the API is down for everyone, as the owner last said."""
        return self._is_on

    @property
    def was_reached(self) -> bool:
        """Whether anything at all has been answered to anybody, as far as is known here."""
        return self._is_reached

    def was_on_since(self, moment: float) -> bool:
        """Whether it is down, or was after `moment` (the loop's time)."""
        return self._is_on or self._ended >= moment

    def failing(self, ticker: str, words: str, *, unreachable: bool = False) -> None:
        """Tell the owner that a request about this ticker failed with this message, and may be retried."""
        self._is_reached |= not unreachable
        self._telling(self._leaser.failing(ticker, words, unreachable))

    def answered(self) -> None:
        """Record that a request was answered: the owner learns with the next token; if others wait for it, at once."""
        self._is_reached = self._has_answer = True
        if self._is_on:
            self._is_on = False
            self._telling(self._leaser.answered())

    async def admit(self) -> float:
        """Nothing is waited for here: the owner gives no token as long as none may be used."""
        return 0.0

    def take_answered(self) -> bool:
        """Whether a request was answered since this was last asked."""
        has_answer, self._has_answer = self._has_answer, False
        return has_answer

    def learn(self, said: Mapping[str, Any]) -> None:
        """What the owner says of it."""
        self._is_on = said["down"] is not None
        self._is_reached |= said["reached"]
        if said["ended_ago"] is not None:
            self._ended = asyncio.get_running_loop().time() - said["ended_ago"]


class _Telling:
    """Words to the owner, which nobody waits for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, words: Coroutine[Any, Any, None]) -> None:
        async def told() -> None:
            try:
                await words
            except OSError:
                return  # who cannot reach the owner gets no token either

        task = asyncio.get_running_loop().create_task(told())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
