"""The SQLite file of a ledger: its tables, the connection, and what can be wrong with it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, DiskUnusable, one_line
from polygon_async.model.layout import LEDGER
from polygon_async.system.files import disk_errors, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["connected", "existing", "reading", "said_of"]

_APPLICATION = 0x706F6C79
"""Marks an SQLite file as this program's: `poly`."""
_RUNS_UNITS_UPLOADS = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    universe TEXT NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    adjusted INTEGER NOT NULL,
    days_given INTEGER NOT NULL,
    settings TEXT NOT NULL,
    collected INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    state TEXT NOT NULL
) STRICT;
CREATE TABLE unit (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    adjusted INTEGER NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run,
    day TEXT NOT NULL,
    size INTEGER, crc INTEGER, bars INTEGER, first INTEGER, last INTEGER, doubles INTEGER, resume_at INTEGER,
    sha256 TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    began REAL NOT NULL,
    ended REAL,
    UNIQUE (source, ticker, timeframe, first_day, last_day, adjusted)
) STRICT;
CREATE TABLE upload (
    unit INTEGER NOT NULL REFERENCES unit,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run,
    collected INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bucket TEXT, key TEXT, size INTEGER, checksum TEXT, confirmed_by TEXT, tags TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    began REAL NOT NULL,
    ended REAL,
    PRIMARY KEY (unit, destination)
) STRICT, WITHOUT ROWID;
"""
# run: `collected` is the time in its objects' keys (s UTC), `universe` a digest of its tickers; it is running, done,
# interrupted or stopped. unit: `day` is New York's when it was begun, crc and size are those of its part or CSV. In
# upload, `sha256` is that of the CSV inside, `checksum` the object's ETag; it is uploading, uploaded, failed, or lost:
# uploaded, and not as it was when it was verified. `began` and `ended` are s UTC,
# bars' times ms UTC.
_LISTINGS = """
CREATE TABLE listing (
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    exchange TEXT,
    currency TEXT,
    asked REAL NOT NULL,
    PRIMARY KEY (source, ticker)
) STRICT, WITHOUT ROWID;
"""
# What the reference data said when it was asked (s UTC); NULL is what it does not tell.
_COVERAGE_AND_REPORTS = """
ALTER TABLE unit ADD COLUMN days TEXT;
ALTER TABLE unit ADD COLUMN coverage TEXT;
ALTER TABLE run ADD COLUMN report TEXT;
"""
# The days with bars (see `days`), how they lie in the sessions of the range (JSON), and what a run reported (JSON).
_UNITS_IN_ORDER = "CREATE INDEX unit_in_order ON unit (ticker, first_day, last_day, adjusted)"
# From here on, the days missing in a coverage are a set as text (see `days`), and no longer a list.
_HISTORIES = """
CREATE TABLE history (
    ticker TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified INTEGER,
    crc INTEGER,
    sha256 TEXT,
    source TEXT NOT NULL,
    adjusted INTEGER NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    bars INTEGER NOT NULL,
    days TEXT
) STRICT;
CREATE INDEX history_of_ticker ON history (ticker);
INSERT INTO history
SELECT ticker, size, NULL, NULL, sha256, source, adjusted, first_day, last_day, bars, days FROM unit
WHERE state = 'fetched' GROUP BY ticker HAVING max(ended);
"""
# What the file under a ticker's name holds, or is about to hold: one row for the file that is there and one for the
# file that takes its name next; the present one is told by size and date (ns), or by its CRC-32 or digest.
_REMARKS = "ALTER TABLE unit ADD COLUMN remarks TEXT"
# What is odd or in doubt about a part, and whether its last next_url promised more bars (JSON); NULL is nothing.
_SPLITS = """
CREATE TABLE split (
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    day TEXT NOT NULL,
    split_from TEXT NOT NULL,
    split_to TEXT NOT NULL,
    learned REAL NOT NULL,
    PRIMARY KEY (source, ticker, day, split_from, split_to)
) STRICT, WITHOUT ROWID;
CREATE TABLE split_query (
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT NOT NULL,
    asked REAL NOT NULL,
    PRIMARY KEY (source, ticker)
) STRICT, WITHOUT ROWID
"""
# The splits that the API listed, each with when that was first seen (s UTC), and the newest question about a ticker, or
# about all of them (''), that was answered completely: executed since a day until a day.
_AGE_OF_HISTORIES = """
ALTER TABLE history ADD COLUMN began REAL;
UPDATE history SET began = coalesce(
    (
        SELECT min(unit.began) FROM unit
        WHERE unit.ticker = history.ticker AND unit.source = history.source AND unit.adjusted = history.adjusted
        AND unit.state = 'fetched' AND unit.first_day >= history.first_day AND unit.last_day <= history.last_day
    ),
    CAST(strftime('%s', first_day) AS REAL)
)
"""
# When fetching the oldest of a history's bars began (s UTC): its prices are adjusted for splits up to then.
_STEPS = (
    *(_RUNS_UNITS_UPLOADS, _LISTINGS, _COVERAGE_AND_REPORTS, _UNITS_IN_ORDER, _HISTORIES, _REMARKS, _SPLITS),
    _AGE_OF_HISTORIES,
)
"""What makes each version of the tables out of the one before, from an empty file on; a step is never changed."""
_READABLE = 8
"""From this version on, who only reads needs nothing that a later step adds, so that no copy is needed."""


@contextmanager
def connected(directory: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """The file of an output directory, open; created if missing, unless it is only read.

    Raises:
        DiskUnusable: it is not a ledger, is damaged, from a newer version, or cannot be written.
    """
    path = directory / LEDGER
    with said_of(path):
        connection = _open_to_read(path) if read_only else sqlite3.connect(path, **_OPTIONS)
    try:
        with said_of(path):
            connection = _prepared(connection, path, read_only=read_only)
        yield connection
    finally:
        connection.close()


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open to read: this needs the files beside it that a run has open, or a directory where they can be created.

    If there is neither, nobody can be writing, and the file alone is complete.
    """
    address = f"{path.absolute().as_uri()}?mode=ro"
    alone = not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK)
    connection: sqlite3.Connection = sqlite3.connect(
        f"{address}&immutable=1" if alone else address, uri=True, **_OPTIONS
    )
    return connection


