"""What the ledger is told and tells, as values: orders, runs, and how a unit stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from polygon_async.model.states import FetchState
    from polygon_async.model.units import CsvFile, Progress, Receipt

__all__ = ["Held", "LocalHistory", "Run", "RunRequest", "UnitRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a run is asked for, as far as it decides which earlier run it goes on with."""

    source: str
    """Which API."""
    universe: str
    """Digest of the tickers."""
    first_day: date
    last_day: date
    adjusted: bool
    days_given: bool
    """Whether the days were asked for; else an unfinished run's count."""
    settings: Mapping[str, object]
    """All of them, for whoever looks later; without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has begun, or goes on."""

    id: int
    collected: datetime
    """The time in its objects' keys, UTC."""
    first_day: date
    last_day: date
    resumed: bool
    """Whether an earlier one goes on that did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The newest bars that the ledger holds of a ticker, where they were to go."""

    first_day: date
    last_day: date
    until: date
    """The last day that was over when it was fetched."""
    csv: CsvFile
    receipt: Receipt | None
    """None where no object was asked for."""
    born: date
    """The day of the oldest bar."""
    days: int
    """The last days that have bars (see `days`): those of about as many days back from `until` as were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """What the ledger holds of a unit, and of its upload to one destination."""

    state: FetchState
    run: int
    """The run that came last to this state."""
    day: date
    """New York's, when fetching it began."""
    progress: Progress | None = None
    csv: CsvFile | None = None
    """The whole CSV, wherever it is by now."""
    receipt: Receipt | None = None
    """The confirmed object of that CSV."""
    collected: datetime | None = None
    """The time in the key of the object that was begun, whether or not it is known to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHistory:
    """What a file under a ticker's name holds: the bars of one unit, or of several that continued one another."""

    source: str | None
    """Which API; None where nobody knows."""
    adjusted: bool | None
    """Whether its prices are; None where nobody knows."""
    first_day: date
    last_day: date
    """The range that was asked for, or where nobody knows the days of its bars."""
    bars: int
    size: int
    """Bytes."""
    modified: int | None
    """The file's date, ns since 1970; None where it was not noted."""
    crc: int | None
    """CRC-32 of the whole file; None where `sha256` is known."""
    sha256: str | None
    """Hex digest of the whole file; None where `crc` is known."""
    days: int | None
    """The days that have bars (see `days`); None where nobody knows."""
    is_whole: bool = True
    """False where somebody has cut its end."""
