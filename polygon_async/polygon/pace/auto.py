"""Finds the rate that the plan behind the key allows, from the API's answers and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from typing import TYPE_CHECKING

from polygon_async.model.rate import spell_rate
from polygon_async.polygon.pace.limiter import Pacer, fine_sleep
from polygon_async.polygon.pace.memory import LearnedRate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from polygon_async.polygon.pace.memory import RateMemory
    from polygon_async.system.threads import Threads

__all__ = ["AutoPacer", "Search", "open_auto_pacer"]

log = logging.getLogger(__name__)

_FIRST = 3.5
"""Not a whole number: the network's jitter would sometimes exceed a limit of exactly that many."""
_MOST = 100.0
"""The most that the vendor suggests for paid plans, a second."""
_FREE = 5 / 60.5
"""Five a minute, with half a second for the network's jitter."""
_LEAST = 1 / 60
_BUDGET = 5
"""Requests a minute of the free plan."""
_MINUTE = 60.0
_MARGIN = 0.5

_FEWEST_ANSWERS = 8
_SECONDS_TO_PROVE = 10.0
_SECONDS_TO_PROVE_A_SLOW_ONE = 120.0
"""Below one a second the limit is per minute, and the first minute may have room left."""
_SECONDS_TO_HALVE_THE_DOUBT = 30.0
_SECONDS_TO_DOUBT = 600.0
_MOST_SECONDS_TO_DOUBT = 7200.0
_NARROW = 1.25
"""A refused rate and one that holds are close enough when their ratio is at most this."""
_SAME = 1.001


class Search:
    """Finds the highest rate that holds; it has no clock and sends nothing.

    - Until something is refused, the rate doubles: each time after it was the limit for at least a
      second and brought at least eight answers.
    - A refusal takes it back to the last rate that held, else to half. One that speaks of a minute
      takes it to five a minute, if no more got through than the free plan allows.
    - Between the rate that held and the one that was refused it rises in ever smaller steps, half a
      minute apart; once they are close, the refused rate is tried again after ten minutes, and after
      twice as long whenever that fails. If it holds, the doubling continues.

    Args:
        lesson: What an earlier run found.
    """

    def __init__(self, lesson: LearnedRate | None = None) -> None:
        self._proven = min(max(lesson.per_second, _LEAST), _MOST) if lesson else None
        self._ceiling = lesson.ceiling if lesson else None
        self.per_second = self._proven or _FIRST
        """The current rate."""
        self.lesson = lesson
        """What is worth remembering, if anything is."""
        self._doubt_after = _SECONDS_TO_DOUBT
        self._fell = -math.inf
        self._answered_since = False
        self._sent: deque[float] = deque(maxlen=_BUDGET + 1)
        # Two of the free plan's minutes may overlap one of ours.
        self._answered: deque[float] = deque(maxlen=2 * _BUDGET + 1)
        # Since the current rate began: answers to what was sent, tokens, and tokens that were waited for.
        self._changed = self._calm_since = -math.inf
        self._answers = self._tokens = self._limited = 0

    def sent(self, now: float, *, waited: float) -> None:
        """Record that a request is sent after waiting `waited` seconds for its token."""
        self._sent.append(now)
        self._tokens += 1
        self._limited += waited > 0.1 / self.per_second

    def answered(self, now: float, *, sent: float) -> None:
        """Record that a request sent at `sent` was answered."""
        self._answered.append(sent)
        self._answered_since = self._answered_since or sent >= self._fell
        if sent < self._changed:
            return
        if not self._answers:
            self._calm_since = sent
        self._answers += 1
        calm = now - self._calm_since
        if self._was_the_limit():
            self._prove(calm)
            self._rise(now, calm)

    def refused(self, now: float, *, sent: float, said: str) -> None:
        """Record that a request sent at `sent` got a 429 with the message `said`."""
        if sent < self._fell:
            return  # It was already in flight when another refusal taught the same.
        before = self.per_second
        if self._ceiling is not None and before >= self._ceiling / _SAME:
            self._doubt_after = min(2 * self._doubt_after, _MOST_SECONDS_TO_DOUBT)
        rate, ceiling = self._taught(sent, said)
        self._fall(now, rate, ceiling)
        if rate == _FREE and rate < before:
            log.info("the API allows %s: rate lowered from %s", spell_rate(rate), spell_rate(before))
        elif rate < before:
            log.info("the API refuses %s: rate lowered to %s", spell_rate(before), spell_rate(rate))

    def free_again(self, now: float, *, said: str) -> float:
        """When the free plan's minute has room again after a refusal, judged by what was sent within it."""
        if self.per_second > _FREE * _SAME or not _speaks_of_a_minute(said) or len(self._sent) < _BUDGET:
            return now
        return min(self._sent[-_BUDGET] + _MINUTE + _MARGIN, now + _MINUTE)

    def _taught(self, sent: float, said: str) -> tuple[float, float | None]:
        """The rate after a refusal, and the rate that is known to be too high."""
        rate = self.per_second
        if rate <= _FREE * _SAME:
            # Right after the start, somebody else may have used up the minute.
            return (max(rate * 0.95, _LEAST), rate) if self._tokens > _BUDGET else (rate, self._ceiling)
        if _speaks_of_a_minute(said) and self._looks_free(sent):
            return _FREE, _FREE * _NARROW
        lower = self._proven if self._proven and self._proven < rate else rate / 2
        # Of two refusals in a row, both are about the time before the first one.
        return max(lower, _FREE), min(rate, self._ceiling or rate) if self._answered_since else self._ceiling

    def _looks_free(self, sent: float) -> bool:
        """Whether a refusal that speaks of a minute is the free plan's.

        It is if that plan's five requests were sent within a minute, and no more than these answered.
        It may be if two of its minutes overlapped, or somebody else used some of them: then the API
        refuses again before it answers anything.
        """
        answered = sum(moment > sent - _MINUTE for moment in self._answered)
        spent = len(self._sent) > _BUDGET and self._sent[0] > sent - _MINUTE
        again = self._fell > -math.inf and not self._answered_since
        return (spent and answered <= _BUDGET) or (again and answered <= 2 * _BUDGET)

    def _was_the_limit(self) -> bool:
        """Whether requests waited for tokens, and enough were answered to conclude that the rate holds."""
        return self._answers >= max(_FEWEST_ANSWERS, self.per_second) and 4 * self._limited >= 3 * self._tokens

    def _prove(self, calm: float) -> None:
        if self._ceiling is not None:
            if calm < (_SECONDS_TO_PROVE if self.per_second >= 1 else _SECONDS_TO_PROVE_A_SLOW_ONE):
                return
            if self.per_second >= self._ceiling / _SAME:
                self._ceiling = None
        self._proven = self.per_second
        self._learn()

    def _rise(self, now: float, calm: float) -> None:
        rate = self.per_second
        if self._ceiling is None:
            higher, after = 2 * rate, 0.0
        elif self._ceiling <= rate * _NARROW:
            higher, after = self._ceiling, self._doubt_after
        else:
            higher, after = math.sqrt(rate * self._ceiling), _SECONDS_TO_HALVE_THE_DOUBT
        higher = min(higher, _MOST)
        if self._proven == rate and rate < higher and calm >= after:
            self.per_second = higher
            self._begin(now)
            log.debug("%s holds: rate raised to %s", spell_rate(rate), spell_rate(higher))

    def _fall(self, now: float, rate: float, ceiling: float | None) -> None:
        self.per_second = rate
        self._ceiling = ceiling
        self._proven = rate
        self._fell = now
        self._answered_since = False
        self._begin(now)
        self._learn()

    def _learn(self) -> None:
        self.lesson = LearnedRate(per_second=self._proven or self.per_second, ceiling=self._ceiling)

    def _begin(self, now: float) -> None:
        """Start counting again, for the new rate."""
        self._changed = self._calm_since = now
        self._answers = self._tokens = self._limited = 0


