"""A market, a range and the days with bars in; the sessions that were to be expected, and those without a bar, out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from polygon_async.model.days import dates_of, days_between
from polygon_async.model.exchange_calendar import trading_days
from polygon_async.model.tickers import AssetType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Coverage", "Sessions", "by_month", "coverage", "sessions"]

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of a market in a range, as sets of days (see `days`)."""

    days: int
    half_days: int
    """Those that end early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How a unit's bars lie in its range's sessions.

    A session without any bar is missing only within the ticker's life: between its first and its last
    bar, and its days of listing and delisting where the universe tells these.
    """

    expected: int
    """Sessions in the range."""
    with_bars: int
    half_days: int
    """Of the sessions in the range, those that end early."""
    before: int
    """Sessions before its life: not listed yet."""
    after: int
    """Sessions after its life: delisted, or not traded since."""
    missing: tuple[date, ...]
    """Sessions of its life without a bar."""

    def as_json(self) -> dict[str, Any]:
        """Counts, and the missing days in ISO 8601."""
        counts = {name: getattr(self, name) for name in ("expected", "with_bars", "half_days", "before", "after")}
        return {**counts, "missing": [day.isoformat() for day in self.missing]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Coverage:
        """What `as_json` made."""
        return cls(**{**told, "missing": tuple(date.fromisoformat(day) for day in told["missing"])})


def sessions(market: AssetType, first: date, last: date) -> Sessions:
    """The sessions of a market from `first` to `last`.

    Stocks, options and indices have the New York Stock Exchange's, crypto every day, and forex every
    weekday (UTC): Sunday evening's few hours are Monday's beginning.

    Raises:
        ValueError: the exchange's calendar does not reach there.
    """
    every_day = days_between(first, last)
    if market is AssetType.CRYPTO:
        return Sessions(every_day, 0)
    if market is AssetType.FOREX:
        return Sessions(_set(day for day in dates_of(every_day) if day.weekday() < _SATURDAY), 0)
    return Sessions(*trading_days(first, last))


def coverage(expected: Sessions, days: int, *, listed: date | None = None, delisted: date | None = None) -> Coverage:
    """How days with bars cover the sessions that were to be expected.

    Args:
        expected: The range's sessions.
        days: Those with bars.
        listed: The ticker's first day, where it is known.
        delisted: The day on which it was no longer traded, where it is known.
    """
    found = list(dates_of(days))
    born = min(filter(None, (listed, *found[:1])), default=None)
    died = max(filter(None, (delisted and delisted - timedelta(days=1), *found[-1:])), default=None)
    wanted = list(dates_of(expected.days))
    before = sum(1 for day in wanted if born is None or day < born)
    after = sum(1 for day in wanted if born is not None and died is not None and day > max(born, died))
    missing = expected.days & ~days & (days_between(born, died) if born and died else 0)
    return Coverage(
        expected=len(wanted),
        with_bars=(expected.days & days).bit_count(),
        half_days=expected.half_days.bit_count(),
        before=before,
        after=after,
        missing=tuple(dates_of(missing)),
    )


def by_month(days: int) -> Counter[str]:
    """How many days of a set are in each month, by `2026-03`."""
    return Counter(f"{day:%Y-%m}" for day in dates_of(days))


def _set(days: Iterable[date]) -> int:
    return sum(days_between(day, day) for day in days)
