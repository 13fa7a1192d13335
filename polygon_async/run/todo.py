"""What is left to do of a run, and what earlier runs have done, by what the ledger knows."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.history import holds
from polygon_async.bars.part import remove
from polygon_async.bars.resume import remove_csv
from polygon_async.errors import ConfigError
from polygon_async.model.days import ends_of, plausible_day, since, up_to
from polygon_async.model.layout import csv_name, lzo_name, unit_csv_name
from polygon_async.model.sessions import days_back, expected_from, sessions
from polygon_async.model.states import FetchState, OutcomeState
from polygon_async.model.units import Outcome, Unit, today
from polygon_async.run.local import Act, Local, LocalHistories, first_to_continue, is_there, judge, refusal
from polygon_async.run.splits import SplitSince, fetches_with, splits_since
from polygon_async.store.lzop import link_folder
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from polygon_async.archive.splits import Keeper
    from polygon_async.errors import TickerError
    from polygon_async.ledger.entries import Held, LocalHistory, UnitRecord
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import AssetType, Ticker
    from polygon_async.model.units import CsvFile
    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings
    from polygon_async.system.threads import Threads

__all__ = ["Pending", "Todo", "by_start", "counts", "ended_before", "tidy", "units_of", "what_is_left"]

log = logging.getLogger(__name__)

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Pending:
    """A unit that is not done."""

    unit: Unit
    record: UnitRecord | None
    """What the ledger knows of it."""
    local: Local
    """What its bars do to the ticker's local history."""

    def is_fetched(self, run: int) -> bool:
        """Whether all of its bars were fetched before, and need no request if they are still there."""
        return self.record is not None and self.record.csv is not None and counts(self.unit, self.record, run=run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """What is left to do of a run, and what is done."""

    pending: Sequence[Pending]
    """In the order of the tickers."""
    done: Sequence[Outcome]
    """How the others ended in earlier runs."""
    has_earlier: bool
    """Whether the ledger has bars from before the range, if only what is new is wanted."""
    failed: Sequence[Outcome] = ()
    """Tickers that cannot go on where they are, and why."""
    anew: Sequence[str] = ()
    """Tickers that are fetched anew over all that is held of them, as they were split since."""


async def what_is_left(
    tickers: Sequence[Ticker],
    settings: Settings,
    *,
    recorder: Recorder,
    client: Client,
    upload: bool,
    joins: bool = True,
    offload: Threads,
) -> Todo:
    """What is left to do, by what the ledger knows and the local histories hold.

    Args:
        tickers: The universe.
        settings: What the run is asked to do.
        recorder: Knows the ledger.
        client: The API, which is asked for splits.
        upload: Whether objects are wanted, and not CSVs only.
        joins: Whether the units' bars may go to the local histories; else all units keep files of their own.
        offload: Looks at files.

    Raises:
        ConfigError: a unit would lose bars of a local history.
        RunError: the API cannot be asked at all.
    """
    keep = settings.keep_csv or not upload
    files = LocalHistories(settings.output_dir, await recorder.histories())
    on_disk = partial(offload.watched, subject=lambda: f"reading {files.at}", size=files.largest)
    before = _Before()
    if settings.since_last:
        histories = await on_disk(partial(files.by_symbol, tickers)) if joins and keep else {}
        before = await _before(tickers, settings, histories, recorder=recorder, client=client)
        if joins and not upload:
            _tell_missing(tickers, before, settings)
    held, split = before.held, before.split
    wanted = [ticker for ticker in tickers if ticker.symbol not in split.errors]
    there = there_by(files.known, settings, upload=upload)
    # What is held is in a store, or else in the histories: then these are to have all of it.
    growing = {} if upload else before.histories
    units, done = await offload(units_of, wanted, settings, held, there, split.ranges, growing)
    records: dict[str, UnitRecord] = {}
    for alike in by_start(units) if not settings.force else ():
        records |= await recorder.standings(alike)
    left: list[tuple[Unit, UnitRecord | None]] = []
    for unit in units:
        record = records.get(unit.ticker.symbol)
        ended = ended_before(unit, record, run=recorder.run.id, upload=upload)
        if unit.ticker.symbol in split.ranges:
            # What was fetched before the split is no use, be it of the same range.
            record, ended = record and replace(record, csv=None, progress=None), None
        if ended is None:
            left.append((unit, record))
        else:
            done.append(ended)
    place = partial(_placed, left, settings, files if joins else None, run=recorder.run.id, keep=keep)
    pending = await on_disk(place)
    errors = {symbol: _unknown(error) for symbol, error in split.errors.items()}
    if settings.adjusted and not settings.since_last:
        fresh = [each for each in pending if not each.is_fetched(recorder.run.id)]
        errors = await _seams(fresh, settings, client=client, keeper=recorder)
    return Todo(
        pending=[each for each in pending if each.unit.ticker.symbol not in errors],
        done=done,
        has_earlier=any(ticker.symbol in held for ticker in tickers),
        failed=[_failed(ticker, settings, errors[ticker.symbol]) for ticker in tickers if ticker.symbol in errors],
        anew=sorted(split.ranges),
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """What earlier runs have left, as far as a run from the last day on goes by it; by symbol."""

    held: Mapping[str, Held] = field(default_factory=dict)
    histories: Mapping[str, LocalHistory] = field(default_factory=dict)
    split: SplitSince = field(default_factory=SplitSince)


async def _before(
    tickers: Sequence[Ticker],
    settings: Settings,
    histories: Mapping[str, LocalHistory],
    *,
    recorder: Recorder,
    client: Client,
) -> _Before:
    """What is held of the tickers, and which of it was split since.

    Raises:
        RunError: as `Client.get`.
    """
    held = await recorder.held(adjusted=settings.adjusted, back=days_back(settings.look_back))
    if not settings.adjusted:
        return _Before(held, histories)
    fetches = fetches_with(await recorder.fetches(adjusted=True), histories, source=settings.source)
    split = await splits_since(tickers, fetches, client=client, keeper=recorder)
    for symbol, due in split.due.items():
        told = "%s was split since it was fetched (%s): refetching all of it, from %s"
        log.info(told, symbol, ", ".join(map(str, due)), split.ranges[symbol][0])
    return _Before(held, histories, split)


async def _seams(pending: Sequence[Pending], settings: Settings, *, client: Client, keeper: Keeper) -> dict[str, str]:
    """Why units that are to be fetched cannot be joined to the local histories that they continue, by symbol.

    Prices from before a split, and from after it, would stand side by side in one file.

    Raises:
        RunError: as `Client.get`.
    """
    growing = [each for each in pending if each.local.act is Act.EXTEND]
    before = {each.unit.ticker.symbol: each.local.history for each in growing if each.local.history is not None}
    fetches = fetches_with({}, before, source=settings.source)
    split = await splits_since([each.unit.ticker for each in growing], fetches, client=client, keeper=keeper)
    errors = {symbol: _unknown(error) for symbol, error in split.errors.items()}
    for symbol, due in split.due.items():
        path, first = settings.output_dir / csv_name(symbol), before[symbol].first_day
        errors[symbol] = (
            f"it was split ({', '.join(map(str, due))}) after the bars in {path} were fetched, so that their adjusted"
            f" prices do not match the new ones; --from {first} fetches them all again, another --output-dir keeps both"
        )
    return errors


def _unknown(error: TickerError) -> str:
    return f"{error}; prices from before and after a split might mix (--no-adjusted needs no list)"


def _failed(ticker: Ticker, settings: Settings, error: str) -> Outcome:
    """Nothing of the ticker is fetched, as prices from before a split and from after it would stand side by side."""
    unit = Unit(ticker=ticker, start=settings.start, end=settings.end, adjusted=True)
    return Outcome(unit=unit, state=OutcomeState.FAILED, error=error)


def _tell_missing(tickers: Sequence[Ticker], before: _Before, settings: Settings) -> None:
    """What is held is in local histories alone, and these are not there: their bars do not come back by themselves."""
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


def _placed(
    left: Sequence[tuple[Unit, UnitRecord | None]],
    settings: Settings,
    files: LocalHistories | None,
    *,
    run: int,
    keep: bool,
) -> list[Pending]:
    """The units with what their bars do to the local histories; nothing where these are not at hand.

    Raises:
        ConfigError: a unit would lose bars of one; nothing is fetched then.
    """
    placed, refused = [], []
    for unit, record in left:
        local = Local(Act.LEAVE)
        if files is not None:
            local = judge(
                unit,
                files.of(unit.ticker),
                source=settings.source,
                keep=keep,
                force=settings.force,
                fills=settings.since_last,
            )
        if local.act is Act.REFUSE and _is_in_place(unit, record, run):
            local = replace(local, act=Act.LEAVE)
        if local.act is Act.REFUSE:
            refused.append((unit, local))
        placed.append(Pending(unit, record, local))
    if refused:
        raise ConfigError(refusal(refused, settings.output_dir, source=settings.source))
    return placed


def _is_in_place(unit: Unit, record: UnitRecord | None, run: int) -> bool:
    """Whether the unit's bars are final, and where the ledger says: nothing is fetched then."""
    if record is None or record.csv is None or not counts(unit, record, run=run):
        return False
    return holds(unit, record.csv)


async def tidy(todo: Todo, directory: Path, *, keep_csv: bool, offload: Threads) -> None:
    """Remove what a killed run had no time to: compressed files, and CSVs whose object is confirmed."""
    at = [directory]

    def remove_all() -> None:
        for unit in (*(pending.unit for pending in todo.pending), *(outcome.unit for outcome in todo.done)):
            at[0] = target = directory / lzo_name(unit.ticker.symbol)
            remove(target)
            shutil.rmtree(link_folder(target), ignore_errors=True)
        for outcome in todo.done:
            at[0] = directory / unit_csv_name(outcome.unit)
            remove(at[0])
            if not keep_csv and outcome.csv is not None:
                remove_csv(outcome.csv)

    await offload.watched(remove_all, subject=lambda: f"removing {at[0]}")


def by_start(units: Iterable[Unit]) -> Iterable[Sequence[Unit]]:
    """The units in groups that differ only in their ticker, as the ledger is queried."""
    groups: defaultdict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        groups[unit.start, unit.end].append(unit)
    return groups.values()


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


def counts(unit: Unit, standing: UnitRecord, *, run: int | None) -> bool:
    """Whether the range was over when it was fetched; if not, it counts for the run that fetched it, on that day."""
    return unit.end < standing.day or (standing.run == run and standing.day == today())


def ended_before(unit: Unit, standing: UnitRecord | None, *, run: int | None, upload: bool) -> Outcome | None:
    """The unit's outcome in an earlier run, if nothing is left to do."""
    if standing is None or not counts(unit, standing, run=run):
        return None
    if standing.state is FetchState.NO_DATA:
        return Outcome(unit=unit, state=OutcomeState.NO_DATA, earlier=True)
    if upload and standing.receipt is not None:
        return Outcome(unit=unit, state=OutcomeState.UPLOADED, csv=standing.csv, receipt=standing.receipt, earlier=True)
    return None
