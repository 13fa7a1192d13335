"""An output directory and the user's cache in; what no run will use any more, and why, out. Blocking.

A run removes its own files when it ends. What is left comes from runs that were killed and never started again, and
from lists and caches that time has overtaken. Bars that are nowhere else are never among it.
"""

from __future__ import annotations

import csv
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.ledger.overview import open_overview
from polygon_async.model.exchange_calendar import outdated_calendar
from polygon_async.model.layout import (
    FAILED_CSV,
    LEDGER,
    NO_DATA_CSV,
    REPORT_HTML,
    REPORT_JSON,
    VERIFY_CSV,
    parse_unit_csv,
    safe_name,
)
from polygon_async.model.states import OutcomeState
from polygon_async.polygon.pace.memory import cache_file, has_usable
from polygon_async.system.files import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from polygon_async.ledger.overview import UnitRow

__all__ = ["Leftover", "leftovers"]

_COMPRESSED = re.compile(r"[\w.=+-]{1,80}_historical\.csv\.lzo")
_LINKS = re.compile(r"\.[\w.=+-]{1,80}_historical\.csv\.lzo\.link")
_OWN = "|".join(re.escape(name) for name in (FAILED_CSV, NO_DATA_CSV, VERIFY_CSV, REPORT_HTML, REPORT_JSON))
_HALF_WRITTEN = re.compile(rf"\.({_OWN}|[\w.=+-]{{1,80}}_historical\.csv)(\.[0-9a-f]{{8}})?\.new")
_PROBES = re.compile(r"\.(probe|case-Probe)-\w+")
_DONE = frozenset({OutcomeState.UPLOADED, OutcomeState.SAVED})
_LISTED = {FAILED_CSV: _DONE | {OutcomeState.NO_DATA}, NO_DATA_CSV: _DONE, VERIFY_CSV: _DONE}
"""How all of a list's tickers stand when it has nothing left to say."""
_IN_USE = 3600.0
"""Seconds: a younger half-written file in the cache may be that of another directory's run."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One file or folder that no run will use."""

    path: Path
    size: int
    """Bytes."""
    why: str


def leftovers(directory: Path) -> tuple[list[Leftover], int]:
    """What no run will use of an output directory, which the caller has claimed, and of the user's cache; by its path.

    And how many parts of tickers stay, as a run will continue them.

    Raises:
        ConfigError: there is no ledger.
        DiskUnusable: the ledger, or the directory, cannot be read.
    """
    with open_overview(directory, claimed=True) as overview:
        rows = list(overview.rows())
    units: defaultdict[tuple[str, str, str, bool], list[UnitRow]] = defaultdict(list)
    for row in rows:
        units[safe_name(row.ticker), row.first_day, row.last_day, bool(row.adjusted)].append(row)
    looked = [(path, _why(path, units)) for path in sorted(directory.iterdir())]
    kept = sum(why is None and _is_part(path) for path, why in looked)
    found = [(path, why) for path, why in looked if why]
    found += _lists(directory, rows)
    found += _caches()
    return [Leftover(path, _size(path), why) for path, why in found], kept


def _is_part(path: Path) -> bool:
    return path.name.endswith(".part") and parse_unit_csv(path.name.removesuffix(".part")) is not None


def _why(path: Path, units: dict[tuple[str, str, str, bool], list[UnitRow]]) -> str | None:
    """Why no run will use this file of an output directory; None if one may, or it is no file of ours."""
    if path.is_symlink():
        return None
    if _LINKS.fullmatch(path.name) and path.is_dir():
        return "a compression that never ended"
    if not path.is_file():
        return None
    if _COMPRESSED.fullmatch(path.name):
        return "a compression or an upload that never ended"
    if _HALF_WRITTEN.fullmatch(path.name) or _PROBES.fullmatch(path.name):
        return "half-written"
    if (unit := parse_unit_csv(path.name.removesuffix(".part"))) is None:
        return None
    rows = units.get(unit, [])
    if path.name.endswith(".part"):
        return None if any(row.state is None for row in rows) else _why_part(rows)
    # A complete CSV may be the only copy of its bars.
    return "its object is confirmed" if rows and all(row.state == OutcomeState.UPLOADED for row in rows) else None


def _why_part(rows: Iterable[UnitRow]) -> str:
    states = {row.state for row in rows}
    if OutcomeState.ABANDONED in states:
        return "abandoned: no run will continue it"
    return "its ticker has ended without it" if states else "the ledger does not know it"


def _lists(directory: Path, rows: Iterable[UnitRow]) -> Iterator[tuple[Path, str]]:
    """Lists of tickers of which each has been done since."""
    standing: defaultdict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        standing[row.ticker].add(row.state)
    for name, done in _LISTED.items():
        path = directory / name
        tickers = _tickers(path)
        # What has become of a finding of verify is not in the ledger, unless it was an object's.
        if not tickers or (name == VERIFY_CSV and _newest(directory) <= path.stat().st_mtime):
            continue
        if all(standing[ticker] and standing[ticker] <= done for ticker in tickers):
            yield path, "all its tickers are done"


def _newest(directory: Path) -> float:
    """When the ledger was last written, s since 1970."""
    files = (directory / f"{LEDGER}{end}" for end in ("", "-wal"))
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _tickers(path: Path) -> list[str]:
    """The tickers of a list; none if it cannot be read as one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row["ticker"] for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return []


def _caches() -> Iterator[tuple[Path, str]]:
    directory = cache_directory()
    if directory is None or not directory.is_dir():
        return
    if (calendar := outdated_calendar()) is not None:
        yield calendar, "the trading sessions as another version of exchange-calendars has them"
    rates = cache_file()
    if rates is not None and rates.is_file() and not has_usable(rates):
        yield rates, "learned rates that have expired"
    for path in sorted(directory.glob(".*.new")):
        if path.is_file() and time.time() - path.stat().st_mtime > _IN_USE:
            yield path, "half-written"


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    # A link of lzop's is the source itself under another name.
    return sum(file.stat().st_size for file in files if file.is_file() and file.stat().st_nlink == 1)
