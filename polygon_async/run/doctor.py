"""Settings in, one check after another out: what a download needs, tried before the first one.

Nothing is changed, but for one small object in the bucket, which is removed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from polygon_async.errors import KeyRefused, PolygonAsyncError, Refused, RunError, TickerError
from polygon_async.model.counters import Counters
from polygon_async.model.days import dates_of
from polygon_async.model.rate import Rate, spell_rate
from polygon_async.model.sessions import sessions
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit, today
from polygon_async.polygon.pace.memory import RateMemory, cache_file
from polygon_async.polygon.session import open_polygon
from polygon_async.polygon.walk import RestSource
from polygon_async.report.words import counted, duration, size
from polygon_async.run.directory import space_needed
from polygon_async.store.bucket import open_bucket
from polygon_async.store.lzop import check_lzop, find_lzop
from polygon_async.store.rights import rights
from polygon_async.system.locks import is_locked
from polygon_async.system.proxies import proxy_for
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from polygon_async.polygon.client import Client
    from polygon_async.settings.settings import Settings

__all__ = ["Check", "State", "examine"]

_TICKER = Ticker("AAPL", AssetType.STOCKS, "NASDAQ", "USD")
"""It has traded for as long as the API has minute bars."""
_YEARS = (2, 5, 10, 15, 20)
"""How far back plans reach."""
_MARGIN = timedelta(days=14)
_FREE = 5
"""Requests a minute of the free plan."""
_AT_ONCE = Rate("3/s", 3.0)
"""Fast enough for the free plan to refuse, and slow for any other."""
_PATIENCE = 10.0
_SECONDS_FOR_RIGHTS = 60
_FAR_OFF = 300.0
"""Seconds: S3 refuses signatures that are 15 minutes off."""
_OFF = 30.0


class State(enum.StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One line."""

    name: str
    state: State
    text: str


async def examine(
    settings: Settings, *, key_trouble: str | None, on_secret: Callable[[str | None], object]
) -> AsyncGenerator[Check]:
    """Check the disk, lzop, the API, the key and its plan, the bucket, and the clock.

    Args:
        settings: What a download would use; without upload, neither lzop nor a bucket is needed.
        key_trouble: Why there is no key that could be tried, if there is none.
        on_secret: Told the secrets of a profile or role, so that no line shows them.
    """
    clocks: list[tuple[str, float]] = []
    async with Threads(2) as offload:
        yield await offload(_disk, settings.output_dir, settings.concurrency)
        if settings.upload:
            yield await _lzop(offload)
        async for check in _api(settings, key_trouble, clocks, offload):
            yield check
        if settings.upload:
            yield await _bucket(settings, clocks, on_secret)
        yield _clock(clocks)


