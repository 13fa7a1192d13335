"""Repairs objects: restores tags, uploads again what is missing or wrong.

The ledger first learns what is lost, then, object by object, what has been restored: a repair that is
killed leaves a ledger that is true, and the next one continues it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from polygon_async.bars.resume import recover_csv, remove_csv
from polygon_async.errors import TickerError, UploadFailed
from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.events import Uploaded, Uploading
from polygon_async.ledger.ledger import open_ledger
from polygon_async.ledger.recorder import open_recorder
from polygon_async.model.counters import Counters
from polygon_async.model.layout import CSV_SHA256, csv_name
from polygon_async.model.states import OutcomeState
from polygon_async.polygon.session import open_polygon
from polygon_async.run.outcomes import Outcomes
from polygon_async.run.pipeline import do
from polygon_async.run.todo import what_is_left
from polygon_async.run.work import Work
from polygon_async.store.delivery import Delivery
from polygon_async.verify.findings import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.units import CsvFile, Unit
    from polygon_async.settings.settings import Settings
    from polygon_async.store.upload import Uploader
    from polygon_async.system.redaction import Redactor
    from polygon_async.system.threads import Threads
    from polygon_async.verify.findings import Checked, Expected

__all__ = ["Repair"]

log = logging.getLogger(__name__)

_LEFT_ALONE = frozenset({Kind.UNREADABLE, Kind.TAGS})
"""What uploading again does not repair, or is not needed for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Repairs objects, with what it needs for that."""

    settings: Settings
    uploader: Uploader
    lzop: str
    offload: Threads
    redact: Redactor

    async def __call__(self, checked: Sequence[Checked]) -> None:
        """Repair all that is wrong; the log names what cannot be repaired.

        Raises:
            RunError: the bucket, the disk, the key or the ledger cannot be used.
        """
        broken = [each.expected for each in checked if each.expected and _is_broken(each)]
        right = [each.expected for each in checked if each.expected and not each.findings]
        await self.offload(self._mark, checked, broken, right)
        for each in checked:
            if each.expected and {finding.kind for finding in each.findings} == {Kind.TAGS}:
                await self._tag(each.expected)
        groups = sorted(broken, key=_group)
        for _, group in groupby(groups, key=_group):
            await self._mend(list(group))

    def _mark(self, checked: Sequence[Checked], broken: Sequence[Expected], right: Sequence[Expected]) -> None:
        """Record in the ledger what is lost, and what was lost and is there again."""
        why = {each.key: each.findings[0].text for each in checked if each.findings}
        where = self.uploader.bucket.destination
        with open_ledger(self.settings.output_dir) as ledger:
            for expected in broken:
                ledger.lost(
                    _unit(expected),
                    source=_source(expected),
                    destination=where,
                    collected=expected.collected,
                    error=f"verify: {why[expected.key]}",
                )
            for expected in right:
                ledger.found(_unit(expected), source=_source(expected), destination=where)

    async def _tag(self, expected: Expected) -> None:
        """Restore the tags; the owner's own ones stay."""
        try:
            bucket = self.uploader.bucket
            stored = await bucket.inspect(expected.key)
            await bucket.put_tags(expected.key, {**((stored and stored.tags) or {}), **expected.tags})
        except UploadFailed as error:
            log.error("%s cannot be tagged: %s", expected.ticker.symbol, error)  # noqa: TRY400 (one line is enough)
        else:
            log.info("%s: tags restored, %s", expected.ticker.symbol, expected.key)

    async def _mend(self, group: Sequence[Expected]) -> None:
        """Upload the objects of one collection time and range again, from their CSVs or fetched again."""
        first = group[0]
        unit, source = _unit(first), _source(first)
        settings = replace(
            self.settings, start=unit.start, end=unit.end, adjusted=unit.adjusted, force=False, upload=True
        )
        order = RunRequest(
            source=source,
            # No download has this name, so none continues a repair.
            universe="repair",
            first_day=unit.start,
            last_day=unit.end,
            adjusted=unit.adjusted,
            days_given=True,
            settings=settings.as_json(),
        )
        destination = self.uploader.bucket.destination
        opened = open_recorder(settings.output_dir, order, destination=destination, now=first.collected, force=True)
        async with opened as recorder:
            csvs = {expected.key: csv for expected in group if (csv := await self._local(expected)) is not None}
            absent = [expected for expected in group if expected.key not in csvs]
            if absent:
                csvs |= await self._fetch(settings, absent, recorder)
            await self._upload_all(
                [(expected, csvs[expected.key]) for expected in group if expected.key in csvs], recorder
            )

    async def _local(self, expected: Expected) -> CsvFile | None:
        """The object's own CSV, if it is still there."""
        recorded = expected.recorded
        if recorded is None or recorded.sha256 is None or recorded.sha256 != expected.metadata[CSV_SHA256]:
            return None
        return await self._recovered(expected, recorded.csv_in(self.settings.output_dir, recorded.sha256))

    async def _recovered(self, expected: Expected, known: CsvFile) -> CsvFile | None:
        """A CSV of the object's range alone, be it out of a longer local history."""
        modified = expected.collected.replace(second=0).timestamp()
        recover = partial(recover_csv, _unit(expected), known, modified=modified)
        return await self.offload.watched(recover, subject=f"reading {known.path}", size=known.size)

    async def _fetch(self, settings: Settings, absent: Sequence[Expected], recorder: Recorder) -> dict[str, CsvFile]:
        """Fetch units again; returns the CSVs of those that succeeded, by their object's key."""
        names = ", ".join(expected.ticker.symbol for expected in absent)
        if not settings.api_key:
            log.error("%s: must be fetched again, which needs POLYGON_API_KEY", names)
            return {}
        if (source := _source(absent[0])) != settings.source:
            log.error("%s: was fetched from %s, not from %s; set POLYGON_BASE_URL", names, source, settings.source)
            return {}
        counters = Counters()
        async with open_polygon(settings.access, offload=self.offload, counters=counters) as client:
            outcomes = Outcomes(redact=self.redact, counters=counters)
            tickers = [expected.ticker for expected in absent]
            todo = await what_is_left(
                tickers,
                settings,
                recorder=recorder,
                client=client,
                upload=False,
                joins=False,
                offload=self.offload,
            )
            work = Work(
                todo=todo,
                settings=settings,
                outcomes=outcomes,
                client=client,
                recorder=recorder,
                deliver=None,
                offload=self.offload,
                counters=counters,
            )
            await do(work)
        saved = {
            o.unit.ticker.symbol: o.csv for o in outcomes.all if o.state is OutcomeState.SAVED and o.csv is not None
        }
        # What a later run had saved may be part of a longer history.
        found = {e.key: await self._recovered(e, saved[e.ticker.symbol]) for e in absent if e.ticker.symbol in saved}
        return {key: csv for key, csv in found.items() if csv is not None}

    async def _upload_all(self, todo: Sequence[tuple[Expected, CsvFile]], recorder: Recorder) -> None:
        slots = asyncio.Semaphore(self.settings.concurrency)
        # One for all, so that small CSVs share a run of lzop.
        deliver = Delivery(
            uploader=self.uploader,
            lzop=self.lzop,
            directory=self.settings.output_dir,
            offload=self.offload,
            replace=True,
            patience=self.settings.patience,
        )

        async def upload(expected: Expected, csv: CsvFile) -> None:
            async with slots:
                await self._upload(expected, csv, deliver, recorder)

        async with asyncio.TaskGroup() as tasks:
            for expected, csv in todo:
                tasks.create_task(upload(expected, csv))

    async def _upload(self, expected: Expected, csv: CsvFile, deliver: Delivery, recorder: Recorder) -> None:
        """Upload under the same key, unless another unit's object has it by now."""
        unit = _unit(expected)
        try:
            if csv.sha256 != expected.metadata[CSV_SHA256]:
                await recorder.apply(Uploading(unit=unit, csv=csv, collected=expected.collected))
            receipt, description = await deliver(unit, csv, collected=expected.collected, on_stage=lambda _: None)
        except TickerError as error:
            log.error("%s was not uploaded: %s", unit.ticker.symbol, error)  # noqa: TRY400 (one line is enough)
            return
        await recorder.apply(Uploaded(unit=unit, receipt=receipt, tags=description.tags))
        log.info("%s uploaded again, %s", unit.ticker.symbol, receipt.key)
        if not self.settings.keep_csv or csv.path.name != csv_name(unit.ticker.symbol):
            await self.offload.watched(partial(remove_csv, csv), subject=f"removing {csv.path}", size=csv.size)


def _is_broken(checked: Checked) -> bool:
    return any(finding.kind not in _LEFT_ALONE for finding in checked.findings)


def _unit(expected: Expected) -> Unit:
    assert expected.unit is not None  # noqa: S101 (for the type checker; the ledger's objects have one)
    return expected.unit


def _source(expected: Expected) -> str:
    assert expected.recorded is not None  # noqa: S101 (for the type checker; only the ledger's objects are repaired)
    return expected.recorded.source


def _group(expected: Expected) -> tuple[str, str, str, bool, str]:
    unit = _unit(expected)
    days = unit.start.isoformat(), unit.end.isoformat()
    return _source(expected), *days, unit.adjusted, expected.collected.isoformat()
