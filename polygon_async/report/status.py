"""What a ledger knows, as text or JSON: totals, failures with their reasons, and a line for each unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.model.states import FetchState, OutcomeState, RunState, UploadState
from polygon_async.report.words import counted, day, duration, first_lines, moment, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from polygon_async.ledger.inventory import Inventory, RecordedRun, RecordedUnit, Upload
    from polygon_async.model.sessions import Coverage

__all__ = ["status_of"]

_MOST_LINES = 20
_STATES = (OutcomeState.UPLOADED, OutcomeState.SAVED, OutcomeState.NO_DATA, None, OutcomeState.FAILED)
"""In the order in which they are shown."""
_ALL = "--all"
"""The flag that shows the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStatus:
    """One unit, and how far it has got."""

    unit: RecordedUnit
    state: OutcomeState | None
    """How it ended; None while it is pending."""
    doing: str = ""
    """What is pending."""
    error: str = ""
    upload: Upload | None = None
    """The newest upload."""

    @property
    def stored(self) -> int:
        """Bytes of its confirmed object."""
        return (self.upload.size or 0) if self.state is OutcomeState.UPLOADED and self.upload else 0

    def as_json(self) -> dict[str, Any]:
        """The unit for programs; one that is being fetched has its bars so far."""
        unit, upload = self.unit, self.upload
        confirmed = self.state is OutcomeState.UPLOADED
        return {
            "ticker": unit.symbol,
            "from": unit.first_day.isoformat(),
            "to": unit.last_day.isoformat(),
            "adjusted": unit.adjusted,
            "source": unit.source,
            "state": _word(self.state),
            "doing": self.doing or None,
            "error": self.error or None,
            "bars": unit.bars or 0,
            "first": None if unit.first is None else moment(unit.first),
            "last": None if unit.last is None else moment(unit.last),
            "csv_bytes": unit.size or 0,
            "sessions": unit.coverage and unit.coverage.as_json(),
            "sha256": unit.sha256,
            "stored_bytes": self.stored,
            "destination": upload.destination if upload else None,
            "key": upload.key if upload and confirmed else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a ledger knows."""

    path: Path
    """The ledger's path."""
    units: Sequence[UnitStatus]
    runs: Sequence[RecordedRun]

    def as_json(self) -> dict[str, Any]:
        """Everything as one JSON object; sizes in bytes, moments in ISO 8601."""
        counts = self._counts
        return {
            "version": __version__,
            "ledger": str(self.path),
            "units": {"total": len(self.units), **{_word(state).replace(" ", "_"): counts[state] for state in _STATES}},
            "bars": self._sum("bars"),
            "csv_bytes": self._sum("size"),
            "stored_bytes": sum(each.stored for each in self.units),
            "runs": [_run_json(run) for run in self.runs],
            "tickers": [each.as_json() for each in self.units],
        }

    def as_text(self, *, most: int | None = _MOST_LINES) -> str:
        """The status for a person, with at most `most` lines of failures and of tickers; None: all of them."""
        counts = self._counts
        told = ", ".join(f"{counts[state]:,} {_after_number(state)}" for state in _STATES if counts[state])
        units = counted(len(self.units), "unit")
        stored = sum(each.stored for each in self.units)
        lines = [
            f"{self.path}: {units}: {told}" if self.units else f"{self.path}: no units",
            f"  bars      {self._sum('bars'):,}, {size(self._sum('size'))} of CSV, {size(stored)} in S3",
        ]
        if self.runs:
            lines.append(f"  runs      {len(self.runs):,}, the last one {_run(self.runs[-1])}")
        failed = [f"{each.unit.symbol}: {each.error}" for each in self.units if each.state is OutcomeState.FAILED]
        if failed:
            lines += ["", *first_lines(failed, len(failed), most=most, rest=_ALL)]
        if self.units:
            most = most if most is None else most + 1  # the table's head
            lines += ["", *first_lines(_table(self.units), len(self.units) + 1, most=most, rest=_ALL)]
        return "\n".join(lines)

    @property
    def _counts(self) -> Counter[OutcomeState | None]:
        return Counter(each.state for each in self.units)

    def _sum(self, name: str) -> int:
        whole = (OutcomeState.UPLOADED, OutcomeState.SAVED)
        return sum(getattr(each.unit, name) or 0 for each in self.units if each.state in whole)


def status_of(inventory: Inventory, path: Path, tickers: Sequence[str] | None) -> Status:
    """The status of some tickers' units, or of all."""
    units = [_unit(unit) for unit in inventory.units if tickers is None or unit.symbol in tickers]
    return Status(path=path, units=units, runs=inventory.runs)


def _unit(unit: RecordedUnit) -> UnitStatus:
    """The newest upload decides; an earlier one to another destination is history."""
    upload = unit.uploads[-1] if unit.uploads else None
    match unit.state:
        case FetchState.NO_DATA:
            return UnitStatus(unit=unit, state=OutcomeState.NO_DATA)
        case FetchState.FAILED:
            return UnitStatus(unit=unit, state=OutcomeState.FAILED, error=unit.error or "")
        case FetchState.FETCHING:
            return UnitStatus(unit=unit, state=None, doing=FetchState.FETCHING, upload=upload)
    if upload is None:
        return UnitStatus(unit=unit, state=OutcomeState.SAVED)
    if upload.state in {UploadState.FAILED, UploadState.LOST}:
        return UnitStatus(unit=unit, state=OutcomeState.FAILED, error=upload.error or "", upload=upload)
    if upload.state is UploadState.UPLOADED and upload.sha256 == unit.sha256:
        return UnitStatus(unit=unit, state=OutcomeState.UPLOADED, upload=upload)
    return UnitStatus(unit=unit, state=None, doing=UploadState.UPLOADING, upload=upload)


def _word(state: OutcomeState | None) -> str:
    return "pending" if state is None else state.value


def _after_number(state: OutcomeState | None) -> str:
    """The state as it follows a number."""
    return "without data" if state is OutcomeState.NO_DATA else _word(state)


def _table(units: Sequence[UnitStatus]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("ticker", "state", "bars", "first bar", "last bar", "sessions", "csv", "stored", "range")
    ]
    rows += [_row(each) for each in units]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 5, 6, 7}
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(each: UnitStatus) -> tuple[str, ...]:
    unit = each.unit
    return (
        unit.symbol,
        each.doing or _word(each.state),
        f"{unit.bars:,}" if unit.bars else "",
        "" if unit.first is None else day(unit.first),
        "" if unit.last is None else day(unit.last),
        _sessions(unit.coverage),
        size(unit.size) if unit.size else "",
        size(each.stored) if each.stored else "",
        f"{unit.first_day} to {unit.last_day}{'' if unit.adjusted else ', not adjusted'}",
    )


def _sessions(coverage: Coverage | None) -> str:
    """How many of the range's sessions have bars, and how many of the ticker's life have none."""
    if coverage is None:
        return ""
    missing = f", {coverage.missing.bit_count():,} missing" if coverage.missing else ""
    return f"{coverage.with_bars:,} of {coverage.expected:,}{missing}"


def _run(run: RecordedRun) -> str:
    state = "is running, or was killed" if run.state is RunState.RUNNING else run.state
    took = "" if run.ended is None else f" after {duration((run.ended - run.started).total_seconds())}"
    return f"{state}{took}, started {run.started:%Y-%m-%d %H:%M} UTC ({run.first_day} to {run.last_day})"


def _run_json(run: RecordedRun) -> dict[str, Any]:
    return {
        "from": run.first_day.isoformat(),
        "to": run.last_day.isoformat(),
        "adjusted": run.adjusted,
        "collected": run.collected.isoformat(timespec="seconds"),
        "started": run.started.isoformat(timespec="seconds"),
        "ended": None if run.ended is None else run.ended.isoformat(timespec="seconds"),
        "state": run.state,
    }
