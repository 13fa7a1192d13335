"""How the units of a ledger stand: counted, and row by row. Blocking; nothing is written.

SQL counts, chooses and sorts, and a row is read when it is asked for: a ledger may have hundreds of thousands of units.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from polygon_async.ledger.database import reading
from polygon_async.ledger.runs import RESUMABLE, recorded_runs
from polygon_async.model.sessions import Coverage
from polygon_async.model.states import FetchState, OutcomeState, RunState, UploadState
from polygon_async.model.units import today
from polygon_async.system.locks import is_locked

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from polygon_async.ledger.runs import RecordedRun

__all__ = ["KnownFile", "Overview", "Total", "UnitRow", "known_files", "open_overview"]

_WORDS: Mapping[str, str] = {
    "fetching": FetchState.FETCHING,
    "fetched": FetchState.FETCHED,
    "empty": FetchState.NO_DATA,
    "fetch_failed": FetchState.FAILED,
    "uploading": UploadState.UPLOADING,
    "read_back": UploadState.UPLOADED,
    "upload_failed": UploadState.FAILED,
    "lost": UploadState.LOST,
    "uploaded": OutcomeState.UPLOADED,
    "saved": OutcomeState.SAVED,
    "no_data": OutcomeState.NO_DATA,
    "failed": OutcomeState.FAILED,
    "abandoned": OutcomeState.ABANDONED,
}
_UNITS = f"""
    SELECT unit.*, upload.destination, upload.key, upload.size AS object_size, upload.error AS upload_error,
        CASE
            WHEN unit.state = :empty THEN :no_data
            WHEN unit.state = :fetch_failed THEN :failed
            WHEN unit.state = :fetching AND unit.run != :live
                AND (unit.run NOT IN ({RESUMABLE}) OR unit.adjusted AND unit.day < :today) THEN :abandoned
            WHEN unit.state = :fetching THEN NULL
            WHEN unit.state != :fetched THEN unit.state
            WHEN upload.state IS NULL THEN :saved
            WHEN upload.state IN (:upload_failed, :lost) THEN :failed
            WHEN upload.state = :read_back AND upload.sha256 = unit.sha256 THEN :uploaded
            WHEN upload.state NOT IN (:uploading, :read_back) THEN upload.state
            WHEN upload.run != :live AND upload.run NOT IN ({RESUMABLE}) THEN :abandoned
        END AS standing
    FROM unit LEFT JOIN upload ON upload.unit = unit.id AND unit.state NOT IN (:empty, :fetch_failed)
        AND upload.destination = (
            SELECT destination FROM upload AS one WHERE one.unit = unit.id ORDER BY began DESC, destination DESC LIMIT 1
        )
"""
"""Units with how they stand. A unit's newest upload decides; an earlier one to another destination is history.

Words that are not known here stay what they are: they are no `OutcomeState`. What no run will continue is abandoned:
its run is not one that its command resumes, or its part has adjusted prices of another day.
"""
_TOTALS = """
    SELECT standing, count(*), sum(bars), sum(size), sum(iif(standing = :uploaded, object_size, 0))
    FROM ({units}) WHERE {chosen} GROUP BY standing
"""
_ROWS = """
    SELECT ticker, first_day, last_day, adjusted, source, standing,
        iif(standing IS NULL, iif(state = :fetching, :fetching, :uploading), NULL),
        iif(standing = :failed, iif(state = :fetch_failed, error, upload_error), NULL),
        bars, first, last, size, sha256, coverage, destination,
        iif(standing = :uploaded, key, NULL), iif(standing = :uploaded, object_size, NULL)
    FROM ({units}) WHERE {chosen} ORDER BY ticker, first_day, last_day, adjusted, id LIMIT {most}
"""
_ALL = -1
"""SQLite's word for no limit."""


class UnitRow(NamedTuple):
    """One unit, as recorded: plain values, as there are many rows and few of their values are used."""

    ticker: str
    first_day: str
    last_day: str
    adjusted: int
    source: str
    state: str | None
    """How it ended (see `OutcomeState`); None while it is pending."""
    doing: str | None
    """What is pending."""
    error: str | None
    """Why it failed."""
    bars: int | None
    """Of a unit that is being fetched: so far, as with the other facts of its CSV."""
    first: int | None
    """Start of the first bar, ms UTC."""
    last: int | None
    size: int | None
    """Bytes of the CSV."""
    sha256: str | None
    kept_coverage: str | None
    destination: str | None
    """Where its newest object went, or is to go."""
    key: str | None
    """The key of its confirmed object."""
    stored: int | None
    """Bytes of that object."""

    @property
    def coverage(self) -> Coverage | None:
        """Which of its range's sessions its bars cover; None: unknown."""
        return None if self.kept_coverage is None else Coverage.from_text(self.kept_coverage)


