"""Tickers and days in; their splits, as a ledger knows them or the API lists them, out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from polygon_async.errors import DiskUnusable, RunError, TickerError, first_of
from polygon_async.ledger.database import connected, said_of
from polygon_async.ledger.splits import ALL, SECONDS_KEPT, KnownSplits, keep_splits, known_splits
from polygon_async.model.layout import LEDGER
from polygon_async.model.splits import Split, once_each
from polygon_async.model.tickers import AssetType
from polygon_async.polygon.splits import SplitQuery, splits_of
from polygon_async.report.words import counted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from polygon_async.model.tickers import Ticker
    from polygon_async.polygon.client import Client
    from polygon_async.system.threads import Threads

__all__ = ["Keeper", "LedgerKeeper", "TickerSplits", "all_splits"]

log = logging.getLogger(__name__)

_WALK_FROM = 5
"""With more tickers than this, walking the whole list takes fewer requests than asking for each."""
_LOOKED_BACK = timedelta(days=14)
"""What was listed late is found when the list is asked for only from where it was known to."""
_WALK_WITHIN = timedelta(days=60)
"""A list of so few days is one page: the market has some ten splits a day."""


class Keeper(Protocol):
    """Where splits are kept between runs."""

    async def known(self, tickers: Sequence[str], *, since: date, until: date) -> KnownSplits:
        """What was asked within a day."""

    async def keep(self, found: Sequence[Split], *, asked: str, since: date, until: date) -> None:
        """Keep a complete answer."""


class LedgerKeeper:
    """Keeps them in the ledger of an output directory; where it cannot be written, only for as long as this exists."""

    def __init__(self, directory: Path, *, source: str, offload: Threads) -> None:
        self._directory = directory
        self._source = source
        self._offload = offload
        self._found: dict[str, Sequence[Split]] = {}

    async def known(self, tickers: Sequence[str], *, since: date, until: date) -> KnownSplits:
        """What was asked within a day."""
        try:
            return await self._offload(self._known, tickers, since, until)
        except DiskUnusable as error:
            log.debug("splits are not kept: %s", error)
        found = [split for several in self._found.values() for split in several if split.ticker in set(tickers)]
        splits: dict[str, list[Split]] = {}
        for split in found:
            splits.setdefault(split.ticker, []).append(split)
        known = frozenset(tickers if ALL in self._found else self._found.keys() & set(tickers))
        return KnownSplits(known, splits, dict.fromkeys(found, time.time()))

    async def keep(self, found: Sequence[Split], *, asked: str, since: date, until: date) -> None:
        """Keep a complete answer."""
        self._found[asked] = found
        with contextlib.suppress(DiskUnusable):
            await self._offload(self._keep, found, asked, since, until)

    def _known(self, tickers: Sequence[str], since: date, until: date) -> KnownSplits:
        with self._opened() as connection:
            return known_splits(
                connection,
                tickers,
                source=self._source,
                since=since,
                until=until,
                asked_since=time.time() - SECONDS_KEPT,
            )

    def _keep(self, found: Sequence[Split], asked: str, since: date, until: date) -> None:
        with self._opened() as connection:
            keep_splits(connection, found, asked=asked, source=self._source, since=since, until=until)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        path = self._directory / LEDGER
        if not path.is_file():
            # Reading leaves nothing behind where nothing was downloaded to.
            raise DiskUnusable(f"{path} does not exist")
        with connected(self._directory) as connection, said_of(path):
            yield connection


@dataclass(frozen=True, slots=True)
class TickerSplits:
    """The splits of some tickers."""

    splits: Mapping[str, Sequence[Split]]
    """By ticker, in the order of their days, each once."""
    learned: Mapping[Split, float]
    """When the list was first seen with a split, s UTC."""
    errors: Mapping[str, TickerError] = field(default_factory=dict)
    """Why a ticker's splits are not known."""


async def all_splits(
    tickers: Sequence[Ticker], *, since: date, until: date, client: Client, keeper: Keeper
) -> TickerSplits:
    """All splits of some tickers that were executed from `since` to `until`.

    Only stocks are split. A list that cannot be had fails the tickers that need it, and not the rest.

    Raises:
        RunError: as `Client.get`.
    """
    symbols = [ticker.symbol for ticker in tickers if ticker.market is AssetType.STOCKS]
    if not symbols:
        return TickerSplits({}, {})
    known = await keeper.known(symbols, since=since, until=until)
    missing = [symbol for symbol in symbols if symbol not in known.known]
    first = since if known.until is None else max(since, min(known.until, until) - _LOOKED_BACK)
    is_short = len(missing) > _WALK_FROM or until - first <= _WALK_WITHIN
    asked: Sequence[str] = [ALL] if missing and is_short else missing
    failed: dict[str, TickerError] = {}
    doubled: set[str] = set()

    async def ask(symbol: str) -> None:
        start = since if symbol else first
        query = SplitQuery(since=start, until=until, ticker=symbol or None)
        try:
            found = await splits_of(query, client=client)
        except TickerError as error:
            failed[symbol] = error
        else:
            doubled.update(split.ticker for split, count in Counter(found).items() if count > 1)
            await keeper.keep(found, asked=symbol, since=start, until=until)

    try:
        async with asyncio.TaskGroup() as tasks:
            for symbol in asked:
                tasks.create_task(ask(symbol))
    except* RunError as group:
        raise first_of(group) from None
    if asked:
        known = await keeper.known(symbols, since=since, until=until)
    errors = {
        symbol: _unknown(failed.get(symbol) or failed[ALL]) for symbol in missing if symbol in failed or ALL in failed
    }
    return _told(symbols, known, errors, doubled.intersection(symbols))


def _unknown(error: TickerError) -> TickerError:
    return TickerError(f"its splits are not known: {error}")


def _told(
    symbols: Sequence[str], known: KnownSplits, errors: dict[str, TickerError], doubled: set[str]
) -> TickerSplits:
    """With each split once; what the list has twice is said in one line."""
    splits: dict[str, Sequence[Split]] = {}
    for symbol in symbols:
        try:
            splits[symbol], doubles = once_each(known.splits.get(symbol, ()))
        except TickerError as error:
            errors[symbol] = error
        else:
            doubled |= {symbol} if doubles else set()
    if doubled:
        log.warning("the API lists splits of %s twice; each counts once", counted(len(doubled), "ticker"))
    return TickerSplits(splits, known.learned, errors)
