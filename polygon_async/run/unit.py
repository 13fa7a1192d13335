"""The steps of one unit: fetch it into its CSV, upload that, and return its outcome.

Nothing here knows how many units are in progress, or where: another engine can run it elsewhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from polygon_async.bars.history import bars_in, extended, holds
from polygon_async.bars.part import remove
from polygon_async.bars.resume import recover_csv, resumption
from polygon_async.errors import TickerError
from polygon_async.ledger.entries import LocalHistory
from polygon_async.ledger.events import Begun, Empty, Fetched, Progressed, Resumed, Uploaded, Uploading
from polygon_async.model.counters import ASKING
from polygon_async.model.days import iso_dates_of
from polygon_async.model.layout import csv_name, part_name, unit_csv_name
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import NEW_YORK, CsvFile, Outcome, today
from polygon_async.run.local import Act, find_history, judge, last_complete
from polygon_async.run.todo import counts
from polygon_async.system.files import disk_errors
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from os import stat_result
    from pathlib import Path

    from polygon_async.bars.resume import ResumePoint
    from polygon_async.ledger.entries import Run, UnitRecord
    from polygon_async.ledger.events import Event
    from polygon_async.model.counters import Counters
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Progress, Unit
    from polygon_async.polygon.windows import Slots
    from polygon_async.run.fetch import CsvFetcher
    from polygon_async.run.local import Local
    from polygon_async.run.todo import Pending
    from polygon_async.store.delivery import Deliver
    from polygon_async.system.threads import Threads

__all__ = ["Records", "Tags", "UnitSteps"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Records(Protocol):
    """What a unit needs of the ledger: the recorder, or on another machine the way to it."""

    @property
    def run(self) -> Run:
        """The run."""

    @property
    def source(self) -> str:
        """Where its bars come from."""

    async def apply(self, event: Event) -> None:
        """Record what has happened to a unit."""

    async def stored_days(self, unit: Unit) -> int:
        """The days (see `days`) of which a store holds the ticker's bars, of these prices."""


