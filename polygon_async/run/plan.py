"""Estimates what a download will take, before anything is spent."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async.archive.splits import LedgerKeeper
from polygon_async.bars.page import Border
from polygon_async.errors import TickerError
from polygon_async.ledger.ledger import open_ledger
from polygon_async.model.counters import Counters
from polygon_async.model.layout import LEDGER
from polygon_async.model.rate import spell_rate
from polygon_async.model.sessions import days_back, sessions
from polygon_async.model.units import today
from polygon_async.polygon.bar_pages import read_page
from polygon_async.polygon.bar_requests import first_request
from polygon_async.polygon.pace.memory import RateMemory, cache_file
from polygon_async.polygon.session import open_polygon
from polygon_async.report.estimate import Density, Span, estimate
from polygon_async.report.words import counted, duration, size
from polygon_async.run.local import LocalHistories
from polygon_async.run.nights import there_by, units_of
from polygon_async.run.splits import SplitSince, fetches_with, splits_since
from polygon_async.run.tags import most_lookups
from polygon_async.run.todo import by_start, counts, ended_before
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from polygon_async.ledger.entries import Held, LocalHistory, UnitRecord
    from polygon_async.ledger.held import Fetch
    from polygon_async.ledger.ledger import Ledger
    from polygon_async.model.tickers import AssetType, Ticker
    from polygon_async.model.units import Unit
    from polygon_async.report.estimate import Estimate
    from polygon_async.settings.settings import Settings

__all__ = ["make_plan"]

log = logging.getLogger(__name__)

_SAMPLE = 3
_MOST_NAMED = 5
_FREE_PER_SECOND = 5 / 60
_ADVISED_PER_SECOND = 100.0
_FREE_YEARS = timedelta(days=2 * 365 + 1)
_LONG = 2 * 86_400.0
"""A run that takes longer, in seconds, is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a download will take."""

    settings: Settings
    tickers: int
    done: int
    """Tickers that cost nothing, as earlier runs have done them."""
    estimate: Estimate
    rates: Sequence[float]
    """Requests a second: the given or learned rate, or those of the free plan and of a fast one."""
    is_known: bool
    """Whether the rate is known."""
    sampled: int
    """Requests that making this plan has cost."""
    free: int
    """Free bytes on the disk."""
    anew: Sequence[str] = ()
    """Tickers that are fetched anew over all that is held of them, as they were split since."""
    unknown: Sequence[str] = ()
    """Tickers of which it is not known whether they were split."""

    @property
    def needed(self) -> float:
        """Bytes that the disk may need at once."""
        # No more tickers than there are.
        under_way = min(self.settings.concurrency, self.estimate.units) * self.estimate.largest
        if not self.settings.upload:
            return self.estimate.csv_bytes.high
        return (self.estimate.csv_bytes.high if self.settings.keep_csv else under_way) + under_way

    @property
    def warnings(self) -> list[str]:
        """Likely mistakes, one line each."""
        told, settings = [], self.settings
        if self.unknown:
            some = ", ".join(self.unknown[:_MOST_NAMED]) + (" ..." if len(self.unknown) > _MOST_NAMED else "")
            told.append(f"the splits of {counted(len(self.unknown), 'ticker')} are not known ({some}): these may fail")
        if self.estimate.units and not any(self.estimate.sessions.values()):
            told.append("the range has no session: a weekend, holidays, or days that are not over yet")
        if settings.end >= today():
            told.append(f"the range ends on {settings.end}, which is not over yet: its last bars are not final")
        if self.rates and min(self.rates) <= _FREE_PER_SECOND * 1.01 and settings.start < today() - _FREE_YEARS:
            told.append(f"the free plan reaches back two years; it refuses days before {today() - _FREE_YEARS}")
        slowest = self._seconds(min(self.rates)).high if self.rates else 0
        if slowest > _LONG:
            whose = "" if self.is_known else ", the free plan's rate,"
            told.append(f"at {spell_rate(min(self.rates))}{whose} this may take {_long(slowest)}")
        if self.needed > self.free:
            told.append(
                f"the disk may be too small: {size(self.needed)} at once, {size(self.free)} free"
                + ("; --no-keep-csv needs less" if settings.upload and settings.keep_csv else "")
            )
        return told

    def as_json(self) -> dict[str, Any]:
        """The plan as one JSON object; ranges as [low, high], times in s, sizes in bytes, rates a second."""
        times = [{"rate": rate, "seconds": self._seconds(rate).as_json()} for rate in self.rates]
        return {
            "tickers": {"total": self.tickers, "done": self.done, "todo": self.estimate.units},
            "from": "last" if self.settings.since_last else self.settings.start.isoformat(),
            "to": self.settings.end.isoformat(),
            **self.estimate.as_json(),
            "fetched_anew": list(self.anew),
            "sampled": self.sampled,
            "times": times,
            "disk": {"needed": round(self.needed), "free": self.free},
            "warnings": self.warnings,
        }

    def as_text(self) -> str:
        """The plan for a person."""
        found, settings = self.estimate, self.settings
        start = "each from its last day" if settings.since_last else settings.start
        sessions = ", ".join(f"{counted(count, 'session')} of {market}" for market, count in found.sessions.items())
        lines = [f"{counted(self.tickers, 'ticker')}, {start} to {settings.end}{f' ({sessions})' if sessions else ''}"]
        if self.done:
            lines.append(f"  done      {counted(self.done, 'ticker')} in earlier runs, at no cost")
        if self.anew:
            some = ", ".join(self.anew[:_MOST_NAMED]) + (" ..." if len(self.anew) > _MOST_NAMED else "")
            lines.append(f"  split     {counted(len(self.anew), 'ticker')}, to be refetched in full: {some}")
        lines.append(f"  requests  {_count(found.requests)}{self._basis()}")
        lines += [self._time(rate) for rate in self.rates] or ["  time      as fast as the API answers"]
        lines.append(f"  bars      {_count(found.bars)}")
        lines.append(
            f"  disk      {_size(found.csv_bytes)} of CSV; at most {size(self.needed)} at once, {size(self.free)} free"
        )
        if settings.upload:
            lines.append(f"  S3        {_size(found.stored_bytes)}")
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)])

    def _basis(self) -> str:
        words = {
            "ledger": "known from the ledger",
            "sample": "measured",
            "others": "assumed from others in their market",
            "assumption": "unknown",
        }
        told = [f"{count:,} {words[basis]}" for basis, count in self.estimate.bases.items()]
        cost = f"; {counted(self.sampled, 'request')} spent on measuring" if self.sampled else ""
        return f" (bars per session: {', '.join(told)}{cost})" if told else ""

    def _time(self, rate: float) -> str:
        which = "" if self.is_known else ", the free plan's" if rate <= _FREE_PER_SECOND else ", the vendor's maximum"
        span = self._seconds(rate)
        return f"  time      {_long(span.low)} to {_long(span.high)} at {spell_rate(rate)}{which}"

    def _seconds(self, rate: float) -> Span:
        return Span(self.estimate.requests.low / rate, self.estimate.requests.high / rate)


async def make_plan(settings: Settings, tickers: Sequence[Ticker], *, offline: bool) -> Plan:
    """Plan the download of these tickers; it sends at most a few requests to measure, and contacts no store.

    Raises:
        DiskUnusable: the ledger cannot be read.
        RunError: the API refuses the key, or cannot be reached.
        ValueError: an exchange's calendar does not reach there.
    """
    async with Threads(2) as offload:
        split = SplitSince()
        if settings.since_last and settings.adjusted and not offline:
            split = await _split(settings, tickers, offload)
        units, done, known = await offload(_known, settings, tickers, split)
        sampled = 0
        if not offline:
            unknown = [unit for unit in units if unit.ticker.symbol not in known]
            # A range without a session has no bar to measure.
            unknown = await offload(_with_sessions, unknown)
            measured, sampled = await _measured(_spread(unknown, _SAMPLE), settings, offload)
            known |= measured
        rates = await offload(_rates, settings)
        lookups = most_lookups(unit.ticker for unit in units) if settings.upload and settings.reference else 0
        yesterday = today() - timedelta(days=1)
        found = await offload(estimate, units, known, lookups=lookups, until=yesterday)
        free = await offload(_free, settings.output_dir)
    return Plan(
        settings=settings,
        tickers=len(tickers),
        done=done,
        estimate=found,
        rates=rates or ((_FREE_PER_SECOND, _ADVISED_PER_SECOND) if settings.rate.is_auto else ()),
        is_known=bool(rates),
        sampled=sampled,
        free=free,
        anew=sorted(split.ranges),
        unknown=sorted(split.errors),
    )


async def _split(settings: Settings, tickers: Sequence[Ticker], offload: Threads) -> SplitSince:
    """Which tickers were split since they were fetched; the API is asked, once in a day."""
    fetches = await offload(_fetches, settings, tickers)
    if not fetches:
        return SplitSince()
    keeper = LedgerKeeper(settings.output_dir, source=settings.source, offload=offload)
    async with open_polygon(settings.access, offload=offload, counters=Counters()) as client:
        return await splits_since(tickers, fetches, client=client, keeper=keeper)


def _fetches(settings: Settings, tickers: Sequence[Ticker]) -> dict[str, list[Fetch]]:
    if not (settings.output_dir / LEDGER).is_file():
        return {}
    with open_ledger(settings.output_dir, read_only=True) as ledger:
        destination = ledger.destination_of(settings.bucket, settings.key_prefix) if settings.upload else None
        fetches = ledger.fetches(source=settings.source, destination=destination, adjusted=True)
        return fetches_with(fetches, _histories(ledger, settings, tickers), source=settings.source)


def _histories(ledger: Ledger, settings: Settings, tickers: Sequence[Ticker]) -> Mapping[str, LocalHistory]:
    """The local histories that a run from the last day on would extend, by symbol."""
    if not settings.since_last or (settings.upload and not settings.keep_csv):
        return {}
    return LocalHistories(settings.output_dir, ledger.histories()).by_symbol(tickers)


def _known(
    settings: Settings, tickers: Sequence[Ticker], split: SplitSince
) -> tuple[list[Unit], int, dict[str, Density]]:
    """What is to be fetched, how many tickers are done, and the densities that the ledger knows."""
    if not (settings.output_dir / LEDGER).is_file():
        units, _ = units_of(tickers, settings, {}, there_by({}, settings, upload=settings.upload), {}, {})
        return units, 0, {}
    with open_ledger(settings.output_dir, read_only=True) as ledger:
        source = settings.source
        destination = ledger.destination_of(settings.bucket, settings.key_prefix) if settings.upload else None
        held: dict[str, Held] = {}
        if settings.since_last:
            held = ledger.held(
                source=source,
                destination=destination,
                adjusted=settings.adjusted,
                back=days_back(settings.look_back),
            )
        there = there_by(ledger.histories(), settings, upload=settings.upload)
        histories = {} if settings.upload else _histories(ledger, settings, tickers)
        units, done = units_of(tickers, settings, held, there, split.ranges, histories)
        standings: dict[str, UnitRecord] = {}
        if not settings.force:
            for alike in by_start(units):
                standings |= ledger.standings(alike, source=source, destination=destination)
        left = [unit for unit in units if not _is_fetched(unit, standings.get(unit.ticker.symbol), settings)]
        densities = ledger.densities(source=source)
    known = {symbol: Density(bars=bars, basis="ledger") for symbol, bars in densities.items()}
    return left, len(done) + len(units) - len(left), known


def _is_fetched(unit: Unit, standing: UnitRecord | None, settings: Settings) -> bool:
    """Whether no request is needed: it is done, or its CSV is there to be uploaded."""
    if standing is None or ended_before(unit, standing, run=None, upload=settings.upload) is not None:
        return standing is not None
    csv = standing.csv
    return csv is not None and counts(unit, standing, run=None) and csv.path.is_file()


def _with_sessions(units: Sequence[Unit]) -> list[Unit]:
    """Those in whose range there is a session that is over."""
    yesterday = today() - timedelta(days=1)
    known: dict[tuple[AssetType, date, date], bool] = {}
    found = []
    for unit in units:
        asked = unit.ticker.market, unit.start, min(unit.end, yesterday)
        if asked not in known:
            known[asked] = asked[1] <= asked[2] and bool(sessions(*asked).days)
        if known[asked]:
            found.append(unit)
    return found


def _spread(units: Sequence[Unit], most: int) -> list[Unit]:
    """At most `most` of them, from all over the list."""
    if len(units) <= most:
        return list(units)
    return [units[number * (len(units) - 1) // (most - 1)] for number in range(most)]


async def _measured(units: Sequence[Unit], settings: Settings, offload: Threads) -> tuple[dict[str, Density], int]:
    """The densities of a few tickers, from the first page of each, and the requests that this took."""
    counters = Counters()
    if not units:
        return {}, 0

    async def measure(unit: Unit) -> Density | None:
        try:
            page = await client.get(first_request(unit), read=partial(read_page, unit=unit, border=Border()))
        except TickerError as error:
            log.warning("%s cannot be measured: %s", unit.ticker.symbol, error)
            return None
        return Density(bars=page.bars / page.days.bit_count(), basis="sample") if page.bars else None

    async with open_polygon(settings.access, offload=offload, counters=counters) as client:
        found = [await measure(unit) for unit in units]
    known = {unit.ticker.symbol: density for unit, density in zip(units, found, strict=True) if density is not None}
    return known, counters.requests


def _rates(settings: Settings) -> tuple[float, ...]:
    if not settings.rate.is_auto:
        return () if settings.rate.per_second is None else (settings.rate.per_second,)
    recalled = RateMemory(cache_file(), key=settings.api_key, base_url=settings.base_url).recall()
    return () if recalled is None else (recalled.per_second,)


def _free(directory: Path) -> int:
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _count(span: Span) -> str:
    low, high = span.as_json()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _size(span: Span) -> str:
    low, high = size(span.low), size(span.high)
    return low if low == high else f"{low} to {high}"


def _long(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:,.1f} days" if days >= 2 else duration(seconds)