class KnownFile(NamedTuple):
    """What a file under a ticker's name holds, or is about to hold: as plain as a unit's row."""

    size: int
    modified: int | None
    crc: int | None
    sha256: str | None
    source: str
    adjusted: int
    first_day: str
    last_day: str

    def covers(self, row: UnitRow) -> bool:
        """Whether the unit's bars are to be in it."""
        same = (self.source, self.adjusted) == (row.source, row.adjusted)
        return same and self.first_day <= row.first_day and row.last_day <= self.last_day


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The totals of some units."""

    units: int
    bars: int
    csv_bytes: int
    stored_bytes: int
    """Bytes of their confirmed objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A ledger at one moment, as long as it is open."""

    runs: tuple[RecordedRun, ...]
    """All of them, the oldest first."""
    is_running: bool | None
    """Whether the last one goes on; None: that cannot be found out."""
    totals: Mapping[OutcomeState | None, Total]
    """By how the units ended; None for those that are pending."""
    files: Mapping[str, Sequence[KnownFile]]
    """What the file under a ticker's name may be, by ticker: what was there, and what was about to be."""
    _cursor: sqlite3.Cursor = field(repr=False)
    _values: Mapping[str, str | int] = field(repr=False)

    def rows(self, *, state: OutcomeState | None = None, most: int | None = None) -> Iterator[UnitRow]:
        """Units by ticker, then range: those that ended in this state, or all; at most `most`.

        One iteration at a time.
        """
        chosen = _chosen(self._values) if state is None else f"{_chosen(self._values)} AND standing = :wanted"
        statement = _ROWS.format(units=_UNITS, chosen=chosen, most=_ALL if most is None else most)
        yield from map(UnitRow._make, self._cursor.execute(statement, {**self._values, "wanted": state or ""}))


@contextmanager
def open_overview(
    directory: Path, tickers: Sequence[str] | None = None, *, claimed: bool = False
) -> Iterator[Overview]:
    """How the units of some tickers, or of all, stand in the ledger of an output directory; a run may be writing it.

    Args:
        directory: The output directory.
        tickers: The tickers; None: all.
        claimed: Whether the caller has the directory's lock, so that no run can be at work.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: there is one that cannot be read.
    """
    with reading(directory) as cursor:
        runs = recorded_runs(cursor)
        cursor.row_factory = None
        is_running = bool(runs) and runs[-1].state is RunState.RUNNING and not claimed and is_locked(directory)
        live = runs[-1].id if is_running is not False else -1
        values: dict[str, str | int] = {**_WORDS, "live": live, "today": today().isoformat()}
        values |= {} if tickers is None else {"tickers": json.dumps(tickers)}
        totals = cursor.execute(_TOTALS.format(units=_UNITS, chosen=_chosen(values)), values).fetchall()
        yield Overview(
            runs=runs,
            is_running=is_running,
            totals=dict(map(_total, totals)),
            files=_files(cursor, values),
            _cursor=cursor,
            _values=values,
        )


def known_files(directory: Path, tickers: Sequence[str] | None = None) -> Mapping[str, Sequence[KnownFile]]:
    """What the files under tickers' names may be by now, those of some tickers or of all, by symbol.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: there is one that cannot be read.
    """
    with reading(directory) as cursor:
        cursor.row_factory = None
        return _files(cursor, {} if tickers is None else {"tickers": json.dumps(tickers)})


def _files(cursor: sqlite3.Cursor, values: Mapping[str, str | int]) -> dict[str, list[KnownFile]]:
    found: defaultdict[str, list[KnownFile]] = defaultdict(list)
    statement = f"SELECT ticker, {', '.join(KnownFile._fields)} FROM history WHERE {_chosen(values)} ORDER BY rowid"
    for ticker, *file in cursor.execute(statement, values):
        found[ticker].append(KnownFile._make(file))
    return dict(found)


def _chosen(values: Mapping[str, str | int]) -> str:
    return "ticker IN (SELECT value FROM json_each(:tickers))" if "tickers" in values else "TRUE"


def _total(row: tuple[str | None, int, int | None, int | None, int | None]) -> tuple[OutcomeState | None, Total]:
    state, units, bars, csv_bytes, stored_bytes = row
    total = Total(units=units, bars=bars or 0, csv_bytes=csv_bytes or 0, stored_bytes=stored_bytes or 0)
    return None if state is None else OutcomeState(state), total
