"""What a ledger knows, as text or JSON: totals, failures with their reasons, and a line for each unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.model.sessions import Coverage
from polygon_async.model.states import OutcomeState, RunState
from polygon_async.report.json_stream import json_pieces
from polygon_async.report.local_files import LocalFile, LocalFiles
from polygon_async.report.words import counted, day, duration, first_lines, moment, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from polygon_async.ledger.overview import Overview, UnitRow
    from polygon_async.ledger.runs import RecordedRun

__all__ = ["MOST_LINES", "status_json", "status_text"]

MOST_LINES = 20
"""Lines of failures, and of units, on a terminal."""
_STATES = (
    OutcomeState.UPLOADED,
    OutcomeState.SAVED,
    OutcomeState.NO_DATA,
    None,
    OutcomeState.ABANDONED,
    OutcomeState.FAILED,
)
"""In the order in which they are shown."""
_ALL = "--all"
"""The flag that shows the rest."""
_COLUMNS = ("ticker", "state", "bars", "first bar", "last bar", "sessions", "csv", "stored", "range")
_DISPENSABLE = ("csv", "stored", "first bar", "sessions", "range", "last bar", "bars")
"""What a narrow terminal does without, in this order."""
_GAP = "  "
_TO_THE_RIGHT = frozenset({"bars", "sessions", "csv", "stored"})
_WHOLE = frozenset({OutcomeState.UPLOADED, OutcomeState.SAVED})
"""How units end that have all their bars."""
_LOST = {
    LocalFile.MISSING: "file missing",
    LocalFile.CHANGED: "file changed",
    LocalFile.REPLACED: "file replaced",
    LocalFile.NONE: "no local copy",
}


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
        "stored_bytes": _whole(overview, "stored_bytes"),
        "runs": [_run_json(run) for run in overview.runs],
    }
    disk = _Disk(LocalFiles(overview, path.parent))
    return json_pieces(
        values,
        {"tickers": (_unit_json(row, disk.file_of(row)) for row in overview.rows())},
        lambda: {"csv_bytes": disk.csv_bytes, "files": {str(file): disk.files[file] for file in LocalFile}},
    )


def status_text(overview: Overview, path: Path, *, most: int | None = None, width: int | None = None) -> str:
    """The status for a person.

    Args:
        overview: What the ledger knows.
        path: The ledger's path.
        most: The most lines of failures, and of units; None: all of them.
        width: Of the terminal: of the units' table, only what fits into its lines is shown; None: all columns.
    """
    units = _units(overview)
    told = ", ".join(f"{count:,} {_after_number(state)}" for state in _STATES if (count := _units(overview, state)))
    disk = _Disk(LocalFiles(overview, path.parent))
    (head, *table), hidden = _table(((row, disk.file_of(row)) for row in overview.rows()), most=most, width=width)
    sizes = f"{size(disk.csv_bytes)} of CSV on disk, {size(_whole(overview, 'stored_bytes'))} in S3"
    lines = [
        f"{path}: {counted(units, 'unit')}: {told}" if units else f"{path}: no units",
        f"  bars      {_whole(overview, 'bars'):,}, {sizes}{_so_far(overview)}",
    ]
    if lost := ", ".join(f"{file} for {counted(disk.files[file], 'unit')}" for file in _LOST if disk.files[file]):
        lines.append(f"  files     {lost}")
    if overview.runs:
        lines.append(f"  runs      {len(overview.runs):,}, the last one {_run(overview.runs[-1], overview.is_running)}")
    if failed := _units(overview, OutcomeState.FAILED):
        rows = overview.rows(state=OutcomeState.FAILED, most=most)
        lines += ["", *first_lines((f"{row.ticker}: {row.error or ''}" for row in rows), failed, most=most, rest=_ALL)]
    if units:
        lines += ["", head, *first_lines(table, units, most=most, rest=_ALL)]
        lines += [f"(a wider terminal also shows: {', '.join(hidden)})"] if hidden else []
    return "\n".join(lines)


def _units(overview: Overview, *states: OutcomeState | None) -> int:
    """How many units are in one of these states, or in any."""
    return sum(total.units for state, total in overview.totals.items() if not states or state in states)


def _whole(overview: Overview, name: str) -> int:
    """What the units come to that have ended with all their bars."""
    return sum(getattr(total, name) for state, total in overview.totals.items() if state in _WHOLE)


def _so_far(overview: Overview) -> str:
    """The bars of units that have not ended, at the end of the line of those that have."""
    pending = overview.totals.get(None)
    return f"; {counted(pending.bars, 'bar')} so far of what is pending" if pending and pending.bars else ""


@dataclass(slots=True)
class _Disk:
    """What is on the disk, counted as it is looked at."""

    looks: LocalFiles
    files: Counter[LocalFile] = field(default_factory=Counter)
    """How many units have each state of a file."""
    csv_bytes: int = 0
    """Of the units that have ended with all their bars, and have them here."""

    def file_of(self, row: UnitRow) -> LocalFile | None:
        """What has become of a unit's bars on this disk."""
        if (file := self.looks.of(row)) is None:
            return None
        self.files[file] += 1
        if file is LocalFile.THERE and row.state in _WHOLE:
            self.csv_bytes += row.size or 0
        return file


