"""What has become of the local files that the ledger knows. Blocking: it looks at them."""

from __future__ import annotations

import enum
from datetime import date
from typing import TYPE_CHECKING

from polygon_async.bars.history import look, recognised
from polygon_async.ledger.overview import known_files
from polygon_async.model.layout import csv_name, unit_csv_name
from polygon_async.model.states import OutcomeState, RunState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from polygon_async.bars.history import Look
    from polygon_async.ledger.overview import KnownFile, Overview, UnitRow

__all__ = ["LocalFile", "LocalFiles"]


class LocalFile(enum.StrEnum):
    """What has become of a unit's bars on this disk."""

    THERE = "there"
    CHANGED = "changed"
    """The file is not as it was written."""
    MISSING = "missing"
    REPLACED = "replaced"
    """The file of this name has other bars."""
    NONE = "none"
    """There is no local copy, and need not be: the object is confirmed."""


class LocalFiles:
    """Looks at the files of units, which come by ticker: each file is looked at once."""

    def __init__(self, overview: Overview, directory: Path) -> None:
        self._overview = overview
        self._directory = directory
        self._is_running = bool(overview.runs) and overview.runs[-1].state is RunState.RUNNING
        self._ticker: str | None = None
        self._seen: Look | None = None
        self._known: Sequence[KnownFile] = ()
        self._found: KnownFile | None = None

    def of(self, row: UnitRow) -> LocalFile | None:
        """What has become of the unit's bars; None for a unit that never had all of them, or is being uploaded."""
        if row.sha256 is None:
            return None
        if row.ticker != self._ticker:
            self._look_at(row.ticker)
        found = self._of(row)
        # A run takes away the files that it no longer needs.
        return None if row.state is None and self._is_running and found is not LocalFile.THERE else found

    def _look_at(self, ticker: str) -> None:
        path = f"{self._directory}/{csv_name(ticker)}"
        self._ticker, self._found = ticker, None
        self._seen, self._known = look(path), self._overview.files.get(ticker, ())
        if self._seen is None:
            return
        self._found = recognised(path, self._seen, self._known)
        if self._found is None and self._is_running:
            # It may have changed the file since.
            self._known = known_files(self._directory, [ticker]).get(ticker, ())
            if (seen := look(path)) is not None:
                self._found = recognised(path, seen, self._known)

    def _of(self, row: UnitRow) -> LocalFile:
        if self._found is not None and self._found.covers(row):
            return LocalFile.THERE
        is_stored = row.state == OutcomeState.UPLOADED
        if not is_stored and (own := look(self._directory / _own_name(row))) is not None:
            return LocalFile.THERE if own.size == row.size else LocalFile.CHANGED
        if self._seen is not None and self._found is None and any(known.covers(row) for known in self._known):
            return LocalFile.CHANGED
        if is_stored:
            return LocalFile.NONE
        return LocalFile.MISSING if self._seen is None else LocalFile.REPLACED


def _own_name(row: UnitRow) -> str:
    ticker = Ticker(symbol=row.ticker, asset_type=AssetType.of(row.ticker), exchange="", currency="")
    first, last = date.fromisoformat(row.first_day), date.fromisoformat(row.last_day)
    return unit_csv_name(Unit(ticker=ticker, start=first, end=last, adjusted=bool(row.adjusted)))
