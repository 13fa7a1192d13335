"""What happens to units and runs in; what is done and what can be resumed, out of one SQLite file.

Blocking, and for one thread at a time. Every act is a transaction of its own that outlives the
process, however that ends; what the system itself loses with its power are the last acts, never the
file. So an act is written down after it has happened to the files, and what the ledger says of a file
is believed when the file's digest agrees.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from polygon_async._version import __version__
from polygon_async.ledger.database import connected, said_of
from polygon_async.ledger.entries import Held, Run, UnitRecord
from polygon_async.model.days import from_text, to_text
from polygon_async.model.layout import LEDGER, TIMEFRAME, csv_name
from polygon_async.model.states import FetchState, RunState, UploadState
from polygon_async.model.tickers import Listing
from polygon_async.model.units import CsvFile, Progress, Receipt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import RunRequest
    from polygon_async.model.sessions import Coverage
    from polygon_async.model.units import Unit

__all__ = ["Ledger", "open_ledger"]


@contextmanager
def open_ledger(directory: Path, *, read_only: bool = False) -> Iterator[Ledger]:
    """The ledger of an output directory; made where there is none, unless it is only read.

    Raises:
        DiskUnusable: it is no ledger, damaged, of a newer version of this program, or cannot be written.
    """
    with connected(directory, read_only=read_only) as connection:
        yield Ledger(connection, directory / LEDGER)


class Ledger:
    """One output directory's ledger."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def begin(self, order: RunRequest, *, now: datetime, force: bool) -> Run:
        """Begin a run, or go on with the last one of this order that did not come to its end.

        One without days of its own goes on with the days that it had.
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
        """A run has ended so."""
        values = {"state": state, "ended": _now(), "id": run.id}
        self._do("UPDATE run SET state = :state, ended = :ended WHERE id = :id", values)

    def standings(self, units: Sequence[Unit], *, source: str, destination: str | None) -> dict[str, UnitRecord]:
        """What is known of units that differ in their ticker only, by its symbol."""
        if not units:
            return {}
        rows = self._do(
            f"SELECT {_STANDING} FROM unit LEFT JOIN upload ON upload.unit = unit.id AND destination = :destination"
            " WHERE source = :source AND timeframe = :timeframe AND first_day = :from_day AND last_day = :to_day"
            " AND adjusted = :as_adjusted",
            {**_identity(units[0], source), "destination": destination},
        )
        wanted = {unit.ticker.symbol for unit in units}
        return {row["ticker"]: _standing(row, self._path.parent) for row in rows if row["ticker"] in wanted}

    def held(self, *, source: str, destination: str | None, adjusted: bool) -> dict[str, Held]:
        """The newest bars that are held of each ticker; those of which an object was to be and is not don't count."""
        rows = self._do(
            f"SELECT {_STANDING}, unit.first_day, unit.last_day,"
            # SQLite takes the other columns from the row that has the greatest.
            " max(min(unit.last_day, date(unit.day, '-1 day'))) AS until"
            " FROM unit LEFT JOIN upload ON upload.unit = unit.id AND destination = :destination"
            " WHERE source = :source AND timeframe = :timeframe AND adjusted = :adjusted AND unit.state = :fetched"
            " AND (:destination IS NULL OR (upload.state = :uploaded AND upload.sha256 = unit.sha256))"
            " GROUP BY unit.ticker",
            {
                "source": source,
                "timeframe": TIMEFRAME,
                "adjusted": adjusted,
                "destination": destination,
                "fetched": FetchState.FETCHED,
                "uploaded": UploadState.UPLOADED,
            },
        )
        return {row["ticker"]: held for row in rows if (held := _held(row, self._path.parent)) is not None}

    def destination_of(self, bucket: str) -> str:
        """Where objects for a bucket of this name went last, whichever store has it; empty where none did."""
        rows = self._do("SELECT destination FROM upload ORDER BY began DESC", {})
        return next((row["destination"] for row in rows if row["destination"].rpartition("/")[2] == bucket), "")

    def densities(self, *, source: str) -> dict[str, float]:
        """How many bars each ticker has in a session, as far as that is known."""
        rows = self._do(
            "SELECT ticker, sum(bars) AS bars, sum(json_extract(coverage, '$.with_bars')) AS sessions FROM unit"
            " WHERE source = :source AND timeframe = :timeframe AND coverage IS NOT NULL GROUP BY ticker",
            {"source": source, "timeframe": TIMEFRAME},
        )
        return {row["ticker"]: row["bars"] / row["sessions"] for row in rows if row["sessions"]}

    def begun(self, unit: Unit, *, source: str, run: Run, day: date) -> None:
        """Fetching a unit begins, from its start."""
        values = {"state": FetchState.FETCHING, "run": run.id, "day": day.isoformat(), "began": _now()}
        anew = values | dict.fromkeys((*_PROGRESS, "sha256", "error", "ended"))
        self._do(
            "INSERT INTO unit (source, ticker, timeframe, first_day, last_day, adjusted, attempts,"
            f" {_names(values)}) VALUES (:source, :ticker, :timeframe, :from_day, :to_day, :as_adjusted, 1,"
            f" {_places(values)}) ON CONFLICT DO UPDATE SET {_assignments(anew)}, attempts = attempts + 1",
            anew | _identity(unit, source),
        )

    def resumed(self, unit: Unit, *, source: str, run: Run) -> None:
        """Fetching a unit goes on from where it was."""
        again = {"run": run.id, "state": FetchState.FETCHING, "error": None}
        self._update(unit, source, again, more=", attempts = attempts + 1")

    def progressed(self, unit: Unit, *, source: str, progress: Progress) -> None:
        """One more page is in the part."""
        self._update(unit, source, asdict(progress) | {"days": to_text(progress.days)})

    def fetched(self, unit: Unit, *, source: str, csv: CsvFile) -> None:
        """The CSV is whole."""
        facts = {name: getattr(csv, name) for name in ("bars", "first", "last", "doubles", "size", "sha256")}
        nothing = dict.fromkeys(("resume_at", "error", "coverage"))
        done = {"state": FetchState.FETCHED, "days": to_text(csv.days), "ended": _now()}
        self._update(unit, source, {**facts, **done, **nothing})

    def empty(self, unit: Unit, *, source: str) -> None:
        """The range holds no bar."""
        self._update(unit, source, {"state": FetchState.NO_DATA, "bars": 0, "error": None, "ended": _now()})

    def failed(self, unit: Unit, *, source: str, error: str) -> None:
        """Fetching has failed, and nothing of it is left."""
        values = {"state": FetchState.FAILED, "error": error, "ended": _now()}
        self._update(unit, source, values | dict.fromkeys((*_PROGRESS, "sha256")))

    def uploading(
        self, unit: Unit, *, source: str, run: Run, destination: str, collected: datetime, csv: CsvFile
    ) -> None:
        """An object is about to be written under the key of this time: it may be there from now on."""
        values = {
            "destination": destination,
            "state": UploadState.UPLOADING,
            "run": run.id,
            "collected": int(collected.timestamp()),
            "sha256": csv.sha256,
            "began": _now(),
        }
        anew = values | dict.fromkeys(("error", "ended", "bucket", "key", "size", "checksum", "confirmed_by", "tags"))
        self._do(
            f"INSERT INTO upload (unit, {_names(values)}, attempts)"
            f" SELECT id, {_places(values)}, 1 FROM unit WHERE {_SAME}"
            f" ON CONFLICT DO UPDATE SET {_assignments(anew)}, attempts = attempts + 1",
            anew | _identity(unit, source),
        )

    def uploaded(self, unit: Unit, *, source: str, destination: str, receipt: Receipt, tags: Mapping[str, str]) -> None:
        """The object was read back."""
        facts = {name: getattr(receipt, name) for name in ("bucket", "key", "size", "checksum", "confirmed_by")}
        done = {"state": UploadState.UPLOADED, "tags": json.dumps(dict(tags)), "error": None, "ended": _now()}
        self._set_upload(unit, source, destination, facts | done)

    def not_uploaded(self, unit: Unit, *, source: str, destination: str, error: str) -> None:
        """The object could not be stored, or not be confirmed."""
        self._set_upload(unit, source, destination, {"state": UploadState.FAILED, "error": error, "ended": _now()})

    def covered(self, coverages: Iterable[tuple[Unit, Coverage]], *, source: str) -> None:
        """How units' bars lie in their sessions."""
        with said_of(self._path), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                # What is known already, as of units that were done before, is not written again.
                f"UPDATE unit SET coverage = :coverage WHERE {_SAME} AND coverage IS NOT :coverage",
                ({"coverage": found.as_text(), **_identity(unit, source)} for unit, found in coverages),
            )

    def reported(self, run: Run, report: Mapping[str, object]) -> None:
        """What a run had to report."""
        self._do("UPDATE run SET report = :report WHERE id = :id", {"report": json.dumps(report), "id": run.id})

    def lost(self, unit: Unit, *, source: str, destination: str, collected: datetime, error: str) -> None:
        """An object that was read back is not what it was; `collected` is the time in its key."""
        values = {"state": UploadState.LOST, "collected": int(collected.timestamp()), "error": error, "ended": _now()}
        self._set_upload(unit, source, destination, values)

    def found(self, unit: Unit, *, source: str, destination: str) -> None:
        """An object that was lost is as it was read back."""
        self._set_upload(unit, source, destination, {"state": UploadState.UPLOADED, "error": None, "ended": _now()})

    def listings(self, *, source: str, since: float) -> dict[str, Listing]:
        """What the reference data said of tickers since a moment (s UTC)."""
        rows = self._do(
            "SELECT ticker, exchange, currency FROM listing WHERE source = :source AND asked >= :since",
            {"source": source, "since": since},
        )
        return {row["ticker"]: Listing(exchange=row["exchange"], currency=row["currency"]) for row in rows}

    def listed(self, listings: Mapping[str, Listing], *, source: str) -> None:
        """The reference data has said this of tickers."""
        values = [
            {"source": source, "ticker": ticker, "asked": _now(), **asdict(listing)}
            for ticker, listing in listings.items()
        ]
        columns = ("source", "ticker", "exchange", "currency", "asked")
        with said_of(self._path), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                f"INSERT OR REPLACE INTO listing ({', '.join(columns)}) VALUES ({_places(dict.fromkeys(columns))})",
                values,
            )

    def _unfinished(self, order: RunRequest) -> sqlite3.Row | None:
        """The newest run of this order, where it did not come to its end."""
        days = {"first_day": order.first_day.isoformat(), "last_day": order.last_day.isoformat()}
        same_days = " AND first_day = :first_day AND last_day = :last_day" if order.days_given else ""
        row: sqlite3.Row | None = self._do(
            "SELECT id, collected, first_day, last_day, state FROM run WHERE source = :source AND universe = :universe"
            f" AND adjusted = :adjusted AND days_given = :days_given{same_days} ORDER BY id DESC LIMIT 1",
            {
                "source": order.source,
                "universe": order.universe,
                "adjusted": order.adjusted,
                "days_given": order.days_given,
                **days,
            },
        ).fetchone()
        return row if row is not None and row["state"] != RunState.DONE else None

    def _update(self, unit: Unit, source: str, values: Mapping[str, object], *, more: str = "") -> None:
        self._do(f"UPDATE unit SET {_assignments(values)}{more} WHERE {_SAME}", {**values, **_identity(unit, source)})

    def _set_upload(self, unit: Unit, source: str, destination: str, values: Mapping[str, object]) -> None:
        self._do(
            f"UPDATE upload SET {_assignments(values)}"
            f" WHERE destination = :destination AND unit = (SELECT id FROM unit WHERE {_SAME})",
            {**values, "destination": destination, **_identity(unit, source)},
        )

    def _do(self, statement: str, values: Mapping[str, object]) -> sqlite3.Cursor:
        with said_of(self._path):
            return self._connection.execute(statement, values)