class AutoPacer(Pacer):
    """A pacer that finds the rate itself, from the API's answers."""

    def __init__(
        self,
        search: Search,
        *,
        sleep: Callable[[float], Awaitable[object]] = fine_sleep,
        on_pause: Callable[[float], object] = lambda _seconds: None,
        on_lesson: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(search.per_second, sleep=sleep, on_pause=on_pause)
        self._search = search
        self._on_lesson = on_lesson

    def refused(self, *, sent: float, retry_after: float | None, said: str = "") -> None:
        """As in any pacer; in addition the rate falls to what a 429 with the message `said` teaches.

        If the free plan's minute is used up, nothing is sent until it has room again, which avoids the
        refusals that would come until then.
        """
        super().refused(sent=sent, retry_after=retry_after)
        with self._following():
            self._search.refused(self._now(), sent=sent, said=said)
        if not retry_after:
            paused = self.paused_for
            self.hold(self._search.free_again(self._now(), said=said))
            if self.paused_for > paused:
                log.info("this minute's requests are used up; the next one follows in %.0f s", self.paused_for)

    def succeeded(self, *, sent: float) -> None:
        """As in any pacer; in addition the rate may rise."""
        super().succeeded(sent=sent)
        with self._following():
            self._search.answered(self._now(), sent=sent)

    def _note_taken(self, first: float, *, waited: float, taken: int) -> None:
        apart = 1 / self._search.per_second
        for number in range(taken):
            self._search.sent(first + number * apart, waited=waited + number * apart)

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        rate, lesson = self._search.per_second, self._search.lesson
        yield
        if self._search.per_second != rate:
            self.change(self._search.per_second)
        if self._search.lesson != lesson:
            self._on_lesson()


@contextlib.asynccontextmanager
async def open_auto_pacer(
    memory: RateMemory, *, offload: Threads, on_pause: Callable[[float], object]
) -> AsyncIterator[AutoPacer]:
    """A pacer that starts with the rate in `memory`, where what it learns is kept, too."""
    recalled = await offload(memory.recall)
    if recalled is not None:
        log.info("starting at %s, the rate learned earlier", spell_rate(recalled.per_second))
    search = Search(recalled)
    news = asyncio.Event()
    kept = recalled

    async def keep() -> None:
        nonlocal kept
        if search.lesson is not None and search.lesson != kept:
            lesson = search.lesson
            await offload(memory.keep, lesson)
            kept = lesson

    async def keep_all() -> None:
        while True:
            await news.wait()
            news.clear()
            await keep()

    keeper = asyncio.create_task(keep_all())
    try:
        yield AutoPacer(search, on_pause=on_pause, on_lesson=news.set)
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
        await keep()


def _speaks_of_a_minute(said: str) -> bool:
    return "per minute" in said.lower()
