"""An output directory in; what its ledger knows of units, uploads and runs, out. Blocking; it writes nothing."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError
from polygon_async.ledger.database import connected, said_of
from polygon_async.model.layout import LEDGER, csv_name
from polygon_async.model.sessions import Coverage
from polygon_async.model.states import FetchState, RunState, UploadState
from polygon_async.model.units import CsvFile

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Inventory", "RecordedRun", "RecordedUnit", "Upload", "read_inventory", "read_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A unit's object in one destination, as the ledger has it."""

    destination: str
    state: UploadState
    collected: datetime
    """UTC; the time in its key, or of the run that chose the key."""
    sha256: str
    """That of the CSV inside."""
    key: str | None
    """None until it was read back."""
    size: int | None
    checksum: str | None
    """The ETag, when the content was proven."""
    tags: Mapping[str, str]
    error: str | None
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUnit:
    """One unit, as the ledger has it."""

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
    doubles: int | None
    sha256: str | None
    """That of the whole CSV; None while there is none."""
    error: str | None
    coverage: Coverage | None
    """How its bars lie in its range's sessions; None where that is not known."""
    uploads: tuple[Upload, ...] = field(default=())

    def csv_in(self, directory: Path, sha256: str) -> CsvFile:
        """Its CSV of this digest, as it is or was in `directory`."""
        return CsvFile(
            path=directory / csv_name(self.symbol),
            bars=self.bars or 0,
            first=self.first or 0,
            last=self.last or 0,
            doubles=self.doubles or 0,
            size=self.size or 0,
            sha256=sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One run, as the ledger has it."""

    id: int
    first_day: date
    last_day: date
    adjusted: bool
    collected: datetime
    started: datetime
    ended: datetime | None
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All of it, at one moment."""

    units: tuple[RecordedUnit, ...]
    """By ticker, then range."""
    runs: tuple[RecordedRun, ...]
    """The oldest first."""


def read_inventory(directory: Path) -> Inventory:
    """What the ledger of an output directory knows; a run may be writing it meanwhile.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: there is one that cannot be read.
    """
    path = _path_in(directory)
    with connected(directory, read_only=True) as connection, said_of(path), closing(connection.cursor()) as cursor:
        # One transaction: all of it is of one moment.
        cursor.execute("BEGIN")
        if cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            raise ConfigError(f"{path}: the ledger is empty; no download has begun here")
        uploads: dict[int, list[Upload]] = {}
        for row in cursor.execute("SELECT * FROM upload ORDER BY unit, began"):
            uploads.setdefault(row["unit"], []).append(_upload(row))
        units = cursor.execute("SELECT * FROM unit ORDER BY ticker, first_day, last_day, adjusted, id").fetchall()
        runs = cursor.execute("SELECT * FROM run ORDER BY id").fetchall()
        return Inventory(
            units=tuple(_unit(row, tuple(uploads.get(row["id"], ()))) for row in units),
            runs=tuple(_run(row) for row in runs),
        )


def read_report(directory: Path, number: int | None) -> dict[str, Any]:
    """What a run reported when it ended.

    Args:
        directory: The output directory.
        number: Of the run, from 1; None: the last one that has a report.

    Raises:
        ConfigError: there is no ledger, no such run, or no report of it.
        DiskUnusable: the ledger cannot be read.
    """
    path = _path_in(directory)
    with connected(directory, read_only=True) as connection, said_of(path):
        row = connection.execute(
            "SELECT report FROM run WHERE id = :number OR (:number IS NULL AND report IS NOT NULL)"
            " ORDER BY id DESC LIMIT 1",
            {"number": number},
        ).fetchone()
    if row is None and number is not None:
        raise ConfigError(f"{path}: there is no run {number}; status --json lists them")
    if row is None or row["report"] is None:
        raise ConfigError(f"{path}: no report was left; a run leaves one when it ends, and not when it is killed")
    report: dict[str, Any] = json.loads(row["report"])
    return report


def _path_in(directory: Path) -> Path:
    path = directory / LEDGER
    if not path.is_file():
        raise ConfigError(f"{path}: there is no ledger; --output-dir names the directory of a download")
    return path


def _unit(row: sqlite3.Row, uploads: tuple[Upload, ...]) -> RecordedUnit:
    as_they_are = ("id", "source", "run", "bars", "first", "last", "size", "doubles", "sha256", "error")
    return RecordedUnit(
        **{name: row[name] for name in as_they_are},
        symbol=row["ticker"],
        state=FetchState(row["state"]),
        first_day=date.fromisoformat(row["first_day"]),
        last_day=date.fromisoformat(row["last_day"]),
        adjusted=bool(row["adjusted"]),
        coverage=None if row["coverage"] is None else Coverage.from_text(row["coverage"]),
        uploads=uploads,
    )


def _upload(row: sqlite3.Row) -> Upload:
    as_they_are = ("destination", "sha256", "key", "size", "checksum", "error", "began")
    return Upload(
        **{name: row[name] for name in as_they_are},
        state=UploadState(row["state"]),
        collected=datetime.fromtimestamp(row["collected"], UTC),
        tags=json.loads(row["tags"] or "{}"),
    )


def _run(row: sqlite3.Row) -> RecordedRun:
    return RecordedRun(
        id=row["id"],
        first_day=date.fromisoformat(row["first_day"]),
        last_day=date.fromisoformat(row["last_day"]),
        adjusted=bool(row["adjusted"]),
        collected=datetime.fromtimestamp(row["collected"], UTC),
        started=datetime.fromtimestamp(row["started"], UTC),
        ended=None if row["ended"] is None else datetime.fromtimestamp(row["ended"], UTC),
        state=RunState(row["state"]),
    )
