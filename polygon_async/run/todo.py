"""What is left to do of a run, and what earlier runs have done, by what the ledger knows."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.history import holds
from polygon_async.bars.part import remove
from polygon_async.bars.resume import remove_csv
from polygon_async.errors import ConfigError
from polygon_async.model.layout import lzo_name, unit_csv_name
from polygon_async.model.states import FetchState, OutcomeState
from polygon_async.model.units import Outcome, Unit, today
from polygon_async.run.local import Act, Local, LocalHistories, judge, refusal
from polygon_async.run.nights import Before, tell_missing, there_by, units_of, what_is_held
from polygon_async.run.splits import seams, unknown_splits
from polygon_async.store.lzop import link_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import UnitRecord
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import Ticker
    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings
    from polygon_async.system.threads import Threads

__all__ = ["Pending", "Todo", "by_start", "counts", "ended_before", "tidy", "what_is_left"]


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
    before = Before()
    if settings.since_last:
        histories = await on_disk(partial(files.by_symbol, tickers)) if joins and keep else {}
        before = await what_is_held(tickers, settings, histories, recorder=recorder, client=client)
        if joins and not upload:
            tell_missing(tickers, before, settings)
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
    errors = {symbol: unknown_splits(error) for symbol, error in split.errors.items()}
    if settings.adjusted and not settings.since_last:
        extended = [
            (each.unit.ticker, each.local.history)
            for each in pending
            if each.local.act is Act.EXTEND and each.local.history and not each.is_fetched(recorder.run.id)
        ]
        errors = await seams(extended, settings.output_dir, source=settings.source, client=client, keeper=recorder)
    return Todo(
        pending=[each for each in pending if each.unit.ticker.symbol not in errors],
        done=done,
        has_earlier=any(ticker.symbol in held for ticker in tickers),
        failed=[_failed(ticker, settings, errors[ticker.symbol]) for ticker in tickers if ticker.symbol in errors],
        anew=sorted(split.ranges),
    )


def _failed(ticker: Ticker, settings: Settings, error: str) -> Outcome:
    """Nothing of the ticker is fetched, as prices from before a split and from after it would stand side by side."""
    unit = Unit(ticker=ticker, start=settings.start, end=settings.end, adjusted=True)
    return Outcome(unit=unit, state=OutcomeState.FAILED, error=error)


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