def _word(state: str | None) -> str:
    return "pending" if state is None else str(state)


def _after_number(state: OutcomeState | None) -> str:
    """The state as it follows a number."""
    return "without data" if state is OutcomeState.NO_DATA else _word(state)


def _unit_json(row: UnitRow, file: LocalFile | None) -> dict[str, Any]:
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
        "csv_bytes": _csv_bytes(row, file),
        "sessions": coverage and coverage.as_json(),
        "sha256": row.sha256,
        "stored_bytes": row.stored or 0,
        "destination": row.destination,
        "key": row.key,
    }


def _csv_bytes(row: UnitRow, file: LocalFile | None) -> int:
    """The bytes of the unit's bars on this disk; of one that is being fetched, so far."""
    return row.size or 0 if file in {None, LocalFile.THERE} else 0


def _table(
    rows: Iterable[tuple[UnitRow, LocalFile | None]], *, most: int | None, width: int | None
) -> tuple[list[str], list[str]]:
    """The head, and a line for each of the first units; the others are looked at, too. And the columns left out."""
    # Most units of a universe cover their range's sessions alike.
    sessions = lru_cache(_sessions)
    cells: list[tuple[str, ...]] = [_COLUMNS]
    for number, (row, file) in enumerate(rows):
        if most is None or number < most:
            cells.append(_cells(row, file, sessions(row.kept_coverage)))
    widths = {name: max(len(row[place]) for row in cells) for place, name in enumerate(_COLUMNS)}
    hidden: list[str] = []
    for name in _DISPENSABLE:
        if width is None or sum(widths.values()) + len(_GAP) * (len(widths) - 1) <= width:
            break
        del widths[name]
        if any(row[_COLUMNS.index(name)] for row in cells[1:]):
            hidden.append(name)
    places = [place for place, name in enumerate(_COLUMNS) if name in widths]
    form = _GAP.join(f"{{:{'>' if name in _TO_THE_RIGHT else '<'}{room}}}" for name, room in widths.items())
    return [_cut(form.format(*(row[place] for place in places)).rstrip(), width) for row in cells], hidden


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def _cells(row: UnitRow, file: LocalFile | None, sessions: str) -> tuple[str, ...]:
    csv_bytes = _csv_bytes(row, file)
    return (
        row.ticker,
        ", ".join(filter(None, (row.doing or _word(row.state), file and _LOST.get(file)))),
        f"{row.bars:,}" if row.bars else "",
        "" if row.first is None else day(row.first, row.ticker),
        "" if row.last is None else day(row.last, row.ticker),
        sessions,
        size(csv_bytes) if csv_bytes else "",
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


def _run(run: RecordedRun, is_running: bool | None) -> str:
    goes_on = {True: "is running", False: "was killed", None: "is running, or was killed"}
    state = goes_on[is_running] if run.state is RunState.RUNNING else run.state
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
