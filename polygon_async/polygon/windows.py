"""Where to cut the rest of a long range into windows, and who may send more requests at once.

A chain of next_urls can only be walked one page after another. If more requests may be in flight than
tickers need, the rest of a range is cut into windows of a little under one page, side by side.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.model.units import MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Cutter", "Slots"]


class Cutter:
    """Sizes windows by the density of the latest pages.

    Args:
        bars: Bars of a full page, one with a next_url; also the capacity of a page.
        span: Ms from the start of that page to the start of the next one.
        spare: Requests that cutting may cost beyond its share.
    """

    _FILL = 0.95
    """The share of a page that a window should fill: if it is a twentieth denser, it still needs no second page."""
    _LONGEST_STEP = 4
    """How much longer than the previous window one may be; an empty stretch has no density to go by."""
    _SPARE = 0.09
    """The share of additional requests that cutting may cost, plus `spare`."""

    def __init__(self, bars: int, span: int, *, spare: float = 1.0) -> None:
        self._capacity = bars
        self._densities = deque([bars / span], maxlen=3)
        self._length = span
        self._spare = spare

    @property
    def can_afford(self) -> bool:
        """Whether windows have not yet cost too many requests."""
        return self._spare > 0

    def learn(self, bars: int, span: int) -> None:
        """Take into account a page of `bars` bars that covered `span` ms."""
        self._densities.append(bars / max(span, MINUTE_MS))
        self._length = max(span, MINUTE_MS)
        self._spare += bars / self._capacity * (1 + self._SPARE) - 1

    def end(self, begin: int, last: int) -> int:
        """Where a window that begins at `begin` ends (ms, inclusive), in a range that ends at `last`.

        The rest is cut evenly, into as few windows as possible.
        """
        length: float = self._length * self._LONGEST_STEP
        if densest := max(self._densities):
            length = min(length, self._FILL * self._capacity / densest)
        remaining = last - begin + 1
        even = remaining / math.ceil(remaining / max(length, MINUTE_MS))
        return min(begin + math.ceil(even / MINUTE_MS) * MINUTE_MS - 1, last)


@dataclass(slots=True)
class Slots:
    """How many requests may be in flight at once, and who has them."""

    total: int
    """--concurrency."""
    waiting: int = 0
    """Tickers that have not been started; they come first."""
    busy: int = 0
    """Tickers that are being fetched; each has one request in flight."""
    extra: int = 0
    """Windows of these tickers beyond the first of each."""

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """For as long as a ticker that was waiting is being fetched."""
        self.waiting -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    @contextlib.contextmanager
    def windows(self) -> Iterator[Callable[[int], None]]:
        """For as long as a ticker is fetched in windows; it calls the function with how many are in flight."""
        extra = 0

        def count(in_flight: int) -> None:
            nonlocal extra
            self.extra += max(in_flight - 1, 0) - extra
            extra = max(in_flight - 1, 0)

        try:
            yield count
        finally:
            count(0)

    def has_room(self, parallel: float) -> bool:
        """Whether one more window may be requested, given that `parallel` requests in flight use up the rate."""
        under_way = self.busy + self.extra
        return not self.waiting and under_way < min(self.total, parallel)
