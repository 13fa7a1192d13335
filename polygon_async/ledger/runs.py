"""The runs that a ledger has recorded, and what each of them reported. Blocking; nothing is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError
from polygon_async.ledger.database import reading
from polygon_async.model.layout import LEDGER
from polygon_async.model.states import RunState

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["RESUMABLE", "RecordedRun", "read_report", "recorded_runs"]

RESUMABLE = f"""
    SELECT id FROM run AS one WHERE state != '{RunState.DONE}' AND NOT EXISTS (
        SELECT * FROM run AS later
        WHERE later.id > one.id AND later.source = one.source AND later.universe = one.universe
            AND later.adjusted = one.adjusted AND later.days_given = one.days_given
            AND (NOT one.days_given OR later.first_day = one.first_day AND later.last_day = one.last_day)
    )
"""
"""The runs that did not finish, and go on when their command is given again."""


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


def recorded_runs(cursor: sqlite3.Cursor) -> tuple[RecordedRun, ...]:
    """All runs, the oldest first."""
    # Not their reports, which take half a megabyte each.
    rows = cursor.execute(
        "SELECT id, first_day, last_day, adjusted, collected, started, ended, state FROM run ORDER BY id"
    )
    return tuple(_run(row) for row in rows)


def read_report(directory: Path, number: int | None) -> dict[str, Any]:
    """What a run reported when it ended.

    Args:
        directory: The output directory.
        number: Of the run, from 1; None: the last one that has a report.

    Raises:
        ConfigError: there is no ledger, no such run, or no report of it.
        DiskUnusable: the ledger cannot be read.
    """
    path = directory / LEDGER
    with reading(directory) as cursor:
        row = cursor.execute(
            "SELECT report FROM run WHERE id = :number OR (:number IS NULL AND report IS NOT NULL)"
            " ORDER BY id DESC LIMIT 1",
            {"number": number},
        ).fetchone()
    if row is None and number is not None:
        raise ConfigError(f"{path}: there is no run {number}; status --json lists them")
    if row is None or row["report"] is None:
        raise ConfigError(f"{path}: there is no report; a run writes one when it ends, but not when it is killed")
    report: dict[str, Any] = json.loads(row["report"])
    return report


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
