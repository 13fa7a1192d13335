"""Tickers and what is known of them in, an outcome for each out: producer, queue, workers, hand-off, uploaders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.part import remove
from polygon_async.bars.resume import remove_csv, resumption, whole_csv
from polygon_async.errors import Refused, TickerError
from polygon_async.model.counters import ASKING
from polygon_async.model.layout import lzo_name, part_name
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import NEW_YORK, CsvFile, Outcome, Unit, today
from polygon_async.polygon.windows import Slots
from polygon_async.run.fetch import fetch_csv
from polygon_async.run.tags import TagLookup
from polygon_async.run.todo import counts, ended_before, units_of
from polygon_async.system.files import disk_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from polygon_async.bars.resume import ResumePoint
    from polygon_async.ledger.entries import UnitRecord
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.counters import Counters
    from polygon_async.model.tickers import Ticker
    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings
    from polygon_async.store.delivery import Delivery
    from polygon_async.system.redaction import Redactor
    from polygon_async.system.threads import Threads

__all__ = ["Work"]

log = logging.getLogger(__name__)

_HINT_AFTER = 5
"""So many tickers refused with 403 and none let through: it is the plan, not the tickers."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One run's moving parts."""

    settings: Settings
    tickers: Sequence[Ticker]
    redact: Redactor
    counters: Counters
    client: Client
    offload: Threads
    recorder: Recorder
    deliver: Delivery | None
    """None: the CSVs are all that is wanted."""
    outcomes: list[Outcome] = field(default_factory=list)
    """One for every unit that ended, in the order in which they did; it fills while the work goes on."""
    todo: list[Unit] = field(init=False, default_factory=list)
    """What was not done before."""
    has_earlier: bool = field(init=False, default=False)
    """Whether the ledger holds bars from before the range, where only what is new was asked for."""
    _queue: asyncio.Queue[tuple[int, Unit, UnitRecord | None] | None] = field(init=False)
    _handoff: asyncio.Queue[tuple[Unit, CsvFile, UnitRecord | None] | None] = field(init=False)
    _slots: Slots = field(init=False)
    _listings: TagLookup = field(init=False)
    _refused: int = 0
    _began: dict[str, float] = field(init=False, default_factory=dict)
    """When fetching a ticker began, by the loop's time."""

    def __post_init__(self) -> None:
        # Bounded, so that a slow bucket slows the fetching and no files pile up.
        self._queue = asyncio.Queue(self.settings.concurrency)
        self._handoff = asyncio.Queue(self.settings.concurrency)
        self.counters.queues |= {"fetch": self._queue.qsize, "upload": self._handoff.qsize}

    async def __call__(self) -> None:
        """Do all of it, but for what earlier runs have done.

        Raises:
            RunError: the run cannot go on.
        """
        todo = await self._what_is_left()
        # Nothing is looked up for tickers that nobody tags.
        tagged = [unit.ticker for unit, _ in todo] if self.deliver and self.settings.reference else []
        self._listings = TagLookup(tagged, day=self.settings.end, client=self.client, recorder=self.recorder)
        self._slots = Slots(self.settings.concurrency, waiting=len(todo))
        workers = range(min(self.settings.concurrency, len(todo)))
        async with asyncio.TaskGroup() as storing:
            for _ in workers if self.deliver else ():
                storing.create_task(self._store_all())
            async with asyncio.TaskGroup() as fetching:
                for _ in workers:
                    fetching.create_task(self._fetch_all())
                for priority, (unit, standing) in enumerate(todo):
                    await self._queue.put((priority, unit, standing))
                for _ in workers:
                    await self._queue.put(None)
            for _ in workers if self.deliver else ():
                await self._handoff.put(None)

    async def _what_is_left(self) -> list[tuple[Unit, UnitRecord | None]]:
        """The units that are not done, with what is known of them; those that are end here."""
        units, done = await self._units()
        standings: dict[str, UnitRecord] = {}
        if not self.settings.force:
            for start in {unit.start for unit in units}:
                standings |= await self.recorder.standings([unit for unit in units if unit.start == start])
        known = [(unit, standings.get(unit.ticker.symbol)) for unit in units]
        run, upload = self.recorder.run.id, self.deliver is not None
        before = [ended_before(unit, standing, run=run, upload=upload) for unit, standing in known]
        done += [outcome for outcome in before if outcome is not None]
        await self.offload(self._tidy, [*units, *(outcome.unit for outcome in done)], done)
        for outcome in done:
            self._end(outcome)
        ended = {outcome.unit.ticker.symbol for outcome in done}
        todo = [(unit, standing) for unit, standing in known if unit.ticker.symbol not in ended]
        self.todo = [unit for unit, _ in todo]
        return todo

    async def _units(self) -> tuple[list[Unit], list[Outcome]]:
        """The run's units; and how those ended whose tickers have everything already, where only what is new counts."""
        held = await self.recorder.held(adjusted=self.settings.adjusted) if self.settings.since_last else {}
        self.has_earlier = any(ticker.symbol in held for ticker in self.tickers)
        return units_of(self.tickers, self.settings, held)

    def _tidy(self, units: Sequence[Unit], done: Sequence[Outcome]) -> None:
        """Take away what a run that was killed had no more time to."""
        for unit in units:
            remove(self.settings.output_dir / lzo_name(unit.ticker.symbol))
        for outcome in done:
            if not self.settings.keep_csv and outcome.csv is not None:
                remove_csv(outcome.csv)

    async def _fetch_all(self) -> None:
        """One fetch worker: units from the queue, until there are no more."""
        while (queued := await self._queue.get()) is not None:
            priority, unit, standing = queued
            self._began[unit.ticker.symbol] = asyncio.get_running_loop().time()
            async with self._ending(unit, note=self.recorder.failed):
                csv, earlier = await self._csv(unit, priority, standing)
                if csv is None:
                    self._end(Outcome(unit=unit, state=OutcomeState.NO_DATA))
                elif self.deliver is None:
                    self._end(Outcome(unit=unit, state=OutcomeState.SAVED, csv=csv, earlier=earlier))
                else:
                    self.counters.in_flight[unit.ticker.symbol] = "waiting for the bucket"
                    await self._handoff.put((unit, csv, standing))

    async def _csv(self, unit: Unit, priority: int, standing: UnitRecord | None) -> tuple[CsvFile | None, bool]:
        """The unit's CSV, None where the range is empty; and whether an earlier run had fetched it."""
        self.counters.in_flight[unit.ticker.symbol] = ASKING
        with self._slots.begun():
            found = await self._found(unit, standing)
            if isinstance(found, CsvFile):
                return found, True
            csv = await fetch_csv(
                unit,
                self.settings.output_dir,
                modified=self.recorder.run.collected.replace(second=0).timestamp(),
                client=self.client,
                offload=self.offload,
                counters=self.counters,
                slots=self._slots,
                priority=priority,
                resumed=found,
                note=partial(self.recorder.progressed, unit),
            )
        if csv is None:
            await self.recorder.empty(unit)
        else:
            await self.recorder.fetched(unit, csv)
        return csv, False

    async def _found(self, unit: Unit, standing: UnitRecord | None) -> CsvFile | ResumePoint | None:
        """What earlier runs have left of the unit and can be used; the ledger then knows that it goes on, or begins."""
        directory = self.settings.output_dir
        if standing is not None and counts(unit, standing, run=self.recorder.run.id):
            if standing.csv is not None and await self.offload(whole_csv, standing.csv):
                return standing.csv
            # Adjusted prices change with every split: what was begun on another day may not fit what would follow.
            if standing.progress is not None and (not unit.adjusted or standing.day == today()):
                found = await self.offload(resumption, unit, directory, standing.progress)
                if isinstance(found, CsvFile):
                    await self.recorder.fetched(unit, found)
                elif found is not None:
                    await self.recorder.resumed(unit)
                    log.info("%s goes on after %s bars", unit.ticker.symbol, f"{found.progress.bars:,}")
                if found is not None:
                    return found
        await self.recorder.begun(unit)
        await self.offload(remove, directory / part_name(unit))
        return None

    async def _store_all(self) -> None:
        """One uploader: whole CSVs from the hand-off, until there are no more."""
        while (handed := await self._handoff.get()) is not None:
            unit, csv, standing = handed
            async with self._ending(unit, csv, note=self.recorder.not_uploaded):
                self._end(await self._stored(unit, csv, self._collected(csv, standing)))

    async def _stored(self, unit: Unit, csv: CsvFile, collected: datetime) -> Outcome:
        assert self.deliver is not None  # noqa: S101 (for the type checker; uploaders run with a bucket only)
        traded = datetime.fromtimestamp(csv.last / 1000, NEW_YORK).date()
        unit = replace(unit, ticker=await self._listings.described(unit.ticker, day=traded))
        # Written down before the object is: whoever goes on after a kill looks under the same key.
        await self.recorder.uploading(unit, csv, collected)
        on_stage = partial(self.counters.in_flight.__setitem__, unit.ticker.symbol)
        receipt, description = await self.deliver(unit, csv, collected=collected, on_stage=on_stage)
        await self.recorder.uploaded(unit, receipt, description.tags)
        self.counters.stored_bytes += receipt.size
        if not self.settings.keep_csv:
            with disk_errors(csv.path):
                await self.offload(csv.path.unlink, missing_ok=True)
        return Outcome(unit=unit, state=OutcomeState.UPLOADED, csv=csv, receipt=receipt)

    def _collected(self, csv: CsvFile, standing: UnitRecord | None) -> datetime:
        """The time in the object's key: the run's, or that of an earlier one which may have written it already."""
        begun = standing is not None and standing.csv is not None and standing.csv.sha256 == csv.sha256
        return (standing.collected if begun and standing else None) or self.recorder.run.collected

    @contextlib.asynccontextmanager
    async def _ending(
        self, unit: Unit, csv: CsvFile | None = None, *, note: Callable[[Unit, str], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """What a ticker's own error becomes: an outcome, while the others go on; the ledger is told by `note`."""
        try:
            yield
        except TickerError as error:
            text = self.redact(str(error))
            await note(unit, text)
            self._end(Outcome(unit=unit, state=OutcomeState.FAILED, csv=csv, error=text))
            if isinstance(error, Refused) and error.status == 403:
                self._hint_at_the_plan()

    def _end(self, outcome: Outcome) -> None:
        symbol = outcome.unit.ticker.symbol
        if (began := self._began.pop(symbol, None)) is not None:
            outcome = replace(outcome, seconds=asyncio.get_running_loop().time() - began)
        self.outcomes.append(outcome)
        self.counters.ended[outcome.state] += 1
        self.counters.in_flight.pop(symbol, None)
        facts = _facts(outcome)
        if outcome.state is OutcomeState.FAILED:
            log.error("%s failed: %s", symbol, outcome.error, extra={"event": "ticker_failed", "facts": facts})
            return
        bars = f", {outcome.csv.bars:,} bars" if outcome.csv else ""
        key = f", {outcome.receipt.key}" if outcome.receipt else ""
        before = " before" if outcome.earlier else ""
        extra = {"routine": True, "event": "ticker_done", "facts": facts}
        log.info("%s %s%s%s%s", symbol, outcome.state, before, bars, key, extra=extra)

    def _hint_at_the_plan(self) -> None:
        self._refused += 1
        ended = [outcome for outcome in self.outcomes if not outcome.earlier]
        if self._refused == len(ended) == min(_HINT_AFTER, len(self.tickers)):
            log.warning(
                "so far every ticker was refused with 403: the plan behind the key does not include this"
                " market or reach back to %s; choose a later --from, or look at the plan",
                self.settings.start,
            )


def _facts(outcome: Outcome) -> dict[str, object]:
    """What a log line tells of an outcome beside its words."""
    facts: dict[str, object] = {"ticker": outcome.unit.ticker.symbol, "state": str(outcome.state)}
    if outcome.seconds is not None:
        facts["seconds"] = round(outcome.seconds, 3)
    if outcome.csv is not None:
        facts["bars"] = outcome.csv.bars
    if outcome.receipt is not None:
        facts["key"] = outcome.receipt.key
    if outcome.error is not None:
        facts["error"] = outcome.error
    return facts