_PROGRESS = ("size", "crc", "bars", "first", "last", "doubles", "resume_at", "days")
_SAME = (
    "source = :source AND ticker = :ticker AND timeframe = :timeframe"
    " AND first_day = :from_day AND last_day = :to_day AND adjusted = :as_adjusted"
)
_STANDING = (
    "unit.ticker, unit.state, unit.run, unit.day, unit.size, unit.crc, unit.bars, unit.first, unit.last, unit.doubles,"
    " unit.resume_at, unit.sha256, unit.days, upload.state AS upload_state, upload.sha256 AS upload_sha256,"
    " upload.collected, upload.bucket, upload.key, upload.size AS object_size, upload.checksum, upload.confirmed_by"
)


def _identity(unit: Unit, source: str) -> dict[str, object]:
    """What makes a unit this one and no other, under names that no column to be set has."""
    return {
        "source": source,
        "ticker": unit.ticker.symbol,
        "timeframe": TIMEFRAME,
        "from_day": unit.start.isoformat(),
        "to_day": unit.end.isoformat(),
        "as_adjusted": unit.adjusted,
    }


def _standing(row: sqlite3.Row, directory: Path) -> UnitRecord:
    progress = csv = receipt = None
    if row["state"] == FetchState.FETCHING and row["size"]:
        progress = Progress(**{**{name: row[name] for name in _PROGRESS}, "days": from_text(row["days"])})
    if row["state"] == FetchState.FETCHED:
        facts = {name: row[name] for name in ("bars", "first", "last", "doubles", "size", "sha256")}
        csv = CsvFile(path=directory / csv_name(row["ticker"]), days=from_text(row["days"]), **facts)
    same_content = csv is not None and row["upload_sha256"] == csv.sha256
    if same_content and row["upload_state"] == UploadState.UPLOADED:
        receipt = Receipt(
            bucket=row["bucket"],
            key=row["key"],
            size=row["object_size"],
            checksum=row["checksum"],
            confirmed_by=row["confirmed_by"],
            existed=True,
        )
    return UnitRecord(
        state=FetchState(row["state"]),
        run=row["run"],
        day=date.fromisoformat(row["day"]),
        progress=progress,
        csv=csv,
        receipt=receipt,
        collected=datetime.fromtimestamp(row["collected"], UTC) if same_content else None,
    )


def _held(row: sqlite3.Row, directory: Path) -> Held | None:
    standing = _standing(row, directory)
    if standing.csv is None:
        return None
    first, last, until = (date.fromisoformat(row[name]) for name in ("first_day", "last_day", "until"))
    return Held(first_day=first, last_day=last, until=until, csv=standing.csv, receipt=standing.receipt)


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(values)


def _places(values: Mapping[str, object]) -> str:
    return ", ".join(f":{name}" for name in values)


def _assignments(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = :{name}" for name in values)


def _now() -> float:
    return round(time.time(), 3)
