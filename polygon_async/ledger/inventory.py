"""The units of a ledger, each with all its uploads. Blocking; nothing is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from polygon_async.ledger.database import reading
from polygon_async.ledger.rows import history_in, noted_days
from polygon_async.ledger.runs import RESUMABLE
from polygon_async.model.layout import csv_name
from polygon_async.model.states import FetchState, UploadState
from polygon_async.model.units import CsvFile

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import LocalHistory

__all__ = ["RecordedUnit", "Upload", "recorded_histories", "recorded_units"]

_AS_THEY_ARE = ("id", "source", "run", "bars", "first", "last", "size", "sha256", "error", "ended")
_UNIT = ", ".join((*_AS_THEY_ARE, "ticker", "doubles", "state", "first_day", "last_day", "adjusted", "days"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A unit's object in one destination, as recorded."""

    destination: str
    state: UploadState
    collected: datetime
    """UTC; the time in its key, or of the run that chose the key."""
    sha256: str
    """The digest of the CSV inside."""
    key: str | None
    """None until it was read back."""
    size: int | None
    checksum: str | None
    """The ETag, when the content was proven."""
    tags: Mapping[str, str]
    error: str | None
    began: float
    is_resumable: bool
    """Whether its run goes on when its command is given again, if it is not confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUnit:
    """One unit, as recorded."""

    id: int
    source: str
    symbol: str
    first_day: date
    last_day: date
    adjusted: bool
    state: FetchState
    run: int
    bars: int | None
    first: int | None
    """Start of the first bar, ms UTC."""
    last: int | None
    size: int | None
    """Bytes of the CSV, or of its part."""
    duplicates: int | None
    sha256: str | None
    """The digest of the complete CSV; None until there is one."""
    error: str | None
    ended: float | None
    """When fetching it ended, s UTC."""
    kept_days: str | None = field(repr=False)
    uploads: tuple[Upload, ...] = field(default=())

    @property
    def days(self) -> int:
        """The days that have bars (see `days`); where an older version did not note them, all of its range."""
        return noted_days(self.kept_days, self.first_day, self.last_day)

    def csv_in(self, directory: Path, sha256: str) -> CsvFile:
        """Its CSV with this digest, as it is or was in `directory`."""
        return CsvFile(
            path=directory / csv_name(self.symbol),
            bars=self.bars or 0,
            first=self.first or 0,
            last=self.last or 0,
            duplicates=self.duplicates or 0,
            size=self.size or 0,
            sha256=sha256,
        )


def recorded_units(directory: Path) -> tuple[RecordedUnit, ...]:
    """All units of an output directory's ledger, by ticker, then range; a run may be writing it meanwhile.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: it cannot be read.
    """
    uploads: dict[int, list[Upload]] = {}
    with reading(directory) as cursor:
        for row in cursor.execute(f"SELECT *, run IN ({RESUMABLE}) AS is_resumable FROM upload ORDER BY unit, began"):
            uploads.setdefault(row["unit"], []).append(_upload(row))
        rows = cursor.execute(f"SELECT {_UNIT} FROM unit ORDER BY ticker, first_day, last_day, adjusted, id")
        return tuple(_unit(row, tuple(uploads.get(row["id"], ()))) for row in rows)


def recorded_histories(directory: Path, tickers: Sequence[str]) -> Mapping[str, Sequence[LocalHistory]]:
    """What files under these tickers' names are known to hold, by symbol; of each the newest is the last.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: it cannot be read.
    """
    found: dict[str, list[LocalHistory]] = {}
    with reading(directory) as cursor:
        statement = "SELECT * FROM history WHERE ticker IN (SELECT value FROM json_each(:tickers)) ORDER BY rowid"
        for row in cursor.execute(statement, {"tickers": json.dumps(tickers)}):
            found.setdefault(row["ticker"], []).append(history_in(row))
    return found


def _unit(row: sqlite3.Row, uploads: tuple[Upload, ...]) -> RecordedUnit:
    return RecordedUnit(
        **{name: row[name] for name in _AS_THEY_ARE},
        symbol=row["ticker"],
        duplicates=row["doubles"],
        state=FetchState(row["state"]),
        first_day=date.fromisoformat(row["first_day"]),
        last_day=date.fromisoformat(row["last_day"]),
        adjusted=bool(row["adjusted"]),
        kept_days=row["days"],
        uploads=uploads,
    )


def _upload(row: sqlite3.Row) -> Upload:
    as_they_are = ("destination", "sha256", "key", "size", "checksum", "error", "began")
    return Upload(
        **{name: row[name] for name in as_they_are},
        state=UploadState(row["state"]),
        collected=datetime.fromtimestamp(row["collected"], UTC),
        is_resumable=bool(row["is_resumable"]),
        tags=json.loads(row["tags"] or "{}"),
    )
