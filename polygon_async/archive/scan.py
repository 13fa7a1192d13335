"""What to read in; many tickers' bars, one ticker after another, out."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from polygon_async.archive.pieces import in_directory, in_ledger, listed
from polygon_async.archive.reader import Reader
from polygon_async.errors import RunError, TickerError, first_of
from polygon_async.ledger.inventory import recorded_histories, recorded_units
from polygon_async.model.layout import LEDGER
from polygon_async.store.bucket import open_bucket
from polygon_async.store.lzop import check_lzop, find_lzop
from polygon_async.system.machine import provide_files
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from polygon_async.archive.pieces import Piece
    from polygon_async.archive.reader import Count, TickerBars
    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.ledger.inventory import RecordedUnit
    from polygon_async.model.tickers import Ticker

__all__ = ["Failure", "Source", "Wanted", "open_archive"]

_Made = TypeVar("_Made")

_AHEAD = 3
"""Tickers that are read while one is used: as many are in memory."""


class Source(enum.StrEnum):
    """Where bars are read from."""

    AUTO = "auto"
    """The objects that the ledger knows; for a ticker that was never uploaded, its local file. Without a ledger, the
    bucket."""
    BUCKET = "bucket"
    """The objects that the bucket lists, whatever a ledger says."""
    LOCAL = "local"
    """Local files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be read."""

    tickers: Sequence[Ticker]
    first: date | None
    """None: from where each ticker's bars begin."""
    last: date | None
    source: Source
    stored: bool | None
    """Only what was stored adjusted, or unadjusted; None: whatever there is."""
    bucket: str
    key_prefix: str
    """What all keys in the bucket are below; empty for its root."""
    directory: Path
    """Where the ledger and the local files are."""
    concurrency: int
    patience: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A ticker that cannot be read, and why."""

    ticker: Ticker
    error: TickerError


@contextlib.asynccontextmanager
async def open_archive(
    wanted: Wanted, *, count: Count, on_secret: Callable[[str | None], object]
) -> AsyncIterator[Archive]:
    """What is to be read, ready to be read.

    Raises:
        RunError: the ledger, the bucket, lzop or the disk cannot be used.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            offload = await stack.enter_async_context(Threads())
            units, histories = await offload(_known, wanted)
            bucket, lzop = None, None
            if _needs_bucket(wanted, units):
                provide_files(wanted.concurrency, each=5)
                lzop = find_lzop()
                await check_lzop(lzop, offload=offload)
                opened = open_bucket(
                    wanted.bucket,
                    prefix=wanted.key_prefix,
                    connections=wanted.concurrency,
                    on_secret=on_secret,
                )
                bucket = await stack.enter_async_context(opened)
                await bucket.check()
            reader = Reader(
                bucket=bucket,
                lzop=lzop,
                offload=offload,
                slots=asyncio.Semaphore(wanted.concurrency),
                patience=wanted.patience,
                count=count,
            )
            yield Archive(wanted, reader, units, histories)
    except* RunError as group:
        raise first_of(group) from None


def _known(wanted: Wanted) -> tuple[Sequence[RecordedUnit] | None, Mapping[str, Sequence[LocalHistory]]]:
    """What the ledger knows, if there is one. Blocking."""
    if not (wanted.directory / LEDGER).is_file():
        return None, {}
    histories = recorded_histories(wanted.directory, [ticker.symbol for ticker in wanted.tickers])
    return recorded_units(wanted.directory), histories


def _needs_bucket(wanted: Wanted, units: Sequence[RecordedUnit] | None) -> bool:
    if wanted.source is not Source.AUTO or units is None:
        return wanted.source is not Source.LOCAL
    symbols = {ticker.symbol for ticker in wanted.tickers}
    return any(upload.key is not None for unit in units if unit.symbol in symbols for upload in unit.uploads)


class Archive:
    """The bars of some tickers, wherever they are."""

    def __init__(
        self,
        wanted: Wanted,
        reader: Reader,
        units: Sequence[RecordedUnit] | None,
        histories: Mapping[str, Sequence[LocalHistory]],
    ) -> None:
        self._wanted = wanted
        self._reader = reader
        self._histories = histories
        self._in_ledger: Mapping[str, list[Piece]] = {}
        self._lists = wanted.source is Source.BUCKET or (wanted.source is Source.AUTO and units is None)
        if units is not None and reader.bucket is not None and not self._lists:
            self._in_ledger = in_ledger(units, wanted.tickers, destination=reader.bucket.destination)

    async def each(self, make: Callable[[TickerBars], _Made | Failure]) -> AsyncGenerator[_Made | Failure]:
        """What `make` makes of one ticker after another, in their order; a few are read ahead.

        Args:
            make: Runs in a thread, for several tickers side by side.

        Raises:
            RunError: nothing can be read any more.
        """
        tickers = iter(self._wanted.tickers)
        ahead: deque[asyncio.Task[_Made | Failure]] = deque()
        try:
            while True:
                while len(ahead) <= _AHEAD and (ticker := next(tickers, None)) is not None:
                    ahead.append(asyncio.create_task(self._one(ticker, make)))
                if not ahead:
                    return
                yield await ahead[0]
                del ahead[0]
        finally:
            for task in ahead:
                task.cancel()
            if ahead:
                await asyncio.wait(ahead)

    async def _one(self, ticker: Ticker, make: Callable[[TickerBars], _Made | Failure]) -> _Made | Failure:
        wanted = self._wanted
        try:
            try:
                pieces = await self._pieces(ticker)
                if wanted.stored is not None:
                    pieces = [piece for piece in pieces if piece.adjusted in (None, wanted.stored)]
                bars = await self._reader.bars(ticker, pieces, first=wanted.first, last=wanted.last)
                return await self._reader.offload(make, bars)
            except BaseExceptionGroup as group:
                raise first_of(group) from None
        except TickerError as error:
            return Failure(ticker, error)

    async def _pieces(self, ticker: Ticker) -> Sequence[Piece]:
        reader, wanted = self._reader, self._wanted
        if self._lists:
            assert reader.bucket is not None  # noqa: S101 (for the type checker)
            return await listed(ticker, reader.bucket, first=wanted.first, slots=reader.slots)
        if known := self._in_ledger.get(ticker.symbol):
            return known
        histories = self._histories.get(ticker.symbol, ())
        return await reader.offload(in_directory, ticker, wanted.directory, histories)
