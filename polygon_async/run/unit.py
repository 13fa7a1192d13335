"""One unit's way: what the ledger knows of it in; its CSV, its confirmed object and its outcome out.

Nothing here knows how many units are under way or where: another engine can run it elsewhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.part import remove
from polygon_async.bars.resume import resumption, whole_csv
from polygon_async.ledger.events import Begun, Empty, Fetched, Progressed, Resumed, Uploaded, Uploading
from polygon_async.model.counters import ASKING
from polygon_async.model.layout import part_name
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import NEW_YORK, CsvFile, Outcome, today
from polygon_async.run.todo import counts
from polygon_async.system.files import disk_errors

if TYPE_CHECKING:
    from pathlib import Path

    from polygon_async.bars.resume import ResumePoint
    from polygon_async.ledger.entries import UnitRecord
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Progress, Unit
    from polygon_async.polygon.windows import Slots
    from polygon_async.run.fetch import CsvFetcher
    from polygon_async.run.tags import TagLookup
    from polygon_async.store.delivery import Delivery
    from polygon_async.system.threads import Threads

__all__ = ["UnitSteps"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSteps:
    """The steps of a unit's way, and what they need; the same for all units of a run."""

    directory: Path
    """Where CSVs and parts are."""
    keep_csv: bool
    """Whether a CSV stays when its object is confirmed."""
    fetch_csv: CsvFetcher
    slots: Slots
    """Counts the units that wait and those that are being fetched."""
    recorder: Recorder
    tags: TagLookup
    deliver: Delivery | None
    """None: the CSVs are all that is wanted."""
    offload: Threads
    counters: Counters

    async def fetch(self, unit: Unit, record: UnitRecord | None, *, priority: int) -> CsvFile | Outcome:
        """Fetch the unit into its CSV; its outcome where there is nothing to upload.

        Args:
            unit: What to fetch.
            record: What the ledger knows of it.
            priority: Of bodies that wait to be read, one with a lower priority comes first.

        Raises:
            TickerError: the unit has failed, and nothing of it is left.
            RunError: no unit can be fetched.
        """
        csv, earlier = await self._csv(unit, record, priority)
        if csv is None:
            return Outcome(unit=unit, state=OutcomeState.NO_DATA)
        if self.deliver is None:
            return Outcome(unit=unit, state=OutcomeState.SAVED, csv=csv, earlier=earlier)
        return csv

    async def store(self, unit: Unit, csv: CsvFile, record: UnitRecord | None) -> Outcome:
        """Compress and upload the unit's CSV, and read the object back.

        Raises:
            TickerError: there is no confirmed object.
            RunError: no object can be stored.
        """
        assert self.deliver is not None  # noqa: S101 (for the type checker; without a bucket nothing is stored)
        traded = datetime.fromtimestamp(csv.last / 1000, NEW_YORK).date()
        unit = replace(unit, ticker=await self.tags.described(unit.ticker, day=traded))
        collected = self._collected(csv, record)
        # Written down before the object is: whoever goes on after a kill looks under the same key.
        await self.recorder.apply(Uploading(unit=unit, csv=csv, collected=collected))
        on_stage = partial(self.counters.in_flight.__setitem__, unit.ticker.symbol)
        receipt, description = await self.deliver(unit, csv, collected=collected, on_stage=on_stage)
        await self.recorder.apply(Uploaded(unit=unit, receipt=receipt, tags=description.tags))
        self.counters.stored_bytes += receipt.size
        if not self.keep_csv:
            with disk_errors(csv.path):
                await self.offload(csv.path.unlink, missing_ok=True)
        return Outcome(unit=unit, state=OutcomeState.UPLOADED, csv=csv, receipt=receipt)

    async def _csv(self, unit: Unit, record: UnitRecord | None, priority: int) -> tuple[CsvFile | None, bool]:
        """The unit's CSV, None where the range is empty; and whether an earlier run had fetched it."""
        self.counters.in_flight[unit.ticker.symbol] = ASKING
        with self.slots.begun():
            found = await self._found(unit, record)
            if isinstance(found, CsvFile):
                return found, True
            note = partial(self._progressed, unit)
            csv = await self.fetch_csv(unit, priority=priority, resumed=found, note=note)
        if csv is None:
            await self.recorder.apply(Empty(unit=unit))
        else:
            await self.recorder.apply(Fetched(unit=unit, csv=csv))
        return csv, False

    async def _found(self, unit: Unit, record: UnitRecord | None) -> CsvFile | ResumePoint | None:
        """What earlier runs left of the unit and can be used; the ledger then knows that it goes on, or begins."""
        if record is not None and counts(unit, record, run=self.recorder.run.id):
            if record.csv is not None and await self.offload(whole_csv, record.csv):
                return record.csv
            # Adjusted prices change with every split: what was begun on another day may not fit what would follow.
            if record.progress is not None and (not unit.adjusted or record.day == today()):
                found = await self.offload(resumption, unit, self.directory, record.progress)
                if isinstance(found, CsvFile):
                    await self.recorder.apply(Fetched(unit=unit, csv=found))
                elif found is not None:
                    await self.recorder.apply(Resumed(unit=unit))
                    log.info("%s resumes after %s bars", unit.ticker.symbol, f"{found.progress.bars:,}")
                if found is not None:
                    return found
        await self.recorder.apply(Begun(unit=unit, day=today()))
        await self.offload(remove, self.directory / part_name(unit))
        return None

    async def _progressed(self, unit: Unit, progress: Progress) -> None:
        await self.recorder.apply(Progressed(unit=unit, progress=progress))

    def _collected(self, csv: CsvFile, record: UnitRecord | None) -> datetime:
        """The time in the object's key: the run's, or that of an earlier one which may have written it already."""
        begun = record is not None and record.csv is not None and record.csv.sha256 == csv.sha256
        return (record.collected if begun and record else None) or self.recorder.run.collected
