"""The local histories that a ledger knows in; what has become of the files out. Blocking: it looks at them."""

from __future__ import annotations

import os
import shlex
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from polygon_async.bars.history import look, recognised
from polygon_async.ledger.inventory import recorded_histories, recorded_units
from polygon_async.ledger.overview import known_files
from polygon_async.model.days import days_between
from polygon_async.model.layout import csv_name
from polygon_async.report.words import counted
from polygon_async.settings.settings import DEFAULTS
from polygon_async.verify.expected import CLAIMED
from polygon_async.verify.findings import CheckedFile, Finding, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from polygon_async.bars.history import Look
    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.ledger.inventory import RecordedUnit
    from polygon_async.ledger.overview import KnownFile
    from polygon_async.system.threads import Threads

__all__ = ["check_files"]

_AT_ONCE = 500
"""Files that are looked at in one go."""


async def check_files(
    directory: Path, tickers: Sequence[str] | None, *, deep: bool, offload: Threads
) -> list[CheckedFile]:
    """Look at the local history of each ticker that the ledger knows one of.

    Args:
        directory: Where the ledger and the files are.
        tickers: Whose files; None: all.
        deep: Read every file; else only those whose date is not as the ledger knows it.
        offload: Threads.

    Raises:
        ConfigError, DiskUnusable: there is no ledger, or it cannot be read.
    """
    files = list((await offload(known_files, directory, tickers)).items())
    right, at_once = set(), 1 if deep else _AT_ONCE
    for start in range(0, len(files), at_once):
        right |= await offload(partial(_right, directory, deep=deep), files[start : start + at_once])
    checked = [CheckedFile(ticker=ticker, is_there=True) for ticker in right]
    # A download that goes on may have changed the others since the ledger was read: they are looked at again.
    others = [ticker for ticker, _ in files if ticker not in right]
    units = await offload(_units_by_ticker, directory) if others else {}
    for start in range(0, len(others), _AT_ONCE):
        judge = partial(_judged, directory, units=units, deep=deep)
        checked += await offload(judge, others[start : start + _AT_ONCE])
    return sorted(checked, key=lambda each: each.ticker)


def _right(directory: Path, files: Iterable[tuple[str, Sequence[KnownFile]]], *, deep: bool) -> set[str]:
    """The tickers whose file is there and as it was written."""
    right = set()
    for ticker, known in files:
        path = f"{directory}/{csv_name(ticker)}"
        seen = look(path)
        if seen is not None and recognised(path, seen, known, read=deep):
            right.add(ticker)
    return right


def _units_by_ticker(directory: Path) -> Mapping[str, Sequence[RecordedUnit]]:
    return {ticker: list(units) for ticker, units in groupby(recorded_units(directory), lambda unit: unit.symbol)}


def _judged(
    directory: Path, tickers: Sequence[str], *, units: Mapping[str, Sequence[RecordedUnit]], deep: bool
) -> list[CheckedFile]:
    histories = recorded_histories(directory, tickers)
    return [_one(directory, ticker, histories[ticker], units.get(ticker, ()), deep=deep) for ticker in histories]


def _one(
    directory: Path, ticker: str, known: Sequence[LocalHistory], units: Iterable[RecordedUnit], *, deep: bool
) -> CheckedFile:
    path, expected = directory / csv_name(ticker), known[-1]
    seen, is_stored = look(path), _is_stored(expected, units)
    if seen is None and is_stored:
        return CheckedFile(ticker=ticker, is_there=False)
    if seen is not None and recognised(path, seen, known, read=deep):
        return CheckedFile(ticker=ticker, is_there=True)
    again = f"download it again: {_command(ticker, expected, directory)}"
    if seen is None:
        kind, text, remedy = Kind.MISSING, "the only copy of its bars is missing", f"put it back, or {again}"
    elif not os.access(path, os.R_OK):
        kind, text, remedy = Kind.UNREADABLE, "it cannot be read", "check its permissions, then verify again"
    else:
        first = "remove it, as the store has its bars, or " if is_stored else ""
        kind, text, remedy = Kind.CHANGED, _change(seen, expected), f"{first}move it away and {again}"
    finding = Finding(kind=kind, ticker=ticker, key="", file=str(path), text=text, remedy=remedy)
    return CheckedFile(ticker=ticker, is_there=seen is not None, expected=expected, finding=finding)


def _is_stored(history: LocalHistory, units: Iterable[RecordedUnit]) -> bool:
    """Whether a store has bars of all its days.

    Objects that were confirmed count, also if they are lost by now: that is a finding of its own.
    """
    stored = 0
    for unit in units:
        if (unit.source, unit.adjusted) == (history.source, history.adjusted) and any(
            upload.state in CLAIMED and upload.sha256 == unit.sha256 for upload in unit.uploads
        ):
            stored |= unit.days
    days = days_between(history.first_day, history.last_day) if history.days is None else history.days
    return not days & ~stored


def _change(seen: Look, expected: LocalHistory) -> str:
    if seen.size == expected.size:
        return "its content has changed since writing"
    return f"it was changed after writing: it has {counted(seen.size, 'byte')}, expected {expected.size:,}"


def _command(ticker: str, history: LocalHistory, directory: Path) -> str:
    """The flags that fetch a history anew."""
    words = ["--no-upload", "--tickers", ticker, "--from", f"{history.first_day}", "--to", f"{history.last_day}"]
    words += ["--no-adjusted"] if history.adjusted is False else []
    words += ["--output-dir", str(directory)] if str(directory) != DEFAULTS["output_dir"] else []
    return shlex.join(words)
