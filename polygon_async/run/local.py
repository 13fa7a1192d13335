"""What a unit's bars do to the ticker's local history, or why they must not.

The file under a ticker's name is its local history. A unit that continues it, or is what it lacks, extends it, one
whose range covers it replaces it, and any other is refused before a request is spent. Blocking where it looks at files.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from polygon_async.bars.history import ends_of, holds, is_without_rows, look, recognised
from polygon_async.ledger.entries import LocalHistory
from polygon_async.model.days import moment_day
from polygon_async.model.layout import csv_name
from polygon_async.model.sessions import sessions
from polygon_async.model.units import NEW_YORK
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from polygon_async.bars.history import Look
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import CsvFile, Unit

__all__ = [
    "Act",
    "Local",
    "LocalHistories",
    "find_history",
    "first_to_continue",
    "is_there",
    "judge",
    "last_complete",
    "refusal",
]

_MOST_NAMED = 3
_LONGEST_BREAK = timedelta(days=30)
"""Between two sessions; no exchange was ever closed for longer since 1970."""


class Act(enum.Enum):
    """What a unit's bars do to the file under the ticker's name."""

    REPLACE = enum.auto()
    """They become it; there may be none yet."""
    EXTEND = enum.auto()
    """They are joined to it."""
    LEAVE = enum.auto()
    """Nothing: the file is left alone, as CSVs are not kept."""
    REFUSE = enum.auto()
    """They would lose bars."""


@dataclass(frozen=True, slots=True)
class Local:
    """A unit's place in the local history."""

    act: Act
    history: LocalHistory | None = None
    """The existing history; None if there are no bars."""


class LocalHistories:
    """The local histories of tickers; each file is looked at once, when it is asked for. Blocking.

    Args:
        directory: Where the files are.
        known: What the ledger knows of them, by symbol.
    """

    def __init__(self, directory: Path, known: Mapping[str, Sequence[LocalHistory]]) -> None:
        self._directory = directory
        self.known = known
        self._found: dict[str, LocalHistory | None] = {}
        self.at = directory
        """The file that is looked at now."""

    @property
    def largest(self) -> int:
        """Bytes of the largest file that is known."""
        return max((history.size for several in self.known.values() for history in several), default=0)

    def of(self, ticker: Ticker) -> LocalHistory | None:
        """What `find_history` says of a ticker."""
        symbol = ticker.symbol
        if symbol not in self._found:
            self.at = self._directory / csv_name(symbol)
            self._found[symbol] = find_history(ticker, self._directory, self.known.get(symbol, ()))
        return self._found[symbol]

    def by_symbol(self, tickers: Iterable[Ticker]) -> dict[str, LocalHistory]:
        """Those of some tickers that have one."""
        return {ticker.symbol: history for ticker in tickers if (history := self.of(ticker)) is not None}


def judge(
    unit: Unit, history: LocalHistory | None, *, source: str, keep: bool, force: bool, fills: bool = False
) -> Local:
    """What the unit's bars do to the history.

    Args:
        unit: What is to be fetched.
        history: What is there.
        source: Where the unit's bars come from.
        keep: Whether CSVs stay. If not, a unit's bars have the ticker's name only where it is free.
        force: Whether bars may be lost.
        fills: Whether the unit is what a ticker lacks: then its bars may also be older than the history's last ones.
    """
    if history is None:
        return Local(Act.REPLACE)
    if not keep:
        return Local(Act.LEAVE, history)
    if unit.start <= history.first_day and unit.end >= history.last_day:
        return Local(Act.REPLACE, history)
    joins = _meets if fills else _continues
    if history.is_whole and not _is_other(unit, history, source) and joins(unit, history):
        return Local(Act.EXTEND, history)
    return Local(Act.REPLACE if force else Act.REFUSE, history)


def refusal(refused: Sequence[tuple[Unit, Local]], directory: Path, *, source: str) -> str:
    """The line that refuses units which would lose bars of histories."""
    named = []
    for unit, local in refused[:_MOST_NAMED]:
        history = local.history
        assert history is not None  # noqa: S101 (for the type checker; nothing is lost where there is none)
        path = directory / csv_name(unit.ticker.symbol)
        if not history.bars:
            named.append(f"{path} cannot be read as this program's CSV of bars")
            continue
        why = "" if history.is_whole else ", and its end is cut"
        why = why or (", of other prices or another source" if _is_other(unit, history, source) else "")
        named.append(f"{path} holds {counted(history.bars, 'bar')} of {history.first_day} to {history.last_day}{why}")
    more = f" (and {len(refused) - _MOST_NAMED:,} more)" if len(refused) > _MOST_NAMED else ""
    start, end = refused[0][0].start, refused[0][0].end
    return (
        f"{'; '.join(named)}{more}: {start} to {end} neither covers nor continues that, so bars would be lost;"
        " choose another --output-dir, another range, or --force to replace it"
    )


