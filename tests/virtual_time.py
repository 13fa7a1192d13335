"""A clock that the test controls, and what may be said of moments by it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
_T = TypeVar("_T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time only goes on to the next timer.

    Args:
        turn: Seconds that one turn of the loop takes.
        tick: Timers wait for whole ticks of so many seconds and half of one more, as a real selector's do.
    """

    def __init__(self, *, turn: float = 0.0, tick: float = 0.0) -> None:
        self._now = 0.0
        self._turn, self._tick = turn, tick
        super().__init__(_Waiting(self))

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        """What waiting for `seconds` does to the clock."""
        late = -seconds % self._tick + self._tick / 2 if self._tick and seconds else 0.0
        self._now += seconds + late + self._turn


class _Waiting(selectors.SelectSelector):
    """A selector that does not wait: it lets its loop's time pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nobody for a moment"
        self._loop.pass_time(max(0.0, timeout))
        return super().select(0)


def in_virtual_time(story: Coroutine[Any, Any, _T], *, turn: float = 0.0, tick: float = 0.0) -> _T:
    """The result of a story that takes no real time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(turn=turn, tick=tick)) as runner:
        return runner.run(story)


def now() -> float:
    return asyncio.get_running_loop().time()


def check_pace(moments: Sequence[float], rate: float, *, tolerance: float = 0.0) -> None:
    """No stretch of w seconds holds more than rate x w + 1 of the moments."""
    # moments[j] - moments[i] >= (j - i) / rate, for all i < j.
    early = -float("inf")
    for place, moment in enumerate(moments):
        slack = moment - place / rate
        assert slack >= early - 2e-6 / rate - tolerance - 1e-9, f"{place} of them by {moment}"
        early = max(early, slack)
