"""Converts a unit's facts to columns and back; only here do the two have to agree."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from polygon_async.ledger.entries import Held, Life, LocalHistory, UnitRecord
from polygon_async.model.days import days_between, from_text, to_text
from polygon_async.model.layout import TIMEFRAME, csv_name
from polygon_async.model.states import FetchState, UploadState
from polygon_async.model.units import CsvFile, Progress, Receipt

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from polygon_async.model.units import Unit

__all__ = [
    "FETCHED_COLUMNS",
    "RECEIPT_COLUMNS",
    "RECORD_COLUMNS",
    "SAME_UNIT",
    "csv_columns",
    "days_in",
    "held_in",
    "history_columns",
    "history_in",
    "life_in",
    "noted_days",
    "progress_columns",
    "receipt_columns",
    "record_in",
    "unit_identity",
]

FETCHED_COLUMNS = (
    *("size", "crc", "bars", "first", "last", "doubles", "resume_at", "days", "sha256", "remarks"),
    "coverage",
)
"""Columns of `unit`: what has been fetched, and what is known by that."""
RECEIPT_COLUMNS = ("bucket", "key", "size", "checksum", "confirmed_by")
"""Columns of `upload`: what was read back."""
_REMARKS = ("is_promised", "odd", "notes")
"""Fields of a Progress that the column `remarks` has (JSON)."""
SAME_UNIT = (
    "source = :source AND ticker = :ticker AND timeframe = :timeframe"
    " AND first_day = :from_day AND last_day = :to_day AND adjusted = :as_adjusted"
)
"""The row of `unit_identity`."""
RECORD_COLUMNS = (
    "unit.ticker, unit.state, unit.run, unit.day, unit.size, unit.crc, unit.bars, unit.first, unit.last, unit.doubles,"
    " unit.resume_at, unit.sha256, unit.days, unit.remarks, upload.state AS upload_state,"
    " upload.sha256 AS upload_sha256, upload.collected, upload.bucket, upload.key, upload.size AS object_size,"
    " upload.checksum, upload.confirmed_by"
)
"""What `record_in` needs of a unit and its upload."""


def unit_identity(unit: Unit, source: str) -> dict[str, object]:
    """What identifies a unit, under names that differ from all columns to be set."""
    return {
        "source": source,
        "ticker": unit.ticker.symbol,
        "timeframe": TIMEFRAME,
        "from_day": unit.start.isoformat(),
        "to_day": unit.end.isoformat(),
        "as_adjusted": unit.adjusted,
    }


def progress_columns(progress: Progress) -> dict[str, object]:
    """How far a part has got, as columns of `unit`."""
    return {
        "size": progress.size,
        "crc": progress.crc,
        "bars": progress.bars,
        "first": progress.first,
        "last": progress.last,
        "doubles": progress.duplicates,
        "resume_at": progress.resume_at,
        "days": to_text(progress.days),
        "remarks": _remarks(progress),
    }


def _remarks(progress: Progress) -> str | None:
    """What few parts have: what is in doubt or odd about them, and what their last next_url promised."""
    found = {name: getattr(progress, name) for name in _REMARKS}
    found = {name: value for name, value in found.items() if value}
    return json.dumps(found, default=dict) if found else None


def csv_columns(csv: CsvFile) -> dict[str, object]:
    """A complete CSV, as columns of `unit`."""
    return {
        "size": csv.size,
        "bars": csv.bars,
        "first": csv.first,
        "last": csv.last,
        "doubles": csv.duplicates,
        "sha256": csv.sha256,
        "days": to_text(csv.days),
    }


def receipt_columns(receipt: Receipt) -> dict[str, object]:
    """An object that was read back, as columns of `upload`."""
    return {name: getattr(receipt, name) for name in RECEIPT_COLUMNS}


def record_in(row: sqlite3.Row, directory: Path) -> UnitRecord:
    """The record in a row of `RECORD_COLUMNS`, of a unit whose files are in `directory`."""
    state = FetchState(row["state"])
    csv = _csv(row, directory) if state is FetchState.FETCHED else None
    same_content = csv is not None and row["upload_sha256"] == csv.sha256
    is_uploaded = same_content and row["upload_state"] == UploadState.UPLOADED
    return UnitRecord(
        state=state,
        run=row["run"],
        day=date.fromisoformat(row["day"]),
        progress=_progress(row) if state is FetchState.FETCHING and row["size"] else None,
        csv=csv,
        receipt=_receipt(row) if is_uploaded else None,
        collected=datetime.fromtimestamp(row["collected"], UTC) if same_content else None,
    )


def held_in(row: sqlite3.Row, directory: Path, *, asked: date, born: date, days: int) -> Held | None:
    """What such a row, with the range's days and `until`, says is held of a ticker; None without a complete CSV."""
    record = record_in(row, directory)
    if record.csv is None:
        return None
    first, last, until = (date.fromisoformat(row[name]) for name in ("first_day", "last_day", "until"))
    return Held(
        first_day=first,
        last_day=last,
        until=until,
        csv=record.csv,
        receipt=record.receipt,
        asked=asked,
        born=born,
        days=days,
    )