def find_history(ticker: Ticker, directory: Path, known: Sequence[LocalHistory]) -> LocalHistory | None:
    """The content of the file under the ticker's name; None if there is none, or it has no bars.

    Args:
        ticker: Whose file.
        directory: Where it is.
        known: What the ledger knows of files of this name; that of the present file is believed, by size
            and date or else by its content. What it does not know is read.
    """
    path = directory / csv_name(ticker.symbol)
    seen = look(path)
    if seen is None:
        return None
    if (history := recognised(path, seen, known)) is not None:
        return history
    found = ends_of(path)
    if found is None:
        return None if is_without_rows(path) else _unreadable(seen, known)
    first, last = (moment_day(moment, ticker.market) for moment in (found.first, found.last))
    return LocalHistory(
        source=None,
        adjusted=None,
        first_day=first,
        last_day=last,
        bars=found.bars,
        size=seen.size,
        modified=seen.modified,
        crc=found.crc,
        sha256=None,
        days=None,
        is_whole=found.is_whole,
    )


def _unreadable(seen: Look, known: Sequence[LocalHistory]) -> LocalHistory:
    """A file that cannot be read as bars, and may be the only copy of them: of the days that it is known to have had,
    or where nothing is known, of any."""
    return LocalHistory(
        source=None,
        adjusted=None,
        first_day=min((one.first_day for one in known), default=date.min),
        last_day=max((one.last_day for one in known), default=date.max),
        bars=0,
        size=seen.size,
        modified=seen.modified,
        crc=None,
        sha256=None,
        days=None,
        is_whole=False,
    )


def is_there(unit: Unit, csv: CsvFile, known: Sequence[LocalHistory], *, source: str) -> bool:
    """Whether the unit's bars are in the file under the ticker's name; a file that the ledger knows is not read.

    Args:
        unit: What was fetched.
        csv: Its bars, where they are to be.
        known: What the ledger knows of files of this name.
        source: Where the bars come from.
    """
    seen = look(csv.path)
    if seen is None:
        return False
    history = recognised(csv.path, seen, known)
    if history is not None and not _is_other(unit, history, source):
        return history.first_day <= unit.start and unit.end <= history.last_day
    return holds(unit, csv)


def _continues(unit: Unit, history: LocalHistory) -> bool:
    """Whether the unit starts where the history ends, without a session in between, and ends no earlier."""
    return history.first_day < unit.start and history.last_day <= unit.end and _meets(unit, history)


def _meets(unit: Unit, history: LocalHistory) -> bool:
    """Whether there is no session between the two."""
    if unit.start <= history.first_day:
        between = unit.end + timedelta(days=1), history.first_day - timedelta(days=1)
    else:
        between = last_complete(history) + timedelta(days=1), unit.start - timedelta(days=1)
    if between[0] > between[1]:
        return True
    if between[1] - between[0] > _LONGEST_BREAK:
        return False
    try:
        return not sessions(unit.ticker.market, *between).days
    except ValueError:  # the calendar does not reach there
        return False


def first_to_continue(unit: Unit, history: LocalHistory, *, source: str) -> date:
    """The day from which on to fetch a unit's bars, so that they continue the history: its first, or if the history
    ends before that, an earlier one.

    Args:
        unit: What is wanted.
        history: What is there.
        source: Where the unit's bars come from.
    """
    if not history.is_whole or _is_other(unit, history, source) or not history.first_day < unit.start:
        return unit.start
    if unit.end < history.last_day or _continues(unit, history):
        return unit.start
    return min(unit.start, last_complete(history) + timedelta(days=1))


def last_complete(history: LocalHistory) -> date:
    """The last day of a history that was over when it was fetched: its file has the date of the run."""
    if history.modified is None:
        return history.last_day
    made = datetime.fromtimestamp(history.modified / 10**9, NEW_YORK).date()
    return min(history.last_day, made - timedelta(days=1))


def _is_other(unit: Unit, history: LocalHistory, source: str) -> bool:
    """Whether the history's bars may have other prices or another source."""
    return history.adjusted is not unit.adjusted or history.source != source
