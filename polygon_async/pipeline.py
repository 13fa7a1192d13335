"""Settings and tickers in, a summary out: producer, queue, workers, hand-off; where an error becomes an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from polygon_async.autorate import open_auto_pacer
from polygon_async.compress import Compression, find_lzop
from polygon_async.csvfile import disk_errors
from polygon_async.directory import claim
from polygon_async.errors import DiskUnusable, Interrupted, Refused, RunError, TickerError, UploadFailed
from polygon_async.fetch import fetch_csv
from polygon_async.layout import lzo_name, metadata, object_key, tags
from polygon_async.learned import Memory, cache_file
from polygon_async.models import NEW_YORK, Outcome, State, Unit
from polygon_async.offload import Offload
from polygon_async.outage import Outage
from polygon_async.pacing import Pacer
from polygon_async.polygon import Polygon
from polygon_async.readers import Readers
from polygon_async.storage import KeyTaken, ObjectDescription, open_bucket
from polygon_async.summary import Summary
from polygon_async.tally import Tally
from polygon_async.windows import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from polygon_async.config import Settings
    from polygon_async.models import CsvFile, Receipt, Ticker
    from polygon_async.redaction import Redactor
    from polygon_async.storage import Bucket

__all__ = ["Watcher", "download", "open_polygon"]

log = logging.getLogger(__name__)

_THREADS = min(32, (os.cpu_count() or 1) + 4)
_MINUTES_TO_TRY = 60
_UPLOAD_BYTES_PER_SECOND = 1_000_000
_LEAST_UPLOAD_SECONDS = 60
_LONG = 7
"""Days from which on pages are taken to be large: the processes that read them start before the first one comes."""
_HINT_AFTER = 5
"""So many tickers refused with 403 and none let through: it is the plan, not the tickers."""


class Watcher(Protocol):
    """Whoever shows a run to a person while it goes on."""

    def watch(self, tally: Tally, pacer: Pacer, total: int) -> AbstractAsyncContextManager[object]:
        """A context that lasts as long as the run's work; `total` is its number of tickers."""


