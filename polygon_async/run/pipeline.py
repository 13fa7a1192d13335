"""Settings and tickers in, a summary out: a run from its checks to its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import DiskUnusable, Interrupted, RunError, first_of
from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.recorder import open_recorder
from polygon_async.model.counters import Counters, Watcher
from polygon_async.model.states import RunState
from polygon_async.model.units import today
from polygon_async.polygon.session import open_polygon
from polygon_async.report.coverage import cover, prepare
from polygon_async.report.estimate import expect
from polygon_async.report.lists import write_lists
from polygon_async.report.run_report import redacted, report_of, write_report
from polygon_async.report.summary import Summary
from polygon_async.run.directory import check_space, claim, space_needed, watch_space
from polygon_async.run.tags import most_lookups
from polygon_async.run.workers import Work
from polygon_async.store.bucket import open_bucket
from polygon_async.store.delivery import Delivery
from polygon_async.store.lzop import find_lzop
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager

    from polygon_async.ledger.entries import Run
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import Ticker
    from polygon_async.report.coverage import Covered
    from polygon_async.settings.settings import Settings
    from polygon_async.store.bucket import Bucket
    from polygon_async.system.redaction import Redactor

__all__ = ["download"]

log = logging.getLogger(__name__)


async def download(
    settings: Settings,
    tickers: Sequence[Ticker],
    *,
    redact: Redactor,
    stop: asyncio.Event | None = None,
    watchers: Sequence[Watcher] = (),
) -> Summary:
    """Download every ticker's bars, compress and upload them.

    Args:
        settings: What to do, where and how fast.
        tickers: The universe; every ticker once.
        redact: Takes the secrets out of what goes into outcomes; learns those of the S3 profile.
        stop: When it is set, everything stops at once and is cleaned up; the summary tells.
        watchers: Show the run while it goes on.

    Raises:
        RunError: The run cannot start; nothing was asked of the API.
        Interrupted: `stop` was set before anything was asked of the API.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    lzop = find_lzop() if settings.upload else None
    counters = Counters()
    counters.measures.began = began
    least = space_needed(settings.concurrency)
    with claim(settings.output_dir, tickers):
        await asyncio.to_thread(check_space, settings.output_dir, least)
        async with contextlib.AsyncExitStack() as stack:
            offload = await stack.enter_async_context(Threads())
            client, pacer = await stack.enter_async_context(
                open_polygon(settings.access, offload=offload, counters=counters)
            )
            bucket = None
            if settings.upload:
                bucket = await stack.enter_async_context(
                    open_bucket(
                        settings.bucket, offload=offload, connections=settings.concurrency, on_secret=redact.add
                    )
                )
                await _unless(stop, bucket.check())
            recorder = await stack.enter_async_context(_open_records(settings, tickers, bucket))
            settings = replace(settings, start=recorder.run.first_day, end=recorder.run.last_day)
            _tell(settings, recorder.run, len(tickers))
            work = Work(
                settings=settings,
                tickers=tickers,
                redact=redact,
                counters=counters,
                client=client,
                offload=offload,
                recorder=recorder,
                deliver=None
                if bucket is None or lzop is None
                else Delivery(
                    bucket=bucket,
                    lzop=lzop,
                    directory=settings.output_dir,
                    offload=offload,
                    replace=settings.force,
                    patience=settings.patience,
                    seconds=counters.measures.seconds,
                ),
            )
            for watcher in watchers:
                await stack.enter_async_context(watcher.watch(counters, pacer, len(tickers)))
            densities = asyncio.ensure_future(recorder.densities())
            calendar = asyncio.ensure_future(offload(prepare, tickers))
            stack.push_async_callback(asyncio.wait, [calendar, densities])
            watch = watch_space(settings.output_dir, least, offload=offload)
            interrupted, error = await _to_its_end(_beside(watch, work()), stop)
            recorder.ended = RunState.INTERRUPTED if interrupted else RunState.STOPPED if error else RunState.DONE
            await calendar
            covered = [] if interrupted else await cover(work.outcomes, offload=offload)
            lookups = most_lookups(unit.ticker for unit in work.todo) if settings.upload and settings.reference else 0
            expected = (
                None if interrupted else await expect(work.todo, await densities, lookups=lookups, offload=offload)
            )
            summary = Summary(
                tickers=tickers,
                outcomes=work.outcomes,
                counters=counters,
                start=settings.start,
                end=settings.end,
                adjusted=settings.adjusted,
                collected=recorder.run.collected,
                seconds=loop.time() - began,
                directory=settings.output_dir,
                interrupted=interrupted,
                error=error and redact(error),
                coverages={each.outcome.unit.ticker.symbol: each.found for each in covered},
                estimate=expected,
                since_last=settings.since_last,
                has_earlier=work.has_earlier,
            )
            try:
                await _write_down(summary, settings, covered, recorder=recorder, offload=offload, redact=redact)
            except DiskUnusable as full:
                summary = replace(summary, error=summary.error or str(full))
    return summary