_OPTIONS: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "timeout": 10.0}


def _prepared(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> sqlite3.Connection:
    """The connection with tables of this version; to a copy if the file must not be changed."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION:
        raise DiskUnusable(f"{path} belongs to another program; move it away, or choose another --output-dir")
    if version > len(_STEPS):
        raise DiskUnusable(f"{path} was written by a newer polygon-async; use that version, or another --output-dir")
    if read_only and tables and version < _READABLE:
        copy: sqlite3.Connection = sqlite3.connect(":memory:", **_OPTIONS)
        connection.backup(copy)
        connection.close()
        connection, read_only = copy, False
    connection.row_factory = sqlite3.Row
    if not read_only:
        connection.execute(f"PRAGMA synchronous={'NORMAL' if _can_sync(path) else 'OFF'}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        if version < len(_STEPS):
            _bring_up_to_date(connection)
    return connection


def _can_sync(path: Path) -> bool:
    """Whether the file system takes the order to write to the disk itself; SQLite would give up where it does not."""
    # Not on the ledger itself: closing it would give up the locks that SQLite holds on it.
    with disk_errors(path), tempfile.TemporaryFile(dir=path.parent) as probe:
        return sync_file(probe.fileno())


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Take the missing steps, all or none: another run may do the same, and a kill may come in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[version:]:
            # Not as one script, which would commit what has been done so far.
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION}")
        connection.execute(f"PRAGMA user_version={len(_STEPS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def existing(directory: Path) -> Path:
    """The path of an output directory's ledger.

    Raises:
        ConfigError: there is none.
    """
    path = directory / LEDGER
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; --output-dir must name the directory of a download")
    return path


@contextmanager
def reading(directory: Path) -> Iterator[sqlite3.Cursor]:
    """A snapshot of an output directory's ledger, to be read; a run may be writing it meanwhile.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: it cannot be read.
    """
    path = existing(directory)
    with connected(directory, read_only=True) as connection, said_of(path), closing(connection.cursor()) as cursor:
        # One transaction: everything is of one moment.
        cursor.execute("BEGIN")
        if cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            raise ConfigError(f"the ledger {path} is empty; no download has started here")
        yield cursor


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Turn trouble with the file into an error that stops the run: SQLite's errors, or an unreadable value."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None) or 0
        text = one_line(error)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskUnusable(f"the disk is full ({path}); free some space and start again") from error
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            advice = "move it away; everything is then fetched and confirmed again"
            raise DiskUnusable(f"the ledger {path} is damaged ({text}); {advice}") from error
        raise DiskUnusable(f"the ledger {path} cannot be used ({text})") from error
    except ValueError as error:
        advice = "use the version that wrote it, or move it away"
        told = f"the ledger {path} contains what this version cannot read ({one_line(error)}); {advice}"
        raise DiskUnusable(told) from error
