"""A ticker's pieces in; its bars, each minute once, and what is to be said of them, out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.join import NotBars, joined, rows_of
from polygon_async.errors import CompressionFailed, TickerError
from polygon_async.model.days import days_between
from polygon_async.model.sessions import sessions, told_life
from polygon_async.model.tickers import AssetType
from polygon_async.model.units import Unit
from polygon_async.store.lzop import decompress
from polygon_async.system.limits import seconds_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date

    from polygon_async.archive.pieces import Piece
    from polygon_async.bars.join import Joined, Rows
    from polygon_async.model.tickers import Ticker
    from polygon_async.store.bucket import Bucket
    from polygon_async.system.threads import Threads

__all__ = ["Count", "Reader", "TickerBars"]

log = logging.getLogger(__name__)

_LARGEST_BATCH = 4 * 2**20
"""Bytes, as stored, of objects that share a run of lzop."""
_MOST_IN_BATCH = 128


@dataclass(slots=True)
class Count:
    """How far the reading has got; changed on the event loop only."""

    tickers: int = 0
    bars: int = 0
    objects: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TickerBars:
    """One ticker's bars, and what a reader of them should know."""

    ticker: Ticker
    rows: Rows = field(repr=False)
    adjusted: bool | None
    """Whether the API had adjusted the prices before they were stored; None where nobody knows."""
    pieces: int
    """Objects and files with bars of the range."""
    doubles: int
    """Minutes that several of them hold."""
    differing: int
    """Minutes of which they hold different bars; those collected last are here."""
    lacking: int
    """Sessions of the range that none of them covers, as a set of days (see `days`)."""
    outside_life: int
    """Bars before the ticker was listed or after it was delisted, by the universe: another company's, perhaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads one ticker after another, or several side by side."""

    bucket: Bucket | None
    """None: only local files are read."""
    lzop: str | None
    offload: Threads
    slots: asyncio.Semaphore
    """How many objects are downloaded side by side, for all tickers together."""
    patience: float
    """The least time that reading an object may take, s."""
    count: Count

    async def bars(
        self, ticker: Ticker, pieces: Sequence[Piece], *, first: date | None, last: date | None
    ) -> TickerBars:
        """The bars of a ticker from `first` to `last`; None is where the pieces begin or end.

        Raises:
            TickerError: a piece is damaged or gone, or the pieces' prices do not go together.
            StorageUnusable: nothing can be read.
        """
        first = min((piece.start for piece in pieces), default=None) if first is None else first
        last = max((piece.end for piece in pieces), default=None) if last is None else last
        due = [] if first is None or last is None else [piece for piece in pieces if piece.overlaps(first, last)]
        due.sort(key=lambda piece: (piece.collected, str(piece.where)))
        # Only stocks are split: elsewhere, adjusted prices are the same.
        adjusted = _basis(due) if ticker.market is AssetType.STOCKS else None
        read = [await self._rows(ticker, batch) for batch in _batches(due)]
        found = await self.offload(_joined, ticker, [rows for batch in read for rows in batch], first, last)
        self.count.tickers += 1
        self.count.bars += len(found.rows)
        return TickerBars(
            ticker=ticker,
            rows=found.rows,
            adjusted=adjusted,
            pieces=len(due),
            doubles=found.doubles,
            differing=found.differing,
            lacking=_lacking(ticker, due, first, last),
            outside_life=_outside_life(ticker, found.rows),
        )

    async def _rows(self, ticker: Ticker, batch: Sequence[Piece]) -> list[Rows]:
        """The rows of each of some pieces."""
        if isinstance(batch[0].where, Path):
            csvs = [await self.offload(_content, batch[0].where)]
        else:
            contents = await self._contents(batch)
            csvs = await self._unpacked(batch, contents)
        return await self.offload(_checked, ticker, batch, csvs)

    async def _contents(self, batch: Sequence[Piece]) -> list[bytes]:
        """The objects, as they are stored."""
        try:
            async with asyncio.TaskGroup() as tasks:
                reads = [tasks.create_task(self._content(piece)) for piece in batch]
        except* TickerError as group:
            failed = group
        else:
            return [read.result() for read in reads]
        raise failed.exceptions[0]

    async def _content(self, piece: Piece) -> bytes:
        bucket, key = self.bucket, str(piece.where)
        assert bucket is not None  # noqa: S101 (for the type checker; there are objects only where there is a bucket)
        seconds = seconds_for(piece.size, at_least=self.patience)
        content = bytearray()
        try:
            async with self.slots, asyncio.timeout(seconds):
                async for chunk in bucket.read(key):
                    content += chunk
        except TimeoutError as error:
            raise TickerError(f"{bucket.where(key)} could not be read within {seconds:.0f} s") from error
        self.count.objects += 1
        self.count.bytes_read += len(content)
        return bytes(content)

    async def _unpacked(self, batch: Sequence[Piece], contents: Sequence[bytes]) -> list[bytes]:
        """The CSVs inside some objects; one run of lzop takes them all, as long as nothing is wrong with any."""
        try:
            text = await self._lzop(contents)
        except CompressionFailed:
            text = b""
        csvs = [CSV_HEADER + rows for rows in text.split(CSV_HEADER)[1:]]
        if text.startswith(CSV_HEADER) and len(csvs) == len(batch):
            return csvs
        csvs = []
        for piece, content in zip(batch, contents, strict=True):
            try:
                csvs.append(await self._lzop([content]))
            except CompressionFailed as error:
                said = f"{self._where(piece)} is damaged: lzop cannot decompress it ({error}){_MEND}"
                raise TickerError(said) from error
        return csvs

    async def _lzop(self, contents: Sequence[bytes]) -> bytes:
        assert self.lzop is not None  # noqa: S101 (for the type checker; whoever has a bucket has lzop)
        text = bytearray()

        async def chunks() -> AsyncIterator[bytes]:
            for content in contents:
                yield content

        async def take(block: bytes) -> None:
            text.extend(block)

        seconds = seconds_for(sum(map(len, contents)), at_least=self.patience)
        try:
            async with asyncio.timeout(seconds):
                await decompress(self.lzop, chunks(), take)
        except TimeoutError as error:
            raise CompressionFailed(f"lzop took longer than {seconds:.0f} s") from error
        return bytes(text)

    def _where(self, piece: Piece) -> str:
        return _address(piece, self.bucket)