async def _write_down(
    summary: Summary,
    settings: Settings,
    covered: Sequence[Covered],
    *,
    recorder: Recorder,
    offload: Threads,
    redact: Redactor,
) -> None:
    """What is left of a run that has ended: its lists, its report, and what the ledger learns from it."""
    await offload(write_lists, summary)
    await recorder.covered([(each.outcome.unit, each.found.as_json()) for each in covered])
    report = await offload(lambda: redacted(report_of(summary, settings.as_json(), covered), redact))
    await recorder.reported(report)
    await offload(write_report, report, settings.output_dir)


async def _to_its_end(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> tuple[bool, str | None]:
    """Do all of the work; whether it was interrupted, and what stopped it otherwise."""
    try:
        await _unless(stop, work)
    except Interrupted:
        return True, None
    except RunError as error:
        return False, str(error)
    return False, None


def _open_records(
    settings: Settings, tickers: Sequence[Ticker], bucket: Bucket | None
) -> AbstractAsyncContextManager[Recorder]:
    order = RunRequest(
        source=settings.source,
        universe=hashlib.sha256("\n".join(sorted(ticker.symbol for ticker in tickers)).encode()).hexdigest(),
        first_day=settings.start,
        last_day=settings.end,
        adjusted=settings.adjusted,
        days_given=settings.days_given,
        settings=settings.as_json(),
    )
    return open_recorder(
        settings.output_dir,
        order,
        destination=None if bucket is None else bucket.destination,
        now=datetime.now(UTC).replace(microsecond=0),
        force=settings.force,
    )


def _tell(settings: Settings, run: Run, tickers: int) -> None:
    facts = {
        "run": f"{run.collected:%Y-%m-%dT%H:%MZ}",
        "resumed": run.resumed,
        "tickers": tickers,
        "from": "last" if settings.since_last else f"{run.first_day}",
        "to": f"{run.last_day}",
    }
    words = "going on with the run of" if run.resumed else "the run of"
    days = f"{run.first_day} to {run.last_day}" if not settings.since_last else f"to {run.last_day}"
    extra = {"event": "run_started", "facts": facts}
    log.info("%s %s, %s", words, f"{run.collected:%Y-%m-%d %H:%M} UTC", days, extra=extra)
    if settings.since_last and settings.adjusted:
        log.info("what was fetched before a split keeps the prices of before; with --no-adjusted, prices never change")
    if settings.end >= today():
        log.warning("the range ends on %s, which is not over yet: its last bars are not final", settings.end)


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
        ended_by = first_of(group)
    if ended_by is not None:
        raise ended_by


async def _beside(watch: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, while `watch` looks that it can go on."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch)
        await work
        watching.cancel()


async def _raise_when(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Interrupted("interrupted before anything was fetched")
