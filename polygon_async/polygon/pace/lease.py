"""The pacer of a process that shares its rate with others: the owner of the tokens gives it slots to send in.

Clocks differ between machines, so that only durations travel: so many slots, so far apart, the first of them now.
A slot that its request does not take in time is void: it never goes back, as what a worker that was cut off still
holds would be spent twice. So are the slots of an earlier generation: whatever pauses everybody begins a new one.
The owner judges outages, too: during one it gives no slot but for its probes.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

__all__ = ["LeasePacer", "Leaser", "SharedOutage"]

_LATE = 1.0
"""Seconds after which a slot is void."""
_SPACING_SHARE = 0.5
_LEAST_LATE = 0.05
"""At a high rate, a slot that is later than this would make the next second too full."""
_CLOSER = 0.97
"""What is late may make up for it by as much: slots are at least this part of their spacing apart, which is what the
owner keeps in hand."""
_TIMERS = 0.002
"""Seconds by which a loop's timers are late as a rule."""
_SECONDS_TO_RETRY = 0.5
_SECONDS_TO_TELL = 0.5


class Leaser(Protocol):
    """How the owner of the tokens is asked; every call may fail with OSError while it cannot be reached."""

    async def lease(self, want: int, succeeded: list[float], *, answered: bool) -> Mapping[str, Any] | None:
        """Slots to send in, after waiting for the first of them; None: there are none now.

        They are a mapping: how long the owner `waited`, in s; `slots`, at most `want`, `every` so many seconds, the
        first one now; and the owner's pace.

        Args:
            want: How many requests wait.
            succeeded: How many seconds ago requests were sent that have been answered since the last call.
            answered: Whether any was, be it with a refusal.
        """

    async def news(self, succeeded: list[float], *, answered: bool) -> None:
        """As in a call for slots, where none is needed."""

    async def failing(self, ticker: str, words: str, unreachable: bool) -> None:
        """A request about this ticker failed with this message, and may be retried."""

    async def refused(self, sent: float, retry_after: float | None, said: str) -> None:
        """A request that was sent `sent` seconds ago got a 429."""

    async def pause(self, seconds: float) -> None:
        """The API asked for a pause of all requests."""