_MEND = "; polygon-async verify --repair mends it"


def _address(piece: Piece, bucket: Bucket | None) -> str:
    return str(piece.where) if bucket is None or isinstance(piece.where, Path) else bucket.where(piece.where)


def _basis(pieces: Sequence[Piece]) -> bool | None:
    """Whether the prices of all pieces were adjusted by the API.

    Raises:
        TickerError: those of some were, and those of others were not.
    """
    known = {piece.adjusted: piece for piece in pieces if piece.adjusted is not None}
    if len(known) > 1:
        raise TickerError(
            f"its adjusted prices ({known[True].where}) and its unadjusted ones ({known[False].where}) cannot be"
            " mixed; choose with --stored adjusted or --stored unadjusted"
        )
    return next(iter(known), None)


def _batches(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that are read together: local files one by one, small objects many at once."""
    batches: list[list[Piece]] = []
    size = 0
    for piece in pieces:
        alone = isinstance(piece.where, Path) or not batches or isinstance(batches[-1][0].where, Path)
        size += piece.size
        if alone or size > _LARGEST_BATCH or len(batches[-1]) == _MOST_IN_BATCH:
            batches.append([])
            size = piece.size
        batches[-1].append(piece)
    return batches


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TickerError(f"{path} cannot be read ({error.strerror})") from error


def _checked(ticker: Ticker, batch: Sequence[Piece], csvs: Sequence[bytes]) -> list[Rows]:
    """The rows of CSVs that are what was stored."""
    return [_checked_one(ticker, piece, csv) for piece, csv in zip(batch, csvs, strict=True)]


def _checked_one(ticker: Ticker, piece: Piece, csv: bytes) -> Rows:
    mend = "" if isinstance(piece.where, Path) else _MEND
    if piece.sha256 is not None and hashlib.sha256(csv).hexdigest() != piece.sha256:
        raise TickerError(f"{piece.where} does not hold what was stored there (its sha256 differs){mend}")
    try:
        rows = rows_of(csv)
    except NotBars as error:
        raise TickerError(f"{piece.where} is damaged: {error}{mend}") from error
    if len(rows) and not isinstance(piece.where, Path):
        first, last = Unit(ticker=ticker, start=piece.start, end=piece.end, adjusted=False).bounds()
        if rows.stamps[0] < first or rows.stamps[-1] > last:
            raise TickerError(f"{piece.where} holds bars outside {piece.start} to {piece.end}{mend}")
    return rows


def _joined(ticker: Ticker, several: Sequence[Rows], first: date | None, last: date | None) -> Joined:
    if first is not None and last is not None and several:
        begin, end = Unit(ticker=ticker, start=first, end=last, adjusted=False).bounds()
        several = [rows.between(begin, end) for rows in several]
    return joined(several)


def _lacking(ticker: Ticker, pieces: Sequence[Piece], first: date | None, last: date | None) -> int:
    """The sessions that no piece covers."""
    if first is None or last is None:
        return 0
    listed, delisted = told_life(ticker)
    first, last = max(first, listed or first), min(last, delisted or last)
    if first > last:
        return 0
    try:
        wanted = sessions(ticker.market, first, last).days
    except ValueError:  # the calendar does not reach there
        return 0
    for piece in pieces:
        wanted &= ~days_between(max(first, piece.start), min(last, piece.end))
    return wanted


def _outside_life(ticker: Ticker, rows: Rows) -> int:
    listed, last = told_life(ticker)
    count = 0
    bounds = partial(Unit, ticker=ticker, adjusted=False)
    if listed is not None:
        count += int((rows.stamps < bounds(start=listed, end=listed).bounds()[0]).sum())
    if last is not None:
        count += int((rows.stamps > bounds(start=last, end=last).bounds()[1]).sum())
    return count
