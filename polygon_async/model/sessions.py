"""Which sessions of a market were to be expected in a range, and which of them have no bar."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from polygon_async.model.days import (
    dates_of,
    days_between,
    ends_of,
    from_text,
    iso_dates_of,
    plausible_day,
    set_of,
    since,
    to_text,
    up_to,
)
from polygon_async.model.exchange_calendar import trading_days
from polygon_async.model.tickers import AssetType

if TYPE_CHECKING:
    from polygon_async.model.tickers import Ticker

__all__ = ["Coverage", "Sessions", "coverage", "days_back", "expected_from", "sessions", "told_life"]

_SATURDAY = 5
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, repr=False)
class Sessions:
    """The sessions of a market in a range, as sets of days (see `days`)."""

    days: int
    half_days: int
    """Those that end early."""

    def __repr__(self) -> str:
        return f"Sessions({self.days.bit_count()} days, {self.half_days.bit_count()} of them half)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Which of the range's sessions a unit's bars cover.

    A session without any bar is missing only within the ticker's life: from its first to its last bar,
    extended by its listing and delisting days where the universe gives them.
    """

    expected: int
    """Sessions in the range."""
    with_bars: int
    half_days: int
    """Sessions in the range that end early."""
    before: int
    """Sessions before the ticker's life: not listed yet."""
    after: int
    """Sessions after its life: delisted, or not traded since."""
    missing: int = field(repr=False)
    """Sessions of its life without a bar, as a set of days (see `days`): thousands of tickers may lack hundreds."""

    def as_json(self) -> dict[str, Any]:
        """Counts, and the missing days in ISO 8601."""
        return {**self._counts, "missing": iso_dates_of(self.missing)}

    def as_text(self) -> str:
        """It as the ledger keeps it: `as_json`, but for the missing days, which stay a set."""
        return json.dumps({**self._counts, "missing": to_text(self.missing)})

    @classmethod
    def from_text(cls, text: str) -> Coverage:
        """What `as_text` made; or `as_json`'s object, which ledgers had before."""
        told = json.loads(text)
        kept = told.pop("missing")
        if isinstance(kept, list):
            return cls(**told, missing=set_of(map(date.fromisoformat, kept)))
        return cls(**told, missing=from_text(kept) or 0)

    @property
    def _counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("expected", "with_bars", "half_days", "before", "after")}


def sessions(market: AssetType, first: date, last: date) -> Sessions:
    """The sessions of a market from `first` to `last`.

    Stocks, options and indices have those of the New York Stock Exchange, crypto has every day, forex every
    weekday (UTC): the few hours of Sunday evening count as Monday's beginning.

    Raises:
        ValueError: the exchange's calendar does not reach there.
    """
    every_day = days_between(first, last)
    if market is AssetType.CRYPTO:
        return Sessions(every_day, 0)
    if market is AssetType.FOREX:
        return Sessions(set_of(day for day in dates_of(every_day) if day.weekday() < _SATURDAY), 0)
    return Sessions(*trading_days(first, last))


def days_back(look_back: int) -> int:
    """A number of days that has at least `look_back` sessions, whatever the holidays."""
    return 2 * look_back + 14


def told_life(ticker: Ticker) -> tuple[date | None, date | None]:
    """The first and the last day on which a ticker was traded, as far as its universe says (list_date, delist_date)."""
    listed, delisted = (plausible_day(ticker.own(column)) for column in ("list_date", "delist_date"))
    return listed, None if delisted is None else delisted - _DAY


@lru_cache(maxsize=1000)
def expected_from(market: AssetType, asked: date, born: date, *, look_back: int) -> date:
    """The day from which on bars of a ticker are expected, where its listing is not known.

    That is the day of its first bar; but the first day that was requested if at most `look_back` sessions lie between
    them: the API may only be late with those.
    """
    if asked < born and (born - asked).days <= days_back(look_back):
        with contextlib.suppress(ValueError):  # the calendar does not reach there
            if sessions(market, asked, born - _DAY).days.bit_count() <= look_back:
                return asked
    return born


def coverage(
    expected: Sessions,
    days: int,
    *,
    listed: date | None = None,
    delisted: date | None = None,
    held: tuple[date, date] | None = None,
) -> Coverage:
    """How days with bars cover the sessions that were to be expected.

    Args:
        expected: The range's sessions.
        days: Those with bars.
        listed: The ticker's first day, where it is known or presumed.
        delisted: The day on which it was no longer traded, where it is known.
        held: The days of the first and the last bar that are known of it, in this range or another.
    """
    wanted, (first, last) = expected.days, ends_of(days) or (None, None)
    before, after = held or (None, None)
    born = min(filter(None, (listed, first, before)), default=None)
    died = max(filter(None, (delisted and delisted - _DAY, last, after)), default=None)
    gone = died and max(filter(None, (born, died)))
    later = 0 if born is None else since(wanted, born)
    return Coverage(
        expected=wanted.bit_count(),
        with_bars=(wanted & days).bit_count(),
        half_days=expected.half_days.bit_count(),
        before=wanted.bit_count() - later.bit_count(),
        after=0 if gone is None else later.bit_count() - up_to(later, gone).bit_count(),
        missing=0 if died is None else up_to(later, died) & ~days,
    )
