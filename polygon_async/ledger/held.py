"""What is held of each ticker, for one destination: its newest bars, its days, and when they were fetched. Blocking."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from polygon_async.ledger.rows import RECORD_COLUMNS, days_in, held_in
from polygon_async.model.days import moment_day
from polygon_async.model.layout import TIMEFRAME
from polygon_async.model.states import FetchState, UploadState
from polygon_async.model.tickers import AssetType

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from polygon_async.ledger.entries import Held

__all__ = ["Fetch", "HeldQuery", "fetches_of", "held_of"]

_UNITS = (
    " FROM unit LEFT JOIN upload ON upload.unit = unit.id AND destination = :destination"
    " WHERE source = :source AND timeframe = :timeframe AND adjusted = :adjusted AND unit.state = :fetched"
    " AND (:destination IS NULL OR (upload.state = :uploaded AND upload.sha256 = unit.sha256))"
)
"""Bars of which an object was to be and is not don't count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQuery:
    """Whose bars count."""

    source: str
    """Where the bars come from."""
    destination: str | None
    """Where the objects are; None where CSVs are all that is wanted."""
    adjusted: bool
    """Whether the prices are."""

    def values(self) -> Mapping[str, Any]:
        """As the statements name them."""
        return {
            "source": self.source,
            "timeframe": TIMEFRAME,
            "adjusted": self.adjusted,
            "destination": self.destination,
            "fetched": FetchState.FETCHED,
            "uploaded": UploadState.UPLOADED,
        }


@dataclass(frozen=True, slots=True)
class Fetch:
    """A range of a ticker, and when it was fetched."""

    first_day: date
    last_day: date
    day: date
    """New York's day when it began."""
    began: float
    """The same moment, s UTC."""


def held_of(
    rows: Callable[[str, Mapping[str, Any]], Iterable[sqlite3.Row]], wanted: HeldQuery, *, directory: Path, back: int
) -> dict[str, Held]:
    """What is held of each ticker, by its symbol.

    Args:
        rows: Asks the ledger.
        wanted: Whose bars count.
        directory: Where the CSVs are.
        back: How many days before the last one held the days with bars are told.
    """
    values = {**wanted.values(), "back": f"-{back} days"}
    until = "max(min(unit.last_day, date(unit.day, '-1 day')))"
    oldest = rows(
        f"SELECT unit.ticker, min(unit.first_day) AS asked, min(unit.first) AS first{_UNITS} GROUP BY unit.ticker",
        values,
    )
    born, asked = {}, {}
    for row in oldest:
        born[row["ticker"]] = moment_day(row["first"], AssetType.of(row["ticker"]))
        asked[row["ticker"]] = date.fromisoformat(row["asked"])
    days: defaultdict[str, int] = defaultdict(int)
    recent = rows(
        f"WITH last AS (SELECT unit.ticker AS name, {until} AS until{_UNITS} GROUP BY unit.ticker)"
        f" SELECT unit.ticker, unit.first_day, unit.last_day, unit.days{_UNITS}"
        " AND unit.last_day >= (SELECT date(until, :back) FROM last WHERE name = unit.ticker)",
        values,
    )
    for row in recent:
        days[row["ticker"]] |= days_in(row)
    # SQLite takes the other columns from the row that has the greatest.
    newest = rows(
        f"SELECT {RECORD_COLUMNS}, unit.first_day, unit.last_day, {until} AS until{_UNITS} GROUP BY unit.ticker",
        values,
    )
    held: dict[str, Held] = {}
    for row in newest:
        ticker = row["ticker"]
        found = held_in(row, directory, asked=asked[ticker], born=born[ticker], days=days[ticker])
        if found is not None:
            held[ticker] = found
    return held


def fetches_of(
    rows: Callable[[str, Mapping[str, Any]], Iterable[sqlite3.Row]], wanted: HeldQuery
) -> dict[str, list[Fetch]]:
    """When what is held of each ticker was fetched, by its symbol."""
    found: defaultdict[str, list[Fetch]] = defaultdict(list)
    asked = f"SELECT unit.ticker, unit.first_day, unit.last_day, unit.day, unit.began{_UNITS}"
    for row in rows(asked, wanted.values()):
        first, last, day = (date.fromisoformat(row[name]) for name in ("first_day", "last_day", "day"))
        found[row["ticker"]].append(Fetch(first, last, day, row["began"]))
    return dict(found)
