"""A size in, tickers of the sandbox and a range of days that have it out."""

from __future__ import annotations

import datetime as dt
import itertools
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.sandbox.profile import profile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGE", "Job", "Size", "almost_nothing", "full_pages", "one_day"]

PAGE = 50_000
"""Bars of a full page."""

_START = dt.date(2010, 1, 1)
_TRADING_DAY = dt.date(2025, 6, 3)
_MINUTES = 1440
_DENSITY = 0.94
"""Of the densest invented crypto pairs, which trade around the clock."""
_ROOM = 1_000
"""Bars that the last page of a ticker has room for, as chance decides about single bars."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be downloaded."""

    tickers: tuple[str, ...]
    start: dt.date
    end: dt.date

    @property
    def range(self) -> list[str]:
        """The command line's flags for the days."""
        return ["--from", str(self.start), "--to", str(self.end)]

    def first(self, tickers: int) -> Job:
        """The same for fewer tickers."""
        return Job(self.tickers[:tickers], self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is downloaded in each measurement; pages are those of one ticker."""

    pages: int
    """Eight tickers of so many are the main measurement."""
    baseline_tickers: int
    """So many of them the script does, too."""
    long_pages: int
    share_pages: tuple[int, int]
    """Of the two runs from whose difference a page's own cost is known."""
    memory_pages: tuple[int, int]
    """Of short tickers and of long ones."""
    wide_pages: int
    """At concurrency 64."""
    small_tickers: int
    read: tuple[int, int]
    """Tickers that are read back, and the pages of each."""
    units: int
    """Of a ledger that is shown."""


def full_pages(tickers: int, pages: int) -> Job:
    """Crypto pairs that have `pages` pages each, all but the last full, and that nearly so."""
    days = int((pages * PAGE - _ROOM) / (_MINUTES * _DENSITY))
    return Job(tuple(itertools.islice(_dense(), tickers)), _START, _START + dt.timedelta(days=days - 1))


def almost_nothing() -> Job:
    """One ticker on one day: what a program takes for it, it takes for starting."""
    return Job(tuple(itertools.islice(_dense(), 1)), _START, _START)


def one_day(tickers: int) -> Job:
    """Stocks that have about 400 bars each, on one day."""
    return Job(tuple(itertools.islice(_with_400_bars(), tickers)), _TRADING_DAY, _TRADING_DAY)


def _dense() -> Iterator[str]:
    for letters in itertools.product(string.ascii_uppercase, repeat=3):
        pair = profile(f"X:{''.join(letters)}USD")
        if not pair.gappy and pair.odds[0, 0] / 2**32 > _DENSITY - 0.005:
            yield pair.ticker


def _with_400_bars() -> Iterator[str]:
    for letters in itertools.product(string.ascii_uppercase, repeat=4):
        stock = profile("".join(letters))
        if 380 <= stock.odds[_TRADING_DAY.weekday()].sum() / 2**32 <= 420:
            yield stock.ticker
