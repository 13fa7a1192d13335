"""Frozen values that travel between the wings: what is fetched, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from polygon_async.model.tickers import AssetType, Ticker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from polygon_async.model.states import OutcomeState

__all__ = ["MINUTE_MS", "NEW_YORK", "CsvFile", "Outcome", "Progress", "Receipt", "Unit", "today"]

NEW_YORK = ZoneInfo("America/New_York")
MINUTE_MS = 60_000
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


def today() -> date:
    """New York's calendar day."""
    return datetime.now(NEW_YORK).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit of work: one ticker over one range. One CSV, one object, one outcome."""

    ticker: Ticker
    start: date
    """First calendar day, inclusive."""
    end: date
    """Last calendar day, inclusive."""
    adjusted: bool
    window: tuple[int, int] | None = None
    """First and last ms UTC of the part of the range to request; None: all of it."""

    def ends(self) -> tuple[str, str]:
        """From and to as spelt in a request: the range's days, or a window's ms."""
        if self.window is not None:
            return str(self.window[0]), str(self.window[1])
        return self.start.isoformat(), self.end.isoformat()

    def last_minutes(self) -> set[int]:
        """The minutes (since 1970, UTC) at which the range may end: more than one where the day is ambiguous."""
        if self.window is not None or self.ticker.market is not AssetType.FOREX:
            return {self.bounds()[1] // MINUTE_MS}
        return {_days_ms(self.start, self.end, zone)[1] // MINUTE_MS for zone in (UTC, NEW_YORK)}

    def bounds(self) -> tuple[int, int]:
        """First and last ms UTC at which a bar may start.

        Days are New York's for stocks, options and indices, UTC's for crypto. For forex the API's
        documentation contradicts itself, so a bar of either day counts as inside.
        """
        if self.window is not None:
            return self.window
        utc = _days_ms(self.start, self.end, UTC)
        new_york = _days_ms(self.start, self.end, NEW_YORK)
        match self.ticker.market:
            case AssetType.CRYPTO:
                return utc
            case AssetType.FOREX:
                return min(utc[0], new_york[0]), max(utc[1], new_york[1])
            case _:
                return new_york


def _days_ms(start: date, end: date, zone: tzinfo) -> tuple[int, int]:
    first = datetime.combine(start, time(), tzinfo=zone)
    after = datetime.combine(end + _DAY, time(), tzinfo=zone)
    return int(first.timestamp()) * 1000, int(after.timestamp()) * 1000 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """A complete CSV on disk, and what is known about it."""

    path: Path
    bars: int
    first: int
    """Start of the first bar, ms UTC."""
    last: int
    """Start of the last bar, ms UTC."""
    duplicates: int
    """Identical bars that the API sent twice; the file has them once."""
    size: int
    """Bytes."""
    sha256: str
    """Hex digest of the whole file."""
    days: int | None = field(default=None, repr=False)
    """The days that have bars (see `days`); None: unknown."""
    modified: int | None = None
    """The file's date, ns since 1970; None: it was not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a unit's part file has got: enough for another run to resume it."""

    size: int
    """Bytes of the part that are valid."""
    crc: int
    """CRC-32 of these bytes."""
    bars: int
    first: int
    """Start of the first bar, ms UTC."""
    last: int
    """Start of the last bar, ms UTC."""
    duplicates: int
    resume_at: int | None
    """The first moment (ms UTC) not requested yet; None at the range's end."""
    days: int | None = field(default=None, repr=False)
    """The days that have bars so far (see `days`); None where that is not known."""
    is_promised: bool = False
    """Whether a next_url said that there are bars from `resume_at` on."""
    odd: Mapping[str, int] = field(default_factory=dict)
    """How many bars so far have values that no bar can have, by what is odd about them."""
    notes: tuple[str, ...] = ()
    """What is in doubt about the bars so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A stored object that was read back."""

    bucket: str
    key: str
    size: int
    """Bytes of the object."""
    confirmed_by: str
    """What proved the content: `checksum`, `etag` or `bytes`."""
    existed: bool
    """True if the same content was already stored and nothing was written."""
    checksum: str = ""
    """The object's ETag, from the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one unit ended, failures included."""

    unit: Unit
    state: OutcomeState
    csv: CsvFile | None = None
    receipt: Receipt | None = None
    error: str | None = None
    earlier: bool = False
    """Whether an earlier run had already done it."""
    seconds: float | None = None
    """From its first request to its end, if this run did it."""

    @property
    def starts_late_by(self) -> timedelta | None:
        """How long after the range's start the first bar comes, if that is more than a week."""
        # No market's day begins before UTC's: of most tickers, the zone need not be asked.
        if self.csv is None or datetime.fromtimestamp(self.csv.first / 1000, UTC).date() < self.unit.start + _WEEK:
            return None
        late = timedelta(milliseconds=self.csv.first - self.unit.bounds()[0])
        return late if late > _WEEK else None
