"""Settings and tickers in, a summary out: a run from its checks to its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import DiskUnusable, Interrupted, RunError
from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.recorder import open_recorder
from polygon_async.model.counters import Counters, Watcher
from polygon_async.model.states import RunState
from polygon_async.model.units import today
from polygon_async.polygon.session import open_client_at, open_polygon
from polygon_async.report.coverage import prepare
from polygon_async.report.summary import Summary
from polygon_async.run.closing import look_over, no_look, tell_other_lives, write_down
from polygon_async.run.directory import check_space, claim, space_needed, watch_space
from polygon_async.run.here import here
from polygon_async.run.outcomes import Outcomes
from polygon_async.run.steps import delivery_to, own_bucket
from polygon_async.run.stopping import unless
from polygon_async.run.tags import most_lookups
from polygon_async.run.todo import Todo, tidy, what_is_left
from polygon_async.run.work import Engine, Work
from polygon_async.store.lzop import check_lzop, find_lzop
from polygon_async.store.tagging import check_tagging
from polygon_async.system.machine import provide_files
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from polygon_async.ledger.entries import Run
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Outcome
    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings
    from polygon_async.store.delivery import Delivery
    from polygon_async.system.redaction import Redactor

__all__ = ["do", "download"]

log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Outcomes that are noted in one go."""


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
    if settings.upload and not settings.bucket_given:
        log.info("no bucket is named (--bucket, S3_BUCKET): objects go to the default one, %s", settings.bucket)
    async with contextlib.AsyncExitStack() as stack:
        run = await _opened(settings, tickers, redact=redact, stop=stop, stack=stack)
        # What would lose bars is refused like any other wrong range: before the run is announced.
        left = what_is_left(
            tickers,
            run.settings,
            recorder=run.recorder,
            client=run.client,
            upload=run.deliver is not None,
            joins=run.has_files,
            offload=run.offload,
        )
        todo = await unless(stop, left)
        _tell(run.settings, run.recorder.run, len(tickers))
        for watcher in watchers:
            await stack.enter_async_context(watcher.watch(run.counters, run.client.pace, len(tickers)))
        densities = asyncio.ensure_future(run.recorder.densities())
        calendar = asyncio.ensure_future(run.offload(prepare, tickers))
        stack.push_async_callback(asyncio.wait, [calendar, densities])
        done = await _done(run, todo, stop)
        await calendar
        summary = await _summed_up(run, done, densities, stop)
    return replace(summary, seconds=run.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """All that one run has open."""

    settings: Settings
    """With the run's days: those of the unfinished run that it resumes, if any."""
    tickers: Sequence[Ticker]
    redact: Redactor
    counters: Counters
    client: Client
    offload: Threads
    recorder: Recorder
    deliver: Delivery | None
    """None: the CSVs are all that is wanted."""
    engine: Engine
    """What does the units."""
    has_files: bool = True
    """Whether their CSVs are in this machine's output directory, and not in that of whoever fetched them."""

    @property
    def seconds(self) -> float:
        """How long it has gone on by now."""
        return asyncio.get_running_loop().time() - self.counters.measures.began


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """How a run's work ended."""

    todo: Todo
    outcomes: Sequence[Outcome]
    interrupted: bool
    error: str | None
    """What stopped it, if it was not interrupted."""


async def _opened(
    settings: Settings,
    tickers: Sequence[Ticker],
    *,
    redact: Redactor,
    stop: asyncio.Event,
    stack: contextlib.AsyncExitStack,
) -> _Run:
    """Check all that can be checked before the first request, and open what a run needs; `stack` closes it."""
    lzop = find_lzop() if settings.upload else None
    # A connection to the API, one to the store, and the compressed file between them.
    provide_files(settings.concurrency, each=3 if settings.upload else 1, processes=settings.processes)
    counters = Counters()
    counters.measures.began = asyncio.get_running_loop().time()
    stack.enter_context(claim(settings.output_dir, tickers))
    offload = await stack.enter_async_context(Threads())
    await offload(check_space, settings.output_dir, space_needed(settings.concurrency))
    client = None
    if settings.engine == "local":
        client = await stack.enter_async_context(open_polygon(settings.access, offload=offload, counters=counters))
    deliver = None
    if lzop is not None:
        await unless(stop, check_lzop(lzop, offload=offload))
        bucket = await stack.enter_async_context(own_bucket(settings, redact))
        await unless(stop, bucket.check())
        await unless(stop, check_tagging(bucket))
        deliver = delivery_to(bucket, settings, settings.output_dir, lzop=lzop, offload=offload, counters=counters)
    destination = None if deliver is None else deliver.uploader.bucket.destination
    recorder = await stack.enter_async_context(_open_recorder(settings, tickers, destination))
    engine: Engine = here
    has_files = True
    if client is None:
        from polygon_async.run.cluster.engine import open_cluster

        cluster = await stack.enter_async_context(open_cluster(settings, recorder.run, offload=offload))
        there = open_client_at(cluster.pacer, settings.access, offload=offload, counters=counters)
        engine, client = cluster, await stack.enter_async_context(there)
        has_files = cluster.has_files
    return _Run(
        settings=replace(settings, start=recorder.run.first_day, end=recorder.run.last_day),
        tickers=tickers,
        redact=redact,
        counters=counters,
        client=client,
        offload=offload,
        recorder=recorder,
        deliver=deliver,
        engine=engine,
        has_files=has_files,
    )


async def _done(run: _Run, todo: Todo, stop: asyncio.Event) -> _Done:
    """Do all of the run's work, or as much as can be done."""
    settings = run.settings
    outcomes = Outcomes(redact=run.redact, counters=run.counters)
    work = Work(
        todo=todo,
        settings=settings,
        outcomes=outcomes,
        client=run.client,
        recorder=run.recorder,
        deliver=run.deliver,
        offload=run.offload,
        counters=run.counters,
    )
    watch = watch_space(settings.output_dir, space_needed(settings.concurrency), offload=run.offload)
    interrupted, error = await _to_its_end(_beside(watch, do(work, run.engine)), stop)
    return _Done(todo=todo, outcomes=outcomes.all, interrupted=interrupted, error=error)


async def do(work: Work, engine: Engine = here) -> None:
    """Do what is left of a run; its outcomes get one for each unit, those that earlier runs have done first.

    Raises:
        RunError: the run cannot go on.
    """
    todo, outcomes = work.todo, work.outcomes
    await tidy(todo, work.settings.output_dir, keep_csv=work.settings.keep_csv, offload=work.offload)
    for number, outcome in enumerate((*todo.done, *todo.failed)):
        outcomes.end(outcome)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # an interrupt is heard in between
    await engine(work)


async def _summed_up(run: _Run, done: _Done, densities: Awaitable[Mapping[str, float]], stop: asyncio.Event) -> Summary:
    """The summary of a run whose work has ended; it is also written to lists, report and ledger."""
    settings, pending = run.settings, done.todo.pending
    findings = await no_look(offload=run.offload)
    tell_other_lives(done.outcomes, run.counters)
    interrupted, error = done.interrupted, done.error
    if not interrupted:
        tagged = [each.unit.ticker for each in pending] if settings.upload and settings.reference else []
        look = look_over(
            done.outcomes,
            [each.unit for each in pending if not each.is_fetched(run.recorder.run.id)],
            adjusted=settings.adjusted,
            look_back=settings.look_back,
            lookups=most_lookups(tagged),
            densities=densities,
            recorder=run.recorder,
            offload=run.offload,
        )
        try:
            findings = await unless(stop, look)
        except Interrupted:
            interrupted = True
            log.warning("interrupted while looking for gaps: none appear in the summary or report")
        except RunError as trouble:
            error = error or str(trouble)
    summary = Summary(
        tickers=run.tickers,
        outcomes=done.outcomes,
        counters=run.counters,
        start=settings.start,
        end=settings.end,
        adjusted=settings.adjusted,
        collected=run.recorder.run.collected,
        seconds=run.seconds,
        directory=settings.output_dir,
        interrupted=interrupted,
        error=error and run.redact(error),
        coverages={each.outcome.unit.ticker.symbol: each.found for each in findings.covered},
        estimate=findings.expected,
        since_last=settings.since_last,
        has_earlier=done.todo.has_earlier,
        anew=done.todo.anew,
        words=settings.words,
        command=settings.command,
        keeps_csv=run.has_files and (settings.keep_csv or not settings.upload),
    )
    try:
        await write_down(summary, settings, findings, recorder=run.recorder, offload=run.offload, redact=run.redact)
    except DiskUnusable as full:
        summary = replace(summary, error=summary.error or str(full))
    run.recorder.ended = _state(summary)
    return summary


def _state(summary: Summary) -> RunState:
    if summary.interrupted:
        return RunState.INTERRUPTED
    return RunState.DONE if summary.error is None else RunState.STOPPED


async def _to_its_end(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> tuple[bool, str | None]:
    """Do all of the work; returns whether it was interrupted, and what stopped it otherwise."""
    try:
        await unless(stop, work)
    except Interrupted:
        return True, None
    except RunError as error:
        return False, str(error)
    return False, None


def _open_recorder(
    settings: Settings, tickers: Sequence[Ticker], destination: str | None
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
        destination=destination,
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
    words = "resuming the run of" if run.resumed else "starting the run of"
    days = f"{run.first_day} to {run.last_day}" if not settings.since_last else f"to {run.last_day}"
    extra = {"event": "run_started", "facts": facts}
    log.info("%s %s, %s", words, f"{run.collected:%Y-%m-%d %H:%M} UTC", days, extra=extra)
    if settings.end >= today():
        log.warning("the range ends on %s, which is not over yet: its last bars are not final", settings.end)


async def _beside(watch: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, while `watch` checks that it can go on."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch)
        await work
        watching.cancel()