def _disk(directory: Path, concurrency: int) -> Check:
    """Whether the output directory can be written and has room; it is not created. Blocking."""
    there = next(each for each in (directory, *directory.absolute().parents) if each.exists())
    if not there.is_dir():
        return Check("disk", State.FAILED, f"{there} is a file; --output-dir must name a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("disk", State.FAILED, f"{there} cannot be written; choose another --output-dir")
    free, least = shutil.disk_usage(there).free, space_needed(concurrency)
    if free < least:
        return Check("disk", State.FAILED, f"{directory}: {size(free)} free, {size(least)} needed; free some space")
    locked = is_locked(there)
    if locked is None:
        text = f"{directory}: its file system does not support locks; use an --output-dir on a local disk"
        return Check("disk", State.FAILED, text)
    in_use = "; a run is using it now" if locked and there == directory else ""
    return Check("disk", State.OK, f"{directory} can be written, {size(free)} free{in_use}")


async def _lzop(offload: Threads) -> Check:
    try:
        lzop = await offload(find_lzop)
        await check_lzop(lzop, offload=offload)
    except RunError as error:
        return Check("lzop", State.FAILED, str(error))
    return Check("lzop", State.OK, f"{lzop} compresses and decompresses")


async def _api(
    settings: Settings, key_trouble: str | None, clocks: list[tuple[str, float]], offload: Threads
) -> AsyncIterator[Check]:
    """The network, the key, and what its plan includes."""
    if key_trouble is not None:
        yield Check("key", State.FAILED, key_trouble)
        return
    counters, stage = Counters(), "network"
    access = replace(settings.access, patience=_PATIENCE, outage_patience=_PATIENCE)
    learned = None
    if access.rate.is_auto:
        memory = RateMemory(cache_file(), key=access.api_key, base_url=access.base_url)
        learned = await offload(memory.recall)
        # What this finds out is for this answer only: nothing is remembered.
        known = learned and Rate(spell_rate(learned.per_second), learned.per_second)
        access = replace(access, rate=known or _AT_ONCE)
    try:
        async with open_polygon(access, offload=offload, counters=counters) as client:
            patient = _Patient(client, counters)
            host, stage = access.host, "key"
            try:
                answered = await patient.has_bars(_session_before(today()))
            except KeyRefused as error:
                yield _network(host, access.base_url, counters)
                yield Check("key", State.FAILED, str(error))
                return
            yield _network(host, access.base_url, counters)
            yield Check("key", State.OK, f"{host} accepts it")
            stage = "plan"
            yield await _history(patient, recent=answered)
            yield await _rate(settings.access.rate, None if learned is None else learned.per_second, patient)
            if (ahead := client.ahead) is not None:
                clocks.append((host, ahead))
            spent = counted(counters.requests, "request")
            yield Check("requests", State.OK, f"{spent} sent for these checks")
    except PolygonAsyncError as error:
        if counters.answers:
            yield Check(stage, State.FAILED, str(error))
            return
        told = str(error)
        if isinstance(error, TickerError):
            told = f"{error.args[0]}; check the network, POLYGON_BASE_URL and HTTPS_PROXY"
        yield Check("network", State.FAILED, told)


class _Patient:
    """The API as one key sees it."""

    def __init__(self, client: Client, counters: Counters) -> None:
        self.client = client
        self.counters = counters

    @property
    def refusals(self) -> int:
        """Answers 429 so far."""
        return self.counters.answers[429]

    async def has_bars(self, day: date) -> bool | None:
        """Whether the API gives bars of this day; None: the plan does not include it.

        Raises:
            TickerError, RunError: it cannot be asked.
        """
        unit = Unit(ticker=_TICKER, start=day, end=day, adjusted=False)
        source = RestSource(client=self.client, counters=self.counters)
        try:
            async with contextlib.aclosing(source.pages(unit)) as pages:
                return bool([page.bars async for page in pages])
        except Refused as refused:
            if refused.is_plan:
                return None
            raise


def _session_before(day: date) -> date:
    """A session shortly before a day, which every plan has by then."""
    *_, last = dates_of(sessions(AssetType.STOCKS, day - _MARGIN, day - timedelta(days=2)).days)
    return last


def _network(host: str, base_url: str, counters: Counters) -> Check:
    proxy = proxy_for(base_url)
    via = "" if proxy is None else f" through the proxy in {proxy.variable}"
    took = counters.measures.seconds["network"] / max(counters.answers.total(), 1)
    return Check("network", State.OK, f"{host} answers{via} in {took * 1000:.0f} ms")


async def _history(patient: _Patient, *, recent: bool | None) -> Check:
    """How far back the plan reaches, by asking for single days: a range that straddles the edge is cut silently."""
    if recent is None:
        return Check("history", State.FAILED, "the plan includes no minute bars of stocks; upgrade it at polygon.io")
    reached = None
    # The shortest first: a free plan has no request to waste.
    for years in _YEARS:
        day = _session_before(today() - timedelta(days=round(years * 365.25)) + 2 * _MARGIN)
        if not await patient.has_bars(day):
            break
        reached = years, day
    if reached is None:
        return Check("history", State.WARNING, f"stocks: less than {_YEARS[0]} years")
    years, day = reached
    more = " or more" if years == _YEARS[-1] else ""
    return Check("history", State.OK, f"stocks: {years} years{more}, back to {day} at least")


async def _rate(asked: Rate, learned: float | None, patient: _Patient) -> Check:
    """What is known of the plan's limit of requests; where nothing is, whether it is the free plan's."""
    if not asked.is_auto:
        refused = f", and the API refused {counted(patient.refusals, 'request')}" if patient.refusals else ""
        return Check("rate", State.WARNING if refused else State.OK, f"{asked.text} as set{refused}")
    if learned is not None:
        return Check("rate", State.OK, f"{spell_rate(learned)}, as earlier runs have learned; --rate auto adapts it")
    day = _session_before(today())
    while not patient.refusals and patient.counters.requests <= _FREE + 1:
        asking = asyncio.ensure_future(patient.has_bars(day))
        # A refused request would wait for a minute; that it was refused is the answer.
        while not asking.done() and not patient.refusals:
            await asyncio.wait({asking}, timeout=0.05)
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
            break
        await asking
    if patient.refusals:
        return Check("rate", State.OK, f"{_FREE}/min, the free plan's, or near it; --rate auto keeps to it")
    return Check("rate", State.OK, "more than the free plan's 5/min; --rate auto finds the limit")


async def _bucket(
    settings: Settings, clocks: list[tuple[str, float]], on_secret: Callable[[str | None], object]
) -> Check:
    try:
        async with open_bucket(
            settings.bucket, prefix=settings.key_prefix, connections=1, on_secret=on_secret
        ) as bucket:
            await bucket.check()
            async with asyncio.timeout(_SECONDS_FOR_RIGHTS):
                found = await rights(bucket)
            where = bucket.destination
    except RunError as error:
        return Check("bucket", State.FAILED, str(error))
    except TimeoutError:
        text = f"{settings.bucket} did not answer within {_SECONDS_FOR_RIGHTS} s; check the network"
        return Check("bucket", State.FAILED, text)
    if found.ahead is not None:
        clocks.append(("the store", found.ahead))
    default = "" if settings.bucket_given else ", the default bucket (S3_BUCKET or --bucket names another)"
    told = f"{where}{default}: may {', '.join(found.allowed)}" if found.allowed else f"{where}{default}"
    left = f"; delete the object that was left: {found.left}" if found.left else ""
    # Neither listing nor deleting is what an upload does.
    needed = [each for each in found.denied if not each.startswith(("list", "delete"))]
    if needed:
        return Check("bucket", State.FAILED, f"{told}; but the policy must allow: {', '.join(needed)}{left}")
    if not found.keeps_tags:
        return Check("bucket", State.FAILED, f"{told}; but it keeps no object tags, which every object gets{left}")
    if found.denied:
        unneeded = f"; not: {', '.join(found.denied)}, which uploads do not need"
        return Check("bucket", State.WARNING, f"{told}{unneeded}{left}")
    return Check("bucket", State.OK, told)


def _clock(clocks: list[tuple[str, float]]) -> Check:
    """Whether this machine's clock is right, by the dates of the answers."""
    if not clocks:
        return Check("clock", State.WARNING, "not checked, as nothing answered")
    where, ahead = max(clocks, key=lambda each: abs(each[1]))
    off = abs(ahead)
    if off < _OFF:
        return Check("clock", State.OK, f"right, by {' and '.join(name for name, _ in clocks)}")
    way = "behind" if ahead > 0 else "ahead of"
    told = f"{duration(off)} {way} that of {where}"
    advice = "; set it, or S3 will refuse every request" if off >= _FAR_OFF else "; set it"
    return Check("clock", State.FAILED if off >= _FAR_OFF else State.WARNING, told + advice)