def life_in(row: sqlite3.Row) -> Life:
    """What the units of one ticker, grouped in a row, say of its life."""
    return Life(date.fromisoformat(row["asked"]), row["first"], row["last"])


def days_in(row: sqlite3.Row) -> int:
    """The days of a unit that have bars, of a row with its range."""
    return noted_days(row["days"], *(date.fromisoformat(row[name]) for name in ("first_day", "last_day")))


def noted_days(text: str | None, first: date, last: date) -> int:
    """The days that have bars (see `days`); where an older version did not note them, all of the range."""
    known = from_text(text)
    return days_between(first, last) if known is None else known


def _progress(row: sqlite3.Row) -> Progress:
    remarks = json.loads(row["remarks"] or "{}")
    if "notes" in remarks:
        remarks["notes"] = tuple(remarks["notes"])
    return Progress(
        **{name: remarks[name] for name in _REMARKS if name in remarks},
        size=row["size"],
        crc=row["crc"],
        bars=row["bars"],
        first=row["first"],
        last=row["last"],
        duplicates=row["doubles"],
        resume_at=row["resume_at"],
        days=from_text(row["days"]),
    )


def _csv(row: sqlite3.Row, directory: Path) -> CsvFile:
    return CsvFile(
        path=directory / csv_name(row["ticker"]),
        bars=row["bars"],
        first=row["first"],
        last=row["last"],
        duplicates=row["doubles"],
        size=row["size"],
        sha256=row["sha256"],
        days=from_text(row["days"]),
    )


def _receipt(row: sqlite3.Row) -> Receipt:
    return Receipt(
        bucket=row["bucket"],
        key=row["key"],
        size=row["object_size"],
        checksum=row["checksum"],
        confirmed_by=row["confirmed_by"],
        existed=True,
    )


def history_columns(history: LocalHistory) -> dict[str, object]:
    """What a ticker's file holds, as columns of `history`, but for when it began."""
    names = ("size", "modified", "crc", "sha256", "source", "adjusted", "bars")
    return {
        **{name: getattr(history, name) for name in names},
        "first_day": history.first_day.isoformat(),
        "last_day": history.last_day.isoformat(),
        "days": to_text(history.days),
    }


def history_in(row: sqlite3.Row) -> LocalHistory:
    """The local history in a row of `history`."""
    return LocalHistory(
        source=row["source"],
        adjusted=bool(row["adjusted"]),
        first_day=date.fromisoformat(row["first_day"]),
        last_day=date.fromisoformat(row["last_day"]),
        bars=row["bars"],
        size=row["size"],
        modified=row["modified"],
        began=row["began"],
        crc=row["crc"],
        sha256=row["sha256"],
        days=from_text(row["days"]),
    )
