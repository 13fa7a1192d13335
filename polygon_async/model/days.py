"""Bars' starts in; the set of days on which there are any, small enough to travel with every page, out.

A set of days is an int: bit n stands for the day n days after 1970-01-01. Sets are joined with |.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from polygon_async.model.tickers import AssetType

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["dates_of", "days_between", "days_of", "from_text", "plausible_day", "to_text"]

_DAY_MS = 86_400_000
# No stock trades between midnight and one o'clock in New York, so that winter's time tells the day in summer, too.
_NEW_YORK_MS = 5 * 3_600_000
_EPOCH = date(1970, 1, 1)
_UTC = frozenset({AssetType.CRYPTO, AssetType.FOREX})
_NEVER = frozenset({date(1900, 1, 1), _EPOCH})
"""What spreadsheets, databases and clocks write for no day at all; no exchange was open on either."""
_OLDEST = date(1900, 1, 1)
_FURTHEST = timedelta(days=3653)
"""How far ahead a ticker's last day can be known: options expire within some years."""


def plausible_day(text: str) -> date | None:
    """The day of a ticker's life that a universe or the API tells; None for what cannot be one.

    Other programs write 0001-01-01, 1970-01-01 or 9999-12-31 where they know no day.
    """
    try:
        day = date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None
    latest = datetime.now(UTC).date() + _FURTHEST
    return day if _OLDEST <= day <= latest and day not in _NEVER else None


def days_of(stamps: NDArray[np.int64], market: AssetType) -> int:
    """The days of bars that start at `stamps` (ms UTC, increasing): UTC's for crypto and forex, else New York's."""
    if not len(stamps):
        return 0
    numbers = (stamps - (0 if market in _UTC else _NEW_YORK_MS)) // _DAY_MS
    first = [True]
    first += (numbers[1:] != numbers[:-1]).tolist()
    return sum(1 << number for number in numbers[first].tolist() if number >= 0)


def days_between(first: date, last: date) -> int:
    """All days from `first` to `last`, both included; none before 1970."""
    low, high = max(0, (first - _EPOCH).days), (last - _EPOCH).days
    return ((1 << max(0, high - low + 1)) - 1) << low


def dates_of(days: int) -> Iterator[date]:
    """The days as dates, in order."""
    number = 0
    while days:
        step = (days & -days).bit_length() - 1
        number += step
        yield _EPOCH + timedelta(days=number)
        days >>= step + 1
        number += 1


def to_text(days: int | None) -> str | None:
    """A set as it is kept: its first day's number, and its bits from there on, in hex."""
    if days is None:
        return None
    low = max(0, (days & -days).bit_length() - 1)
    return f"{low}:{days >> low:x}"


def from_text(text: str | None) -> int | None:
    """A set as it was kept; None for none, which is not the empty one."""
    if text is None:
        return None
    low, _, bits = text.partition(":")
    return int(bits, 16) << int(low)
