"""Frozen values that the ledger takes and gives: requests for runs, runs, and the records of units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from polygon_async.model.states import FetchState
    from polygon_async.model.units import CsvFile, Progress, Receipt

__all__ = ["Held", "Life", "LocalHistory", "Run", "RunRequest", "UnitRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a run is asked to do, as far as it decides which earlier run it resumes."""

    source: str
    """The API."""
    universe: str
    """Digest of the tickers."""
    first_day: date
    last_day: date
    adjusted: bool
    days_given: bool
    """Whether the days were given; if not, those of an unfinished run count."""
    settings: Mapping[str, object]
    """All settings, for later reference; without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has started, or was resumed."""

    id: int
    collected: datetime
    """The time in its objects' keys, UTC."""
    first_day: date
    last_day: date
    resumed: bool
    """Whether it resumes an earlier run that did not finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The newest bars that the ledger has of a ticker, for one destination."""

    first_day: date
    last_day: date
    until: date
    """The last day that was over when it was fetched."""
    csv: CsvFile
    receipt: Receipt | None
    """None if no object was wanted."""
    asked: date
    """The first day of all that was requested."""
    born: date
    """The day of the oldest bar."""
    days: int = field(repr=False)
    """The days that have bars (see `days`), of about as many days before `until` as were asked for."""


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a ticker's life, from all that was fetched of it."""

    asked: date
    """The first day that was requested."""
    first: int
    """Start of its first bar, ms UTC."""
    last: int
    """Start of its last bar, ms UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """What the ledger knows of a unit, and of its upload to one destination."""

    state: FetchState
    run: int
    """The run that last brought it to this state."""
    day: date
    """New York's day when fetching it began."""
    progress: Progress | None = None
    csv: CsvFile | None = None
    """The complete CSV, wherever it is now."""
    receipt: Receipt | None = None
    """The confirmed object of that CSV."""
    collected: datetime | None = None
    """The time in the object's key, once its upload has begun, confirmed or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHistory:
    """The content of a file under a ticker's name: the bars of one unit, or of several that continue one another."""

    source: str | None
    """The API; None: unknown."""
    adjusted: bool | None
    """Whether its prices are adjusted; None: unknown."""
    first_day: date
    last_day: date
    """The range that was requested, or if that is unknown, the days of its bars."""
    bars: int
    """0 if the file cannot be read as bars."""
    size: int
    """Bytes."""
    modified: int | None
    """The file's date, ns since 1970; None if it was not recorded."""
    crc: int | None
    """CRC-32 of the whole file; None if `sha256` is known."""
    sha256: str | None
    """Hex digest of the whole file; None if `crc` is known."""
    days: int | None = field(repr=False)
    """The days that have bars (see `days`); None: unknown."""
    began: float | None = None
    """When fetching its oldest bars began, s UTC; None: unknown, or when its unit began."""
    is_whole: bool = True
    """False if somebody has cut off its end."""
