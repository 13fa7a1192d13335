"""What a ledger knows, as text or JSON: totals, failures with their reasons, and a line for each unit."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.bars.history import look
from polygon_async.model.layout import csv_name
from polygon_async.model.sessions import Coverage
from polygon_async.model.states import OutcomeState, RunState
from polygon_async.report.json_stream import json_pieces
from polygon_async.report.words import counted, day, duration, first_lines, moment, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from polygon_async.ledger.overview import Overview, UnitRow
    from polygon_async.ledger.runs import RecordedRun

__all__ = ["MOST_LINES", "status_json", "status_text"]

MOST_LINES = 20
"""Lines of failures, and of units, on a terminal."""
_STATES = (OutcomeState.UPLOADED, OutcomeState.SAVED, OutcomeState.NO_DATA, None, OutcomeState.FAILED)
"""In the order in which they are shown."""
_ALL = "--all"
"""The flag that shows the rest."""
_COLUMNS = ("ticker", "state", "bars", "first bar", "last bar", "sessions", "csv", "stored", "range")
_TO_THE_RIGHT = frozenset({"bars", "sessions", "csv", "stored"})


def status_json(overview: Overview, path: Path) -> Iterator[str]:
    """Everything as one JSON object, piece by piece; sizes in bytes, moments in ISO 8601.

    Args:
        overview: What the ledger knows; it must stay open until the last piece.
        path: The ledger's path.
    """
    values = {
        "version": __version__,
        "ledger": str(path),
        "units": {
            "total": _units(overview),
            **{_word(state).replace(" ", "_"): _units(overview, state) for state in _STATES},
        },
        "bars": _whole(overview, "bars"),
        "csv_bytes": _whole(overview, "csv_bytes"),
        "stored_bytes": _whole(overview, "stored_bytes"),
        "runs": [_run_json(run) for run in overview.runs],
    }
    return json_pieces(
        values, {"tickers": (_unit_json(row, _on_disk(row, overview, path.parent)) for row in overview.rows())}
    )


def status_text(overview: Overview, path: Path, *, most: int | None = None) -> str:
    """The status for a person, with at most `most` lines of failures and of units; None: all of them."""
    units = _units(overview)
    told = ", ".join(f"{count:,} {_after_number(state)}" for state in _STATES if (count := _units(overview, state)))
    sizes = f"{size(_whole(overview, 'csv_bytes'))} of CSV, {size(_whole(overview, 'stored_bytes'))} in S3"
    lines = [
        f"{path}: {counted(units, 'unit')}: {told}" if units else f"{path}: no units",
        f"  bars      {_whole(overview, 'bars'):,}, {sizes}",
    ]
    if overview.runs:
        lines.append(f"  runs      {len(overview.runs):,}, the last one {_run(overview.runs[-1])}")
    if failed := _units(overview, OutcomeState.FAILED):
        rows = overview.rows(state=OutcomeState.FAILED, most=most)
        lines += ["", *first_lines((f"{row.ticker}: {row.error or ''}" for row in rows), failed, most=most, rest=_ALL)]
    if units:
        head, *table = _table((row, _on_disk(row, overview, path.parent)) for row in overview.rows(most=most))
        lines += ["", head, *first_lines(table, units, most=most, rest=_ALL)]
    return "\n".join(lines)


def _units(overview: Overview, *states: OutcomeState | None) -> int:
    """How many units are in one of these states, or in any."""
    return sum(total.units for state, total in overview.totals.items() if not states or state in states)


def _whole(overview: Overview, name: str) -> int:
    """What the units come to that have ended with all their bars."""
    whole = (OutcomeState.UPLOADED, OutcomeState.SAVED)
    return sum(getattr(total, name) for state, total in overview.totals.items() if state in whole)


def _word(state: str | None) -> str:
    return "pending" if state is None else str(state)


def _after_number(state: OutcomeState | None) -> str:
    """The state as it follows a number."""
    return "without data" if state is OutcomeState.NO_DATA else _word(state)


def _unit_json(row: UnitRow, file: str | None) -> dict[str, Any]:
    """The unit for programs, with what became of its local file; one that is being fetched has its bars so far."""
    coverage = row.coverage
    return {
        "ticker": row.ticker,
        "from": row.first_day,
        "to": row.last_day,
        "adjusted": bool(row.adjusted),
        "source": row.source,
        "state": _word(row.state),
        "file": file,
        "doing": row.doing,
        "error": row.error or None,
        "bars": row.bars or 0,
        "first": None if row.first is None else moment(row.first),
        "last": None if row.last is None else moment(row.last),
        "csv_bytes": row.size or 0,
        "sessions": coverage and coverage.as_json(),
        "sha256": row.sha256,
        "stored_bytes": row.stored or 0,
        "destination": row.destination,
        "key": row.key,
    }


def _table(rows: Iterable[tuple[UnitRow, str | None]]) -> list[str]:
    """The head, and a line for each unit."""
    # Most units of a universe cover their range's sessions alike.
    sessions = lru_cache(_sessions)
    cells = [_COLUMNS, *(_cells(row, file, sessions(row.kept_coverage)) for row, file in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(_COLUMNS))]
    form = "  ".join(
        f"{{:{'>' if name in _TO_THE_RIGHT else '<'}{width}}}" for name, width in zip(_COLUMNS, widths, strict=True)
    )
    return [form.format(*row).rstrip() for row in cells]


def _on_disk(row: UnitRow, overview: Overview, directory: Path) -> str | None:
    """Whether the local file of a unit that is in no store is still there; None for other units."""
    if row.state != OutcomeState.SAVED:
        return None
    seen = look(directory / csv_name(row.ticker))
    if seen is None:
        return "missing"
    sizes = overview.local_sizes.get(row.ticker)
    return "there" if sizes is None or seen.size in sizes else "changed"


def _cells(row: UnitRow, file: str | None, sessions: str) -> tuple[str, ...]:
    lost = f", file {file}" if file in {"missing", "changed"} else ""
    return (
        row.ticker,
        row.doing or f"{_word(row.state)}{lost}",
        f"{row.bars:,}" if row.bars else "",
        "" if row.first is None else day(row.first),
        "" if row.last is None else day(row.last),
        sessions,
        size(row.size) if row.size else "",
        size(row.stored) if row.stored else "",
        f"{row.first_day} to {row.last_day}{'' if row.adjusted else ', not adjusted'}",
    )


def _sessions(kept: str | None) -> str:
    """How many of the range's sessions have bars, and how many of a ticker's life have none."""
    if kept is None:
        return ""
    coverage = Coverage.from_text(kept)
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
