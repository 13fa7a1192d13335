"""What a run from the last day on goes by: what is held of each ticker, and from which day on it lacks bars."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from polygon_async.model.days import ends_of, plausible_day, since, up_to
from polygon_async.model.sessions import days_back, expected_from, sessions
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import Outcome, Unit
from polygon_async.run.local import first_to_continue, is_there
from polygon_async.run.splits import SplitSince, fetches_with, splits_since
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from polygon_async.ledger.entries import Held, LocalHistory
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import AssetType, Ticker
    from polygon_async.model.units import CsvFile
    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings

__all__ = ["Before", "tell_missing", "there_by", "units_of", "what_is_held"]

log = logging.getLogger(__name__)

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier runs have left, as far as a run from the last day on goes by it; by symbol."""

    held: Mapping[str, Held] = field(default_factory=dict)
    """The newest bars of each ticker."""
    histories: Mapping[str, LocalHistory] = field(default_factory=dict)
    """The local histories that the run may extend."""
    split: SplitSince = field(default_factory=SplitSince)
    """What of it a split has made out of date since."""


async def what_is_held(
    tickers: Sequence[Ticker],
    settings: Settings,
    histories: Mapping[str, LocalHistory],
    *,
    recorder: Recorder,
    client: Client,
) -> Before:
    """What is held of the tickers, and which of it was split since.

    Args:
        tickers: The universe.
        settings: What the run is asked to do.
        histories: The local histories that the run may extend, by symbol.
        recorder: Knows the ledger.
        client: The API, which is asked for splits.

    Raises:
        RunError: as `Client.get`.
    """
    held = await recorder.held(adjusted=settings.adjusted, back=days_back(settings.look_back))
    if not settings.adjusted:
        return Before(held, histories)
    fetches = fetches_with(await recorder.fetches(adjusted=True), histories, source=settings.source)
    split = await splits_since(tickers, fetches, client=client, keeper=recorder)
    for symbol, due in split.due.items():
        told = "%s was split since it was fetched (%s): refetching all of it, from %s"
        log.info(told, symbol, ", ".join(map(str, due)), split.ranges[symbol][0])
    return Before(held, histories, split)


def tell_missing(tickers: Sequence[Ticker], before: Before, settings: Settings) -> None:
    """Warn of tickers whose bars are held in local histories alone, which are not there: they don't come back."""
    missing = [
        ticker.symbol for ticker in tickers if ticker.symbol in before.held and ticker.symbol not in before.histories
    ]
    if not missing:
        return
    first = min(before.held[symbol].asked for symbol in missing)
    some = ", ".join(missing[:_MOST_NAMED]) + (" ..." if len(missing) > _MOST_NAMED else "")
    log.warning(
        "%s in %s has no file any more (%s), and gets one of its newest bars only; --from %s fetches all of them again",
        counted(len(missing), "ticker"),
        settings.output_dir,
        some,
        first,
    )


def there_by(
    histories: Mapping[str, Sequence[LocalHistory]], settings: Settings, *, upload: bool
) -> Callable[[Unit, CsvFile], bool]:
    """Whether what is held of a ticker is where it is to be: its CSV, where CSVs are all that is wanted."""

    def there(unit: Unit, csv: CsvFile) -> bool:
        return upload or is_there(unit, csv, histories.get(unit.ticker.symbol, ()), source=settings.source)

    return there


def units_of(
    tickers: Iterable[Ticker],
    settings: Settings,
    held: Mapping[str, Held],
    there: Callable[[Unit, CsvFile], bool],
    anew: Mapping[str, tuple[date, date]],
    histories: Mapping[str, LocalHistory],
) -> tuple[list[Unit], list[Outcome]]:
    """One unit for each ticker, and the outcomes of those that already have everything.

    Args:
        tickers: The universe.
        settings: What the run is asked to do.
        held: If only what is new is wanted, what is held of each ticker, by its symbol.
        there: Whether what is held is where it is to be; if not, it is to be done again. May look at files.
        anew: First and last day of what is held of tickers and is out of date, by symbol.
        histories: The local histories, if it is they that are to have all that is held, by symbol.
    """
    units, done = [], []
    windows = _Windows(settings.look_back)
    for ticker in tickers:
        newest = held.get(ticker.symbol)
        start = settings.start if newest is None else _first_owed(ticker, newest, windows)
        unit = Unit(ticker=ticker, start=start, end=settings.end, adjusted=settings.adjusted)
        if ticker.symbol in anew:
            first, last = anew[ticker.symbol]
            unit = replace(unit, start=first, end=max(unit.end, last))
        if newest is not None and (history := histories.get(ticker.symbol)) is not None:
            unit = replace(unit, start=first_to_continue(unit, history, source=settings.source))
        if newest is None or unit.start <= settings.end:
            units.append(unit)
            continue
        unit = replace(unit, start=newest.first_day, end=newest.last_day)
        if not there(unit, newest.csv):
            units.append(unit)
            continue
        state = OutcomeState.UPLOADED if settings.upload else OutcomeState.SAVED
        done.append(Outcome(unit=unit, state=state, csv=newest.csv, receipt=newest.receipt, earlier=True))
    return units, done


class _Windows:
    """The last sessions up to a day, worked out once for all tickers that ask."""

    def __init__(self, look_back: int) -> None:
        self.look_back = look_back
        self._known: dict[tuple[AssetType, date], int] = {}

    def until(self, market: AssetType, day: date) -> int:
        """As many sessions as are looked back at, `day` the last of them or after it, as a set of days (see `days`)."""
        if (market, day) not in self._known:
            found = 0
            # Where the calendar does not reach, nobody knows what is owed.
            with contextlib.suppress(ValueError):
                found = sessions(market, day - timedelta(days=days_back(self.look_back)), day).days
            while found.bit_count() > self.look_back:
                found &= found - 1
            self._known[market, day] = found
        return self._known[market, day]


def _first_owed(ticker: Ticker, held: Held, windows: _Windows) -> date:
    """The first day to ask for: the day after what is held, or a session before that which brought no bar.

    The API gets some sessions days late. What never came is asked for, and told, as long as it is among the
    last sessions up to what is held; so each is asked for at least twice.
    """
    listed, delisted = (plausible_day(ticker.own(column)) for column in ("list_date", "delist_date"))
    first = expected_from(ticker.market, held.asked, held.born, look_back=windows.look_back)
    owed = since(windows.until(ticker.market, held.until), first if listed is None else min(held.born, listed))
    if delisted is not None:
        owed = up_to(owed, delisted - timedelta(days=1))
    missing = ends_of(owed & ~held.days)
    return held.until + timedelta(days=1) if missing is None else missing[0]
