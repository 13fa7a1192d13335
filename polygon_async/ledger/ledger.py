"""The ledger: records what happens to units and runs, and says what is done and what can be resumed.

Blocking, and for one thread at a time. Each entry is a transaction that survives the process, however
that ends; a power failure can lose the last entries, never the file. So an entry is made after the files
have changed, and what the ledger says of a file is believed if the file's digest agrees.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import urlsplit

from polygon_async._version import __version__
from polygon_async.ledger.database import connected, said_of
from polygon_async.ledger.entries import Run
from polygon_async.ledger.events import (
    Begun,
    Empty,
    Failed,
    Fetched,
    NotUploaded,
    Progressed,
    Resumed,
    Uploaded,
    Uploading,
)
from polygon_async.ledger.held import Fetch, HeldQuery, fetches_of, held_of
from polygon_async.ledger.listings import keep_listings, listings
from polygon_async.ledger.rows import (
    FETCHED_COLUMNS,
    RECEIPT_COLUMNS,
    RECORD_COLUMNS,
    SAME_UNIT,
    csv_columns,
    history_columns,
    history_in,
    life_in,
    progress_columns,
    receipt_columns,
    record_in,
    unit_identity,
)
from polygon_async.ledger.runs import RESUMABLE
from polygon_async.ledger.splits import KnownSplits, keep_splits, known_splits
from polygon_async.model.days import from_text
from polygon_async.model.layout import LEDGER, TIMEFRAME
from polygon_async.model.states import FetchState, RunState, UploadState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import Held, Life, LocalHistory, RunRequest, UnitRecord
    from polygon_async.ledger.events import Event
    from polygon_async.model.sessions import Coverage
    from polygon_async.model.splits import Split
    from polygon_async.model.tickers import Listing
    from polygon_async.model.units import Unit

__all__ = ["Ledger", "open_ledger"]


@contextmanager
def open_ledger(directory: Path, *, read_only: bool = False) -> Iterator[Ledger]:
    """The ledger of an output directory; created if missing, unless it is only read.

    Raises:
        DiskUnusable: it is not a ledger, is damaged, from a newer version, or cannot be written.
    """
    with connected(directory, read_only=read_only) as connection:
        yield Ledger(connection, directory / LEDGER)


class Ledger:
    """One output directory's ledger."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def begin(self, order: RunRequest, *, now: datetime, force: bool) -> Run:
        """Start a run, or resume the last one of this request that did not finish.

        Without days of its own, it resumes with the days that it had.
        """
        found = None if force else self._unfinished(order)
        if found is None:
            run = Run(id=0, collected=now, first_day=order.first_day, last_day=order.last_day, resumed=False)
        else:
            collected = datetime.fromtimestamp(found["collected"], UTC)
            first, last = (date.fromisoformat(found[name]) for name in ("first_day", "last_day"))
            run = Run(id=found["id"], collected=collected, first_day=first, last_day=last, resumed=True)
        values = {
            "version": __version__,
            "source": order.source,
            "universe": order.universe,
            "first_day": run.first_day.isoformat(),
            "last_day": run.last_day.isoformat(),
            "adjusted": order.adjusted,
            "days_given": order.days_given,
            "settings": json.dumps(order.settings, default=str, sort_keys=True),
            "collected": int(run.collected.timestamp()),
            "started": time.time(),
            "ended": None,
            "state": RunState.RUNNING,
        }
        if run.resumed:
            kept = {name: values[name] for name in ("version", "settings", "ended", "state")}
            self._do(f"UPDATE run SET {_assignments(kept)} WHERE id = :id", {**kept, "id": run.id})
            return run
        number = self._do(f"INSERT INTO run ({_names(values)}) VALUES ({_places(values)})", values).lastrowid or 0
        return Run(**{**asdict(run), "id": number})

    def end(self, run: Run, state: RunState) -> None:
        """Record how a run ended."""
        values = {"state": state, "ended": _now(), "id": run.id}
        self._do("UPDATE run SET state = :state, ended = :ended WHERE id = :id", values)

    def forget(self, run: Run) -> None:
        """Take a run away that was refused before it began anything."""
        self._do("DELETE FROM run WHERE id = :id", {"id": run.id})

    def standings(self, units: Sequence[Unit], *, source: str, destination: str | None) -> dict[str, UnitRecord]:
        """The records of units that differ only in their ticker, by its symbol."""
        if not units:
            return {}
        rows = self._rows(
            f"SELECT {RECORD_COLUMNS} FROM unit"
            " LEFT JOIN upload ON upload.unit = unit.id AND destination = :destination"
            " WHERE source = :source AND timeframe = :timeframe AND first_day = :from_day AND last_day = :to_day"
            " AND adjusted = :as_adjusted",
            {**unit_identity(units[0], source), "destination": destination},
        )
        wanted = {unit.ticker.symbol for unit in units}
        with said_of(self._path):
            return {row["ticker"]: record_in(row, self._path.parent) for row in rows if row["ticker"] in wanted}

    def held(self, *, source: str, destination: str | None, adjusted: bool, back: int) -> dict[str, Held]:
        """What is held of each ticker, as `held_of` says."""
        wanted = HeldQuery(source=source, destination=destination, adjusted=adjusted)
        with said_of(self._path):
            return held_of(self._rows, wanted, directory=self._path.parent, back=back)

    def fetches(self, *, source: str, destination: str | None, adjusted: bool) -> dict[str, list[Fetch]]:
        """When what is held of each ticker was fetched, by symbol."""
        wanted = HeldQuery(source=source, destination=destination, adjusted=adjusted)
        with said_of(self._path):
            return fetches_of(self._rows, wanted)

    def known_splits(self, tickers: Sequence[str], **asked: Any) -> KnownSplits:
        """What is known of tickers' splits, as `known_splits` says."""
        with said_of(self._path):
            return known_splits(self._connection, tickers, **asked)

    def keep_splits(self, found: Sequence[Split], **asked: Any) -> None:
        """Record an answer about splits, as `keep_splits` says."""
        with said_of(self._path):
            keep_splits(self._connection, found, **asked)

    def lives(self, *, source: str, adjusted: bool) -> dict[str, Life]:
        """What is known of each ticker's life, from all that was fetched of it."""
        rows = self._rows(
            "SELECT ticker, min(first_day) AS asked, min(first) AS first, max(last) AS last FROM unit"
            " WHERE source = :source AND timeframe = :timeframe AND adjusted = :adjusted AND state = :fetched"
            " GROUP BY ticker",
            {"source": source, "timeframe": TIMEFRAME, "adjusted": adjusted, "fetched": FetchState.FETCHED},
        )
        with said_of(self._path):
            return {row["ticker"]: life_in(row) for row in rows}

    def histories(self) -> dict[str, list[LocalHistory]]:
        """What files under the tickers' names are known to hold, by symbol."""
        found: defaultdict[str, list[LocalHistory]] = defaultdict(list)
        rows = self._rows("SELECT * FROM history", {})
        with said_of(self._path):
            for row in rows:
                found[row["ticker"]].append(history_in(row))
        return found

    def stored_days(self, unit: Unit, *, source: str) -> int:
        """The days (see `days`) of which a store holds the ticker's bars, of these prices."""
        rows = self._rows(
            "SELECT unit.days FROM unit JOIN upload ON upload.unit = unit.id AND upload.sha256 = unit.sha256"
            " WHERE source = :source AND ticker = :ticker AND timeframe = :timeframe AND adjusted = :as_adjusted"
            " AND upload.state = :uploaded",
            {**unit_identity(unit, source), "uploaded": UploadState.UPLOADED},
        )
        stored = 0
        with said_of(self._path):
            for row in rows:
                stored |= from_text(row["days"]) or 0
        return stored

    def destination_of(self, bucket: str, prefix: str = "") -> str:
        """Where objects for a bucket of this name, below this prefix, last went, whichever store has it.

        Empty if there were none.
        """
        place = "/".join(filter(None, (bucket, prefix)))
        rows = self._rows("SELECT destination FROM upload GROUP BY destination ORDER BY max(began) DESC", {})
        return next((row["destination"] for row in rows if _place_of(row["destination"]) == place), "")

    def densities(self, *, source: str) -> dict[str, float]:
        """How many bars each ticker has in a session, as far as that is known."""
        rows = self._rows(
            "SELECT ticker, sum(bars) AS bars, sum(json_extract(coverage, '$.with_bars')) AS sessions FROM unit"
            # Older versions have left the coverage of bars that are no longer there.
            " WHERE source = :source AND timeframe = :timeframe AND coverage IS NOT NULL AND bars IS NOT NULL"
            " GROUP BY ticker",
            {"source": source, "timeframe": TIMEFRAME},
        )
        return {row["ticker"]: row["bars"] / row["sessions"] for row in rows if row["sessions"]}

    def apply(self, events: Iterable[Event], *, run: Run, source: str, destination: str) -> None:
        """Record what has happened to units, in one transaction.

        Args:
            events: What has happened, in this order.
            run: The run in which it happened.
            source: Where the units' bars come from.
            destination: Where the run's objects go.
        """
        with said_of(self._path), self._connection:
            self._connection.execute("BEGIN")
            for event in events:
                self._apply(event, run=run, source=source, destination=destination)

    def _apply(self, event: Event, *, run: Run, source: str, destination: str) -> None:
        match event:
            case Begun():
                self._begin_unit(event, source, run)
            case Resumed():
                again = {"state": FetchState.FETCHING, "run": run.id, "error": None}
                self._set_unit(event.unit, source, again, more=", attempts = attempts + 1")
            case Progressed():
                self._set_unit(event.unit, source, progress_columns(event.progress))
            case Fetched():
                self._finish_unit(event, source)
            case Empty():
                self._set_unit(event.unit, source, {"bars": 0} | _ended(FetchState.NO_DATA))
            case Failed():
                nothing = dict.fromkeys(FETCHED_COLUMNS)
                self._set_unit(event.unit, source, nothing | _ended(FetchState.FAILED, event.error))
            case Uploading():
                self._begin_upload(event, source, run, destination)
            case Uploaded():
                proven = receipt_columns(event.receipt) | {"tags": json.dumps(dict(event.tags))}
                self._set_upload(event.unit, source, destination, proven | _ended(UploadState.UPLOADED))
            case NotUploaded():
                self._set_upload(event.unit, source, destination, _ended(UploadState.FAILED, event.error))
            case _:
                assert_never(event)

    def covered(self, coverages: Iterable[tuple[Unit, Coverage]], *, source: str) -> None:
        """Record which sessions units' bars cover."""
        with said_of(self._path), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                # What is already known, as of units of earlier runs, is not written again.
                f"UPDATE unit SET coverage = :coverage WHERE {SAME_UNIT} AND coverage IS NOT :coverage",
                ({"coverage": found.as_text(), **unit_identity(unit, source)} for unit, found in coverages),
            )

    def reported(self, run: Run, report: Mapping[str, object]) -> None:
        """Record a run's report."""
        self._do("UPDATE run SET report = :report WHERE id = :id", {"report": json.dumps(report), "id": run.id})

    def lost(self, unit: Unit, *, source: str, destination: str, collected: datetime, error: str) -> None:
        """Record that a verification found an object missing or changed; `collected` is the time in its key."""
        values = {"collected": int(collected.timestamp())} | _ended(UploadState.LOST, error)
        self._set_upload(unit, source, destination, values)

    def found(self, unit: Unit, *, source: str, destination: str) -> None:
        """Record that a verification found an object unchanged."""
        self._set_upload(unit, source, destination, _ended(UploadState.UPLOADED))

    def listings(self, *, source: str, since: float) -> dict[str, Listing]:
        """What reference data has been looked up of tickers since a moment (s UTC)."""
        with said_of(self._path):
            return listings(self._connection, source=source, since=since)

    def listed(self, found: Mapping[str, Listing], *, source: str) -> None:
        """Record what the reference data says of tickers."""
        with said_of(self._path):
            keep_listings(self._connection, found, source=source)

    def _finish_unit(self, event: Fetched, source: str) -> None:
        # First the file that is to come: a unit that is known to be fetched is not looked at again.
        if event.history is not None:
            self._expect_history(event.unit, event.history, event.before, source)
        whole = {**csv_columns(event.csv), "resume_at": None, "coverage": None}
        self._set_unit(event.unit, source, whole | _ended(FetchState.FETCHED))

    def _expect_history(self, unit: Unit, history: LocalHistory, before: LocalHistory | None, source: str) -> None:
        """Two files are known under a ticker's name at most: the one that is there, and the one that is next."""
        kept = {"size": before and before.size, "crc": before and before.crc, "sha256": before and before.sha256}
        self._do(
            "DELETE FROM history WHERE ticker = :ticker AND NOT (size IS :size AND crc IS :crc AND sha256 IS :sha256)",
            {"ticker": unit.ticker.symbol, **kept},
        )
        values = {"ticker": unit.ticker.symbol, **history_columns(history)}
        began = f"coalesce(:began, (SELECT began FROM unit WHERE {SAME_UNIT}))"
        self._do(
            f"INSERT INTO history ({_names(values)}, began) VALUES ({_places(values)}, {began})",
            {**values, "began": history.began, **unit_identity(unit, source)},
        )

    def _unfinished(self, order: RunRequest) -> sqlite3.Row | None:
        """The newest run of this request, if it did not finish."""
        days = {"first_day": order.first_day.isoformat(), "last_day": order.last_day.isoformat()}
        same_days = " AND first_day = :first_day AND last_day = :last_day" if order.days_given else ""
        rows = self._rows(
            f"SELECT id, collected, first_day, last_day FROM run WHERE id IN ({RESUMABLE}) AND source = :source"
            f" AND universe = :universe AND adjusted = :adjusted AND days_given = :days_given{same_days}",
            {
                "source": order.source,
                "universe": order.universe,
                "adjusted": order.adjusted,
                "days_given": order.days_given,
                **days,
            },
        )
        return next(iter(rows), None)

    def _begin_unit(self, event: Begun, source: str, run: Run) -> None:
        values = {"state": FetchState.FETCHING, "run": run.id, "day": event.day.isoformat(), "began": _now()}
        anew = values | dict.fromkeys((*FETCHED_COLUMNS, "error", "ended"))
        self._do(
            "INSERT INTO unit (source, ticker, timeframe, first_day, last_day, adjusted, attempts,"
            f" {_names(values)}) VALUES (:source, :ticker, :timeframe, :from_day, :to_day, :as_adjusted, 1,"
            f" {_places(values)}) ON CONFLICT DO UPDATE SET {_assignments(anew)}, attempts = attempts + 1",
            anew | unit_identity(event.unit, source),
        )

    def _begin_upload(self, event: Uploading, source: str, run: Run, destination: str) -> None:
        values = {
            "destination": destination,
            "state": UploadState.UPLOADING,
            "run": run.id,
            "collected": int(event.collected.timestamp()),
            "sha256": event.csv.sha256,
            "began": _now(),
        }
        anew = values | dict.fromkeys((*RECEIPT_COLUMNS, "tags", "error", "ended"))
        self._do(
            f"INSERT INTO upload (unit, {_names(values)}, attempts)"
            f" SELECT id, {_places(values)}, 1 FROM unit WHERE {SAME_UNIT}"
            f" ON CONFLICT DO UPDATE SET {_assignments(anew)}, attempts = attempts + 1",
            anew | unit_identity(event.unit, source),
        )

    def _set_unit(self, unit: Unit, source: str, values: Mapping[str, object], *, more: str = "") -> None:
        statement = f"UPDATE unit SET {_assignments(values)}{more} WHERE {SAME_UNIT}"
        self._do(statement, {**values, **unit_identity(unit, source)})

    def _set_upload(self, unit: Unit, source: str, destination: str, values: Mapping[str, object]) -> None:
        self._do(
            f"UPDATE upload SET {_assignments(values)}"
            f" WHERE destination = :destination AND unit = (SELECT id FROM unit WHERE {SAME_UNIT})",
            {**values, "destination": destination, **unit_identity(unit, source)},
        )

    def _rows(self, statement: str, values: Mapping[str, object]) -> list[sqlite3.Row]:
        with said_of(self._path):
            return self._connection.execute(statement, values).fetchall()

    def _do(self, statement: str, values: Mapping[str, object]) -> sqlite3.Cursor:
        with said_of(self._path):
            return self._connection.execute(statement, values)


def _ended(state: FetchState | UploadState, error: str | None = None) -> dict[str, object]:
    """Columns of a fetch or an upload that has come to this state now."""
    return {"state": state, "error": error, "ended": _now()}


def _place_of(destination: str) -> str:
    """Bucket and prefix of a destination, without the store's address."""
    return destination.removeprefix("s3://") if destination.startswith("s3://") else urlsplit(destination).path[1:]


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(values)


def _places(values: Mapping[str, object]) -> str:
    return ", ".join(f":{name}" for name in values)


def _assignments(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = :{name}" for name in values)


def _now() -> float:
    return round(time.time(), 3)