class LeasePacer:
    """Takes slots from the owner of all; it has the interface of `Pacer`.

    One call at a time asks for as many slots as requests wait; meanwhile those are used that came with the call before.

    Args:
        leaser: How the owner is asked.
    """

    def __init__(self, leaser: Leaser) -> None:
        self._leaser = leaser
        self._answered: deque[float] = deque(maxlen=1000)
        self._waiting: deque[asyncio.Future[None]] = deque()
        """First come, first served."""
        self._slots: deque[float] = deque()
        """Moments (the loop's time) in which a request may be sent."""
        self._every = 0.0
        self._free = -math.inf
        """The moment before which no further request may be sent from here."""
        self._generation: tuple[str, int] = ("", 0)
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._per_second: float | None = None
        self._pause_ends = self._next = -1e9
        self._telling = _Telling()
        self._news: asyncio.TimerHandle | None = None
        self.outage = SharedOutage(leaser, self._telling, on_answer=self._tell_soon)

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
        """Wait for a slot and take it; returns the seconds waited. Without the owner, there is none."""
        asked = self._now()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._ask()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if not self._waiting and self._asking is not None:
                self._asking.cancel()
                self._asking = None
            raise
        return self._now() - asked

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        """Record that a request sent at `sent` (the loop's time) got a 429: the owner pauses everybody."""
        self._slots.clear()
        self._telling(self._leaser.refused(self._now() - sent, retry_after, said))

    def succeeded(self, *, sent: float) -> None:
        """Record that a request sent at `sent` was answered; the owner learns with the next call, or soon."""
        self._answered.append(sent)
        self._tell_soon()

    def pause(self, seconds: float) -> None:
        """Pause all requests, of all workers."""
        self._slots.clear()
        self._telling(self._leaser.pause(seconds))

    def learn(self, pace: Mapping[str, Any]) -> None:
        """What the owner says of its pace; with another generation, what it gave before is void."""
        self._per_second = pace["per_second"]
        self._pause_ends = self._now() + pace["paused_for"]
        self._next = self._now() + pace["next_in"]
        self.outage.learn(pace["outage"])
        generation = (pace["budget"], pace["generation"])
        if generation != self._generation and not self._is_over(pace):
            self._generation = generation
            self._slots.clear()
            self._ask()

    def _is_over(self, pace: Mapping[str, Any]) -> bool:
        """Whether what the owner said is of an earlier generation of the same budget: it was overtaken on its way."""
        budget, generation = self._generation
        return bool(pace["budget"] == budget and pace["generation"] < generation)

    # Asking

    def _ask(self) -> None:
        """See to it that somebody asks for what is missing."""
        if self._asking is None and len(self._waiting) > len(self._slots):
            self._asking = asyncio.get_running_loop().create_task(self._ask_for_all())

    async def _ask_for_all(self) -> None:
        try:
            while (want := len(self._waiting) - len(self._slots)) > 0:
                began = self._now()
                try:
                    found = await self._leaser.lease(want, self._taken_news(), answered=self.outage.take_answered())
                except OSError:
                    found = None
                if found is None:
                    await asyncio.sleep(_SECONDS_TO_RETRY)
                    continue
                is_void = self._is_over(found)
                self.learn(found)
                on_its_way = self._now() - began - found["waited"]
                if not is_void and on_its_way <= self._late():
                    self._every = found["every"]
                    self._slots.extend(self._now() + number * self._every for number in range(found["slots"]))
                    self._use()
        except Exception as error:  # noqa: BLE001 (who waits gets it)
            for turn in self._waiting:
                if not turn.done():
                    turn.set_exception(error)
            self._waiting.clear()
        finally:
            if self._asking is asyncio.current_task():
                self._asking = None

    def _use(self) -> None:
        """Give each slot whose moment has come to who waits; come back for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._slots:
            slot, now = self._slots[0], self._now()
            due = max(slot, self._free)
            if due > now:
                self._timer = asyncio.get_running_loop().call_at(due, self._use)
                break
            self._slots.popleft()
            if now - slot <= self._late() and (turn := self._next_turn()) is not None:
                turn.set_result(None)
                self._free = (due if now - due < _TIMERS else now) + _CLOSER * self._every
        self._ask()

    def _next_turn(self) -> asyncio.Future[None] | None:
        """Who is next; who has been cancelled, and has not heard of it yet, is not."""
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                return turn
        return None

    def _late(self) -> float:
        if not self._per_second:
            return _LATE
        return min(_LATE, max(_LEAST_LATE, _SPACING_SHARE / self._per_second))

    # Telling

    def _taken_news(self) -> list[float]:
        """How many seconds ago requests were sent whose answers the owner has not been told."""
        now = self._now()
        return [now - self._answered.popleft() for _ in range(len(self._answered))]

    def _tell_soon(self) -> None:
        """Tell the owner of answers, if no call for slots does so first: one may wait for long."""
        if self._news is None:
            self._news = asyncio.get_running_loop().call_later(_SECONDS_TO_TELL, self._tell)

    def _tell(self) -> None:
        self._news = None
        answered = self.outage.take_answered()
        if answered or self._answered:
            self._telling(self._leaser.news(self._taken_news(), answered=answered))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class SharedOutage:
    """What this process knows of the outage that the owner of the tokens judges for all of them.

    It never raises: an outage that has lasted too long ends the run where the owner is.
    """

    def __init__(self, leaser: Leaser, telling: _Telling, *, on_answer: Callable[[], None]) -> None:
        self._leaser = leaser
        self._telling = telling
        self._on_answer = on_answer
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
        """Record that a request was answered: the owner learns with the next call; if others wait for it, at once."""
        self._is_reached = self._has_answer = True
        if self._is_on:
            self._is_on = False
            self._telling(self._leaser.news([], answered=True))
        else:
            self._on_answer()

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
