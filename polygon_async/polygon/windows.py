"""What is known of a long range's pages in, where to cut the rest of it out; and who may send more at once.

A chain of next_urls can be walked one page after another only. Where requests may be under way that no
ticker needs, the rest of a range is cut into windows of a little under one page, side by side.
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
    """Sizes windows by the density of the pages seen last.

    Args:
        bars: Bars of a full page, one whose next_url goes on; it tells what a page can hold, too.
        span: Ms from where that page began to where the next one does.
        spare: Requests that cutting may cost beyond its share.
    """

    _FILL = 0.95
    """Of a page that a window is to take up: denser by a twentieth, and it still needs no second one."""
    _LONGEST_STEP = 4
    """How much longer than the window before one may be; an empty stretch has no density to go by."""
    _SPARE = 0.09
    """Requests above the fewest possible, of these, that cutting may cost; and `spare`."""

    def __init__(self, bars: int, span: int, *, spare: float = 1.0) -> None:
        self._capacity = bars
        self._densities = deque([bars / span], maxlen=3)
        self._length = span
        self._spare = spare

    @property
    def can_afford(self) -> bool:
        """Whether windows have not cost too many requests so far."""
        return self._spare > 0

    def learn(self, bars: int, span: int) -> None:
        """A page of `bars` bars came, which covered `span` ms; one of the fewest requests brings a full page."""
        self._densities.append(bars / max(span, MINUTE_MS))
        self._length = max(span, MINUTE_MS)
        self._spare += bars / self._capacity * (1 + self._SPARE) - 1

    def end(self, begin: int, last: int) -> int:
        """Where a window that begins at `begin` ends (ms, inclusive), in a range that ends at `last`.

        What remains is cut evenly: as many windows as it takes, none of them smaller than it must be.
        """
        length: float = self._length * self._LONGEST_STEP
        if densest := max(self._densities):
            length = min(length, self._FILL * self._capacity / densest)
        remaining = last - begin + 1
        even = remaining / math.ceil(remaining / max(length, MINUTE_MS))
        return min(begin + math.ceil(even / MINUTE_MS) * MINUTE_MS - 1, last)


@dataclass(slots=True)
class Slots:
    """Requests that may be under way at once, and who has them."""

    total: int
    """--concurrency."""
    waiting: int = 0
    """Tickers that nobody has begun; they come first."""
    busy: int = 0
    """Tickers that are being fetched; each has one request under way."""
    extra: int = 0
    """Windows of these tickers beyond the first of each."""

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """A ticker that was waiting is being fetched."""
        self.waiting -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    @contextlib.contextmanager
    def windows(self) -> Iterator[Callable[[int], None]]:
        """A ticker that is fetched in windows, and calls what it is given with how many are in flight."""
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
        """Whether one more window may be asked for, where `parallel` requests at once use up the pace."""
        under_way = self.busy + self.extra
        return not self.waiting and under_way < min(self.total, parallel)
