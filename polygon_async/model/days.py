"""Sets of days, small enough to travel with every page.

A set of days is an int: bit n stands for the day n days after 1970-01-01. Sets are joined with |.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import compress, count
from typing import TYPE_CHECKING

from polygon_async.model.tickers import AssetType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "by_month",
    "dates_of",
    "days_between",
    "days_of",
    "ends_of",
    "from_text",
    "iso_dates_of",
    "moment_day",
    "plausible_day",
    "set_of",
    "since",
    "to_text",
    "up_to",
]

_DAY_MS = 86_400_000
# No stock trades between midnight and one o'clock in New York, so winter time gives the right day in summer, too.
_NEW_YORK_MS = 5 * 3_600_000
_EPOCH = date(1970, 1, 1)
_ZERO_AND_ONE = bytes.maketrans(b"01", b"\0\1")
_UTC = frozenset({AssetType.CRYPTO, AssetType.FOREX})
_NEVER = frozenset({date(1900, 1, 1), _EPOCH})
"""What spreadsheets, databases and clocks write for no day at all; no exchange was open on either."""
_OLDEST = date(1900, 1, 1)
_FURTHEST = timedelta(days=3653)
"""How far ahead a ticker's last day can be known: options expire within some years."""


def plausible_day(text: str) -> date | None:
    """The day of a ticker's life that a universe or the API gives; None for what cannot be one.

    Other programs write 0001-01-01, 1970-01-01 or 9999-12-31 where they know no day.
    """
    try:
        day = date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None
    latest = datetime.now(UTC).date() + _FURTHEST
    return day if _OLDEST <= day <= latest and day not in _NEVER else None


def days_of(stamps: NDArray[np.int64], market: AssetType) -> int:
    """The days of bars that start at `stamps` (ms UTC, increasing): UTC for crypto and forex, else New York."""
    if not len(stamps):
        return 0
    numbers = (stamps - (0 if market in _UTC else _NEW_YORK_MS)) // _DAY_MS
    first = [True]
    first += (numbers[1:] != numbers[:-1]).tolist()
    return sum(1 << number for number in numbers[first].tolist() if number >= 0)


def moment_day(moment: int, market: AssetType) -> date:
    """The day of a bar that starts at `moment` (ms UTC), as `days_of` counts days."""
    return _EPOCH + timedelta(days=(moment - (0 if market in _UTC else _NEW_YORK_MS)) // _DAY_MS)


def days_between(first: date, last: date) -> int:
    """All days from `first` to `last`, both included, but none before 1970."""
    low, high = max(0, (first - _EPOCH).days), (last - _EPOCH).days
    return ((1 << max(0, high - low + 1)) - 1) << low


def dates_of(days: int) -> Iterator[date]:
    """The days as dates, in order."""
    return map(date.fromordinal, compress(count(_lowest(days) + _EPOCH.toordinal()), _flags(days)))


def iso_dates_of(days: int) -> list[str]:
    """The days in ISO 8601, in order; what is asked for again and again, as for many tickers, is made once."""
    return list(map(_iso, compress(count(_lowest(days)), _flags(days))))


def set_of(dates: Iterable[date]) -> int:
    """These dates as a set; what is before 1970 is left out."""
    numbers = [number for day in dates if (number := day.toordinal() - _EPOCH.toordinal()) >= 0]
    flags = bytearray(max(numbers, default=0) // 8 + 1)
    for number in numbers:
        flags[number // 8] |= 1 << number % 8
    return int.from_bytes(flags, "little")


def since(days: int, first: date) -> int:
    """The days of a set from `first` on."""
    number = max(0, (first - _EPOCH).days)
    return days >> number << number


def up_to(days: int, last: date) -> int:
    """The days of a set up to `last`, included."""
    number = max(0, (last - _EPOCH).days + 1)
    # What has no end has a late one: no mask of so many bits is made for it.
    return days if number >= days.bit_length() else days & ((1 << number) - 1)


def ends_of(days: int) -> tuple[date, date] | None:
    """The first day and the last; None for the empty set."""
    if not days:
        return None
    return _EPOCH + timedelta(days=_lowest(days)), _EPOCH + timedelta(days=days.bit_length() - 1)


def by_month(days: int) -> dict[str, int]:
    """How many days of a set are in each month that it touches, by `2026-03`."""
    found: dict[str, int] = {}
    if (ends := ends_of(days)) is None:
        return found
    year, month, bits = ends[0].year, ends[0].month, days >> _lowest(days)
    skipped = ends[0].day - 1
    while bits:
        length = monthrange(year, month)[1] - skipped
        if days_in_it := (bits & ((1 << length) - 1)).bit_count():
            found[f"{year}-{month:02}"] = days_in_it
        bits >>= length
        skipped = 0
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return found


def to_text(days: int | None) -> str | None:
    """A set as stored text: its first day's number, and its bits from there on, in hex."""
    if days is None:
        return None
    low = _lowest(days)
    return f"{low}:{days >> low:x}"


def from_text(text: str | None) -> int | None:
    """A set from its stored text; None (unknown) stays None, which is not the empty set."""
    if text is None:
        return None
    low, _, bits = text.partition(":")
    return int(bits, 16) << int(low)


def _lowest(days: int) -> int:
    """The number of a set's first day; 0 for the empty one."""
    return max(0, (days & -days).bit_length() - 1)


def _flags(days: int) -> bytes:
    """For each day from the first one on, whether it is in the set."""
    return f"{days >> _lowest(days):b}"[::-1].encode().translate(_ZERO_AND_ONE)


@cache
def _iso(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).isoformat()
