"""An output directory in, the connection to its ledger's SQLite file out: its tables, and what can be wrong with it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polygon_async.errors import DiskUnusable, one_line
from polygon_async.layout import LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["connected", "said_of"]

_SCHEMA = 1
_APPLICATION = 0x706F6C79
"""What marks an SQLite file as this program's: `poly`."""
_TABLES = """
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


@contextmanager
def connected(directory: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """The file of an output directory, open; made where there is none, unless it is only read.

    Raises:
        DiskUnusable: it is no ledger, damaged, of a newer version of this program, or cannot be written.
    """
    path = directory / LEDGER
    with said_of(path):
        connection = _open_to_read(path) if read_only else sqlite3.connect(path, **_OPTIONS)
    try:
        with said_of(path):
            _prepare(connection, path, read_only=read_only)
        yield connection
    finally:
        connection.close()


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Reading needs the files beside it that a run has open, or a directory where they can be made.

    Where neither is to be had, nobody can be writing, and the file alone holds everything.
    """
    address = f"{path.absolute().as_uri()}?mode=ro"
    alone = not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK)
    connection: sqlite3.Connection = sqlite3.connect(
        f"{address}&immutable=1" if alone else address, uri=True, **_OPTIONS
    )
    return connection


_OPTIONS: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "timeout": 10.0}


def _prepare(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    connection.row_factory = sqlite3.Row
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION:
        raise DiskUnusable(f"{path} is another program's; move it away, or choose another --output-dir")
    if schema > _SCHEMA:
        raise DiskUnusable(f"{path} was written by a newer polygon-async; use that one, or another --output-dir")
    if read_only:
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    if not tables:
        # All or nothing: a kill in between must not leave a ledger with half its tables.
        mark = f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_SCHEMA};"
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {mark} COMMIT;")


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the file into the family: it stops the run."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None) or 0
        text = one_line(error)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskUnusable(f"the disk is full ({path}); free some space and start again") from error
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            advice = "move it away: what its CSVs and objects hold is then fetched and confirmed again"
            raise DiskUnusable(f"the ledger {path} is damaged ({text}); {advice}") from error
        raise DiskUnusable(f"the ledger {path} cannot be used ({text})") from error