async def download(
    settings: Settings,
    tickers: Sequence[Ticker],
    *,
    redact: Redactor,
    stop: asyncio.Event | None = None,
    watcher: Watcher | None = None,
) -> Summary:
    """Download every ticker's bars, compress and upload them.

    Args:
        settings: What to do, where and how fast.
        tickers: The universe; every ticker once.
        redact: Takes the secrets out of what goes into outcomes; learns those of the S3 profile.
        stop: When it is set, everything stops at once and is cleaned up; the summary tells.
        watcher: Shows the run while it goes on.

    Raises:
        RunError: The run cannot start; nothing was asked of the API.
        Interrupted: `stop` was set before anything was asked of the API.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    collected = datetime.now(UTC).replace(microsecond=0)
    if settings.end >= collected.astimezone(NEW_YORK).date():
        log.warning("the range ends on %s, which is not over yet: its last bars are not final", settings.end)
    lzop = find_lzop() if settings.upload else None
    tally = Tally()
    with claim(settings.output_dir, tickers):
        async with contextlib.AsyncExitStack() as stack:
            offload = await stack.enter_async_context(Offload(_THREADS))
            bucket = None
            if settings.upload:
                await _unless(stop, check_bucket(settings.bucket))
            if settings.upload:
                bucket = await stack.enter_async_context(
                    open_bucket(
                        settings.bucket, offload=offload, connections=settings.concurrency, on_secret=redact.add
                    )
                )
                await _unless(stop, bucket.check())
            polygon, pacer = await stack.enter_async_context(open_polygon(settings, offload=offload, tally=tally))
            run = _Run(
                settings=settings,
                tickers=tickers,
                collected=collected,
                redact=redact,
                tally=tally,
                polygon=polygon,
                offload=offload,
                bucket=bucket,
                lzop=lzop,
            )
            if watcher is not None:
                await stack.enter_async_context(watcher.watch(tally, pacer, len(tickers)))
            interrupted, error = await run.to_its_end(stop)
        summary = Summary(
            tickers=tickers,
            outcomes=run.outcomes,
            tally=tally,
            start=settings.start,
            end=settings.end,
            adjusted=settings.adjusted,
            collected=collected,
            seconds=loop.time() - began,
            directory=settings.output_dir,
            interrupted=interrupted,
            error=error and redact(error),
        )
        try:
            await asyncio.to_thread(summary.write_lists)
        except DiskUnusable as full:
            summary = replace(summary, error=summary.error or str(full))
    return summary


@contextlib.asynccontextmanager
async def open_polygon(settings: Settings, *, offload: Offload, tally: Tally) -> AsyncIterator[tuple[Polygon, Pacer]]:
    """The REST edge as the settings want it, and the pacer that all its requests share."""
    async with (
        _open_pacer(settings, offload) as pacer,
        Readers(settings.processes, offload=offload) as readers,
        Polygon(
            base_url=settings.base_url,
            key=settings.api_key,
            pacer=pacer,
            outage=Outage(settings.outage_patience),
            offload=offload,
            readers=readers,
            tally=tally,
            patience=settings.patience,
            stall_timeout=settings.stall_timeout,
            connections=settings.concurrency,
        ) as polygon,
    ):
        if (settings.end - settings.start).days >= _LONG:
            readers.start()
        yield polygon, pacer


@contextlib.asynccontextmanager
async def _open_pacer(settings: Settings, offload: Offload) -> AsyncIterator[Pacer]:
    if not settings.rate.is_auto:
        yield Pacer(settings.rate.per_second, on_pause=_note_pause)
        return
    memory = Memory(cache_file(), key=settings.api_key, base_url=settings.base_url)
    async with open_auto_pacer(memory, offload=offload, on_pause=_note_pause) as pacer:
        yield pacer


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run's moving parts."""

    settings: Settings
    tickers: Sequence[Ticker]
    collected: datetime
    redact: Redactor
    tally: Tally
    polygon: Polygon
    offload: Offload
    bucket: Bucket | None
    lzop: str | None
    outcomes: list[Outcome] = field(default_factory=list)
    _queue: asyncio.Queue[tuple[int, Ticker] | None] = field(init=False)
    _handoff: asyncio.Queue[tuple[Unit, CsvFile] | None] = field(init=False)
    _slots: Slots = field(init=False)
    _refused: int = 0

    def __post_init__(self) -> None:
        # Bounded, so that a slow bucket slows the fetching and no files pile up.
        self._queue = asyncio.Queue(self.settings.concurrency)
        self._handoff = asyncio.Queue(self.settings.concurrency)
        self._slots = Slots(self.settings.concurrency, waiting=len(self.tickers))

    async def to_its_end(self, stop: asyncio.Event) -> tuple[bool, str | None]:
        """Do all of it; whether it was interrupted, and what stopped it otherwise."""
        try:
            await _unless(stop, self._work())
        except Interrupted:
            return True, None
        except RunError as error:
            return False, str(error)
        return False, None

    async def _work(self) -> None:
        workers = range(min(self.settings.concurrency, len(self.tickers)))
        async with asyncio.TaskGroup() as storing:
            for _ in workers if self.bucket else ():
                storing.create_task(self._store_all())
            async with asyncio.TaskGroup() as fetching:
                for _ in workers:
                    fetching.create_task(self._fetch_all())
                for numbered in (*enumerate(self.tickers), *(None for _ in workers)):
                    await self._queue.put(numbered)
            for _ in workers if self.bucket else ():
                await self._handoff.put(None)

    async def _fetch_all(self) -> None:
        """One fetch worker: tickers from the queue, until there are no more."""
        while (numbered := await self._queue.get()) is not None:
            turn, ticker = numbered
            settings = self.settings
            unit = Unit(ticker=ticker, start=settings.start, end=settings.end, adjusted=settings.adjusted)
            with self._ending(unit):
                csv = await self._fetch(unit, turn)
                if csv is None:
                    self._end(Outcome(unit=unit, state=State.NO_DATA))
                elif self.bucket is None:
                    self._end(Outcome(unit=unit, state=State.SAVED, csv=csv))
                else:
                    self.tally.in_flight[ticker.symbol] = "waiting for the bucket"
                    await self._handoff.put((unit, csv))

    async def _fetch(self, unit: Unit, turn: int) -> CsvFile | None:
        self.tally.in_flight[unit.ticker.symbol] = "asking"
        with self._slots.begun():
            return await fetch_csv(
                unit,
                self.settings.output_dir,
                modified=self.collected.replace(second=0).timestamp(),
                polygon=self.polygon,
                offload=self.offload,
                tally=self.tally,
                slots=self._slots,
                turn=turn,
            )

    async def _store_all(self) -> None:
        """One uploader: whole CSVs from the hand-off, until there are no more."""
        while (handed := await self._handoff.get()) is not None:
            unit, csv = handed
            with self._ending(unit, csv):
                receipt = await self._store(unit, csv)
                self.tally.stored_bytes += receipt.size
                if not self.settings.keep_csv:
                    with disk_errors(csv.path):
                        await self.offload(csv.path.unlink, missing_ok=True)
                self._end(Outcome(unit=unit, state=State.UPLOADED, csv=csv, receipt=receipt))

    async def _store(self, unit: Unit, csv: CsvFile) -> Receipt:
        """Compress and upload one CSV; the compressed file is gone afterwards, whatever happened."""
        assert self.bucket is not None  # noqa: S101 (for the type checker; uploaders run with a bucket only)
        symbol = unit.ticker.symbol
        target = self.settings.output_dir / lzo_name(symbol)
        compression = Compression(self.lzop or "lzop", csv.path, target)
        try:
            self.tally.in_flight[symbol] = "lzop"
            await self.offload.until_done(compression.run, hurry=compression.stop)
            self.tally.in_flight[symbol] = "uploading"
            with disk_errors(target):
                size = (await self.offload(target.stat)).st_size
            deadline = max(self.settings.patience, _LEAST_UPLOAD_SECONDS) + size / _UPLOAD_BYTES_PER_SECOND
            for minute in range(_MINUTES_TO_TRY):
                collected = self.collected + timedelta(minutes=minute)
                description = ObjectDescription(
                    key=object_key(unit.ticker, collected),
                    tags=tags(unit.ticker, collected),
                    metadata=metadata(unit, csv),
                )
                with contextlib.suppress(KeyTaken):
                    return await self.bucket.store(target, description, replace=self.settings.force, deadline=deadline)
            raise UploadFailed(f"other downloads' objects have every key of {symbol} from {self.collected} on")
        finally:
            with contextlib.suppress(OSError):
                await self.offload.surely(partial(target.unlink, missing_ok=True))

    @contextlib.contextmanager
    def _ending(self, unit: Unit, csv: CsvFile | None = None) -> Iterator[None]:
        """What a ticker's own error becomes: an outcome, while the others go on."""
        try:
            yield
        except TickerError as error:
            self._end(Outcome(unit=unit, state=State.FAILED, csv=csv, error=self.redact(str(error))))
            if isinstance(error, Refused) and error.status == 403:
                self._hint_at_the_plan()

    def _end(self, outcome: Outcome) -> None:
        symbol = outcome.unit.ticker.symbol
        self.outcomes.append(outcome)
        self.tally.ended[outcome.state] += 1
        self.tally.in_flight.pop(symbol, None)
        if outcome.state is State.FAILED:
            log.error("%s failed: %s", symbol, outcome.error)
            return
        bars = f", {outcome.csv.bars:,} bars" if outcome.csv else ""
        key = f", {outcome.receipt.key}" if outcome.receipt else ""
        log.info("%s %s%s%s", symbol, outcome.state, bars, key, extra={"routine": True})

    def _hint_at_the_plan(self) -> None:
        self._refused += 1
        if self._refused == len(self.outcomes) == min(_HINT_AFTER, len(self.tickers)):
            log.warning(
                "so far every ticker was refused with 403: the plan behind the key does not include this"
                " market or reach back to %s; choose a later --from, or look at the plan",
                self.settings.start,
            )


def _note_pause(seconds: float) -> None:
    log.warning("the API asks for a pause: nobody sends anything for %.1f s", seconds)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, or to its cancellation when `stop` is set.

    Raises:
        Interrupted: `stop` was set first.
        RunError: out of any task of `work`.
    """
    ended_by: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            alarm = tasks.create_task(_raise_when(stop))
            await work
            alarm.cancel()
    except* (Interrupted, RunError) as group:
        ended_by = _first(group)
    if ended_by is not None:
        raise ended_by


async def _raise_when(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Interrupted("interrupted before anything was fetched")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