class Tags(Protocol):
    """Completes tickers with their tags."""

    async def described(self, ticker: Ticker, *, day: date) -> Ticker:
        """The ticker with all tags that are known, as of a day on which it was traded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSteps:
    """The steps of a unit, and what they need; the same for all units of a run."""

    directory: Path
    """Where CSVs and parts are."""
    keep_csv: bool
    """Whether a CSV stays after its object is confirmed."""
    force: bool
    """Whether bars that are nowhere else may be replaced by fewer."""
    modified: float
    """The date of this run's files, s UTC."""
    fetch_csv: CsvFetcher
    slots: Slots
    """Counts the units that wait and those that are being fetched."""
    recorder: Records
    tags: Tags
    deliver: Deliver | None
    """None: the CSVs are all that is wanted."""
    offload: Threads
    counters: Counters

    async def fetch(self, pending: Pending, *, priority: int) -> CsvFile | Outcome:
        """Fetch the unit into its CSV; returns its outcome if there is nothing to upload.

        Args:
            pending: What to fetch.
            priority: Of the bodies that wait to be read, the one with the lowest goes first.

        Raises:
            TickerError: the unit has failed, and nothing of it is left.
            RunError: no unit can be fetched.
        """
        unit = pending.unit
        self.counters.in_flight[unit.ticker.symbol] = ASKING
        with self.slots.begun():
            found = await self._found(pending)
            earlier = isinstance(found, CsvFile)
            note = partial(self._progressed, unit)
            if isinstance(found, CsvFile):
                csv: CsvFile | None = found
            else:
                csv = await self.fetch_csv(unit, priority=priority, resumed=found, note=note)
        if csv is None:
            await self.remove_part(unit)  # an earlier run may have left it
            await self.recorder.apply(Empty(unit=unit))
            return Outcome(unit=unit, state=OutcomeState.NO_DATA)
        csv = await self._settled(unit, csv, pending.local)
        if self.deliver is not None:
            return csv
        if pending.local.act is Act.EXTEND and csv.path == self._own(unit):
            with disk_errors(csv.path):
                await self._on_disk(partial(csv.path.unlink, missing_ok=True), f"removing {csv.path}")
            csv = self._in_history(unit, csv)
        return Outcome(unit=unit, state=OutcomeState.SAVED, csv=csv, earlier=earlier)

    async def remove_part(self, unit: Unit) -> None:
        """Remove what there may be of a unit's part."""
        part = self.directory / part_name(unit)
        await self._on_disk(partial(remove, part), f"removing {part}")

    async def store(self, pending: Pending, csv: CsvFile) -> Outcome:
        """Compress and upload the unit's CSV, and read the object back.

        Raises:
            TickerError: there is no confirmed object.
            RunError: no object can be stored.
        """
        assert self.deliver is not None  # noqa: S101 (for the type checker; without a bucket nothing is stored)
        unit = pending.unit
        traded = datetime.fromtimestamp(csv.last / 1000, NEW_YORK).date()
        unit = replace(unit, ticker=await self.tags.described(unit.ticker, day=traded))
        collected = self._collected(csv, pending.record)
        # Recorded before the object is written, so that a resumed run looks under the same key.
        await self.recorder.apply(Uploading(unit=unit, csv=csv, collected=collected))
        on_stage = partial(self.counters.in_flight.__setitem__, unit.ticker.symbol)
        receipt, description = await self.deliver(unit, csv, collected=collected, on_stage=on_stage)
        await self.recorder.apply(Uploaded(unit=unit, receipt=receipt, tags=description.tags))
        self.counters.stored_bytes += receipt.size
        if not self.keep_csv or csv.path == self._own(unit):
            with disk_errors(csv.path):
                await self._on_disk(partial(csv.path.unlink, missing_ok=True), f"removing {csv.path}")
        return Outcome(unit=unit, state=OutcomeState.UPLOADED, csv=self._in_history(unit, csv), receipt=receipt)

    async def _found(self, pending: Pending) -> CsvFile | ResumePoint | None:
        """What earlier runs left of the unit and can be used; the ledger learns that it is resumed, or begins."""
        unit, record = pending.unit, pending.record
        if record is not None and counts(unit, record, run=self.recorder.run.id):
            if record.csv is not None:
                csv, act = record.csv, f"reading {record.csv.path}"
                if self.deliver is None and await self._on_disk(partial(holds, unit, csv), act, size=csv.size):
                    return csv
                recover = partial(recover_csv, unit, csv, modified=self.modified)
                found = await self._on_disk(recover, act, size=csv.size)
                if found is not None:
                    return found
            # Adjusted prices change with every split: a part from another day may not fit what would follow.
            if record.progress is not None and (not unit.adjusted or record.day == today()):
                resume = partial(resumption, unit, self.directory, record.progress)
                part = self.directory / part_name(unit)
                resumed = await self._on_disk(resume, f"reading {part}", size=record.progress.size)
                if isinstance(resumed, CsvFile) and resumed.path != self._own(unit):
                    await self.recorder.apply(Fetched(unit=unit, csv=resumed))
                elif resumed is not None and not isinstance(resumed, CsvFile):
                    await self.recorder.apply(Resumed(unit=unit))
                    log.info("%s resumes after %s", unit.ticker.symbol, counted(resumed.progress.bars, "bar"))
                if resumed is not None:
                    return resumed
        await self.recorder.apply(Begun(unit=unit, day=today()))
        return None

    async def _settled(self, unit: Unit, csv: CsvFile, local: Local) -> CsvFile:
        """Give the unit's bars their place in the local history, and record that they are complete.

        The ledger knows the history that is to come before the file has its name: whenever a run is killed, the
        file that is there is one of those that the ledger knows.
        """
        if csv.path != self._own(unit):
            return csv
        try:
            if local.act is Act.EXTEND:
                return await self._extended(unit, csv, local)
            if local.act is Act.REPLACE:
                await self._check_replacement(unit, csv, local)
                return await self._replaced(unit, csv, local)
        except TickerError:
            await self.offload.surely(partial(remove, csv.path), subject=f"removing {csv.path}")
            raise
        await self.recorder.apply(Fetched(unit=unit, csv=csv))
        return csv

    async def _replaced(self, unit: Unit, csv: CsvFile, local: Local) -> CsvFile:
        modified = csv.modified or (await self._look(csv.path)).st_mtime_ns
        history = self._history(unit, size=csv.size, modified=modified, bars=csv.bars, sha256=csv.sha256, days=csv.days)
        await self.recorder.apply(Fetched(unit=unit, csv=csv, history=history, before=local.history))
        whole = self._whole(unit)
        take_name = partial(_take_name, unit, csv.path, whole, was_free=local.history is None and not self.force)
        with disk_errors(whole, name=TickerError):
            await self._on_disk(take_name, f"renaming {csv.path}")
        return replace(csv, path=whole)

    async def _extended(self, unit: Unit, csv: CsvFile, local: Local) -> CsvFile:
        before, whole = local.history, self._whole(unit)
        assert before is not None  # noqa: S101 (for the type checker; nothing is extended where nothing is)
        new = whole.with_name(f".{whole.name}.new")
        # The file's date says which of its days were over: that of the newer bars.
        complete, modified = last_complete(before), self.modified
        if unit.end <= complete and before.modified is not None:
            modified = max(modified, before.modified / 10**9)
        extend = partial(extended, whole, csv.path, new, modified=modified)
        ends = await self._on_disk(extend, f"extending {whole}", size=before.size + csv.size)
        days = None if before.days is None or csv.days is None else before.days | csv.days
        found = await self._look(new)
        history = self._history(
            unit, size=found.st_size, modified=found.st_mtime_ns, bars=ends.bars, crc=ends.crc, days=days
        )
        first, last = min(unit.start, before.first_day), max(unit.end, complete)
        history = replace(history, first_day=first, last_day=last, began=before.began)
        await self.recorder.apply(Fetched(unit=unit, csv=csv, history=history, before=before))
        with disk_errors(whole, name=TickerError):
            await self._on_disk(partial(new.replace, whole), f"renaming {new}")
        return csv

    async def _check_replacement(self, unit: Unit, csv: CsvFile, local: Local) -> None:
        """See that the only copy of bars is not replaced by fewer.

        Raises:
            TickerError: it would be.
        """
        before = local.history
        if self.force or before is None:
            return
        same = replace(unit, start=before.first_day, end=before.last_day)
        bars = await self._on_disk(partial(bars_in, same, csv.path), f"reading {csv.path}", size=csv.size)
        lost = 0 if before.days is None or csv.days is None else before.days & ~csv.days
        if bars >= before.bars and not lost:
            return
        # Where the days that have their bars still are fewer bars, it is not known which.
        endangered = before.days if bars < before.bars else lost
        if endangered is not None and not endangered & ~await self.recorder.stored_days(unit):
            return
        days = "" if bars < before.bars else f", and none of {', '.join(iso_dates_of(lost)[:3])}"
        raise TickerError(
            f"the API has {counted(bars, 'bar')} of {same.start} to {same.end}{days}, and {self._whole(unit)} holds"
            f" {before.bars:,} not in any store; move it away, or replace it with --force"
        )

    def _in_history(self, unit: Unit, csv: CsvFile) -> CsvFile:
        """The unit's CSV as later runs look for it: its bars are in the local history, where they are kept."""
        return replace(csv, path=self._whole(unit))

    async def _look(self, path: Path) -> stat_result:
        with disk_errors(path):
            return await self._on_disk(path.stat, f"looking at {path}")

    def _history(
        self,
        unit: Unit,
        *,
        size: int,
        modified: int,
        bars: int,
        days: int | None,
        crc: int | None = None,
        sha256: str | None = None,
    ) -> LocalHistory:
        """What a file will be as the ticker's local history."""
        return LocalHistory(
            source=self.recorder.source,
            adjusted=unit.adjusted,
            first_day=unit.start,
            last_day=unit.end,
            bars=bars,
            size=size,
            modified=modified,
            crc=crc,
            sha256=sha256,
            days=days,
        )

    async def _on_disk(self, step: Callable[[], _T], act: str, *, size: int = 0) -> _T:
        """The result of a step over a file of so many bytes; the log tells if it takes too long."""
        return await self.offload.watched(step, subject=act, size=size)

    def _own(self, unit: Unit) -> Path:
        return self.directory / unit_csv_name(unit)

    def _whole(self, unit: Unit) -> Path:
        return self.directory / csv_name(unit.ticker.symbol)

    async def _progressed(self, unit: Unit, progress: Progress) -> None:
        await self.recorder.apply(Progressed(unit=unit, progress=progress))

    def _collected(self, csv: CsvFile, record: UnitRecord | None) -> datetime:
        """The time in the object's key: the run's, or that of an earlier run that may have already written it."""
        collected = self.recorder.run.collected
        if record is None or record.collected is None:
            return collected
        if record.csv is not None and record.csv.sha256 == csv.sha256:
            return record.collected
        # What was stored by then has other content (the range was not over, or there was a split), and stays: a key
        # has the minute.
        following = record.collected.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return collected if following <= collected else max(datetime.now(UTC).replace(microsecond=0), following)


def _take_name(unit: Unit, csv: Path, whole: Path, *, was_free: bool) -> None:
    """Give a unit's CSV the ticker's name; if that was free, what has it by now is judged like any history. Blocking.

    Raises:
        TickerError: bars would be lost.
    """
    if was_free:
        found = find_history(unit.ticker, whole.parent, ())
        if judge(unit, found, source="", keep=True, force=False).act is not Act.REPLACE:
            raise TickerError(f"{whole} has come while the run went on; move it away, or use --force")
    csv.replace(whole)
