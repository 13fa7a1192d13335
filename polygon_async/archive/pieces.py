"""A ledger, a bucket or a directory in; the objects and files that hold bars of some tickers, out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from polygon_async.bars.history import ends_of, look, recognised
from polygon_async.errors import TickerError
from polygon_async.model.days import moment_day
from polygon_async.model.layout import CSV_SHA256, csv_name, parse_key, safe_name
from polygon_async.model.states import UploadState
from polygon_async.store.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.ledger.inventory import RecordedUnit, Upload
    from polygon_async.model.tickers import Ticker
    from polygon_async.store.bucket import Bucket

__all__ = ["Piece", "in_directory", "in_ledger", "listed"]

_CLAIMED = frozenset({UploadState.UPLOADED, UploadState.LOST})
"""States of uploads whose object was read back once; one that was lost since is an error when it is read."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """An object, or a local file, with bars of one ticker."""

    symbol: str
    where: str | Path
    """The object's key, or the file."""
    start: date
    """The first day that was requested, inclusive."""
    end: date
    """The last one."""
    adjusted: bool | None
    """Whether the API had adjusted the prices; None where nobody knows."""
    collected: datetime
    """UTC; of two pieces with the same minute, the later one counts."""
    sha256: str | None
    """The digest of the whole CSV; None for what no ledger knows."""
    size: int
    """Bytes, as stored."""

    def overlaps(self, first: date, last: date) -> bool:
        """Whether it can hold bars of these days."""
        return self.start <= last and first <= self.end


def in_ledger(
    units: Iterable[RecordedUnit], tickers: Sequence[Ticker], *, destination: str
) -> Mapping[str, list[Piece]]:
    """The objects that a ledger knows in a bucket, by ticker; those of units with the same range once."""
    wanted = {ticker.symbol for ticker in tickers}
    found: dict[str, list[Piece]] = {}
    for unit in units:
        if unit.symbol not in wanted:
            continue
        for upload in unit.uploads:
            if upload.state in _CLAIMED and upload.key is not None and upload.destination == destination:
                piece = Piece(
                    symbol=unit.symbol,
                    where=upload.key,
                    start=unit.first_day,
                    end=unit.last_day,
                    adjusted=unit.adjusted,
                    collected=_collected(unit, upload),
                    sha256=upload.sha256,
                    size=upload.size or 0,
                )
                found.setdefault(unit.symbol, []).append(piece)
    return found


def _collected(unit: RecordedUnit, upload: Upload) -> datetime:
    """When an object's bars were fetched.

    The time in its key is that of its run's start: one that was interrupted, and resumed days later, has bars that
    are newer than that.
    """
    if unit.ended is not None and unit.sha256 == upload.sha256:
        return datetime.fromtimestamp(unit.ended, UTC)
    parts = parse_key(upload.key or "")
    return parts.collected if parts else upload.collected


async def listed(ticker: Ticker, bucket: Bucket, *, first: date | None, slots: asyncio.Semaphore) -> list[Piece]:
    """The ticker's objects in a bucket, by their keys and metadata.

    Args:
        ticker: Its asset type, which a universe may override, is part of its objects' keys.
        bucket: Where they are.
        first: Nothing that was collected before this day is looked at; None: everything is.
        slots: How many objects are looked at side by side.

    Raises:
        TickerError: an object does not say what it holds.
        StorageUnusable: the bucket cannot be listed or read.
    """
    prefix = bucket.key(f"{ticker.asset_type}/{safe_name(ticker.symbol)}/")
    keys = [(key, size) async for key, size in bucket.list(prefix) if _is_due(key, first)]

    async def look_at(key: str, size: int) -> Piece | None:
        async with slots:
            with store_errors(f"inspecting {bucket.where(key)}", has_stored=True):
                stored = await bucket.head(key)
        return None if stored is None else _as_it_says(ticker.symbol, bucket.where(key), key, size, stored.metadata)

    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(look_at(key, size)) for key, size in keys]
    return [piece for look_ in looks if (piece := look_.result()) is not None]


def _is_due(key: str, first: date | None) -> bool:
    parts = parse_key(key)
    # What was collected on one day may have bars of the next, where the clock is further on.
    return parts is not None and (first is None or parts.collected.date() + _DAY >= first)


def _as_it_says(symbol: str, address: str, key: str, size: int, said: Mapping[str, str]) -> Piece:
    parts = parse_key(key)
    assert parts is not None  # noqa: S101 (for the type checker; other keys were left out)
    try:
        return Piece(
            symbol=symbol,
            where=key,
            start=date.fromisoformat(said["from"]),
            end=date.fromisoformat(said["to"]),
            adjusted={"true": True, "false": False}[said["adjusted"]],
            collected=parts.collected,
            sha256=said[CSV_SHA256],
            size=size,
        )
    except (KeyError, ValueError):
        raise TickerError(
            f"{address} does not say what it holds (its metadata is lost); polygon-async verify --repair restores it"
        ) from None


def in_directory(ticker: Ticker, directory: Path, known: Sequence[LocalHistory]) -> list[Piece]:
    """The ticker's local history, if there is one. Blocking.

    Args:
        ticker: Whose.
        directory: Where it is.
        known: What a ledger knows of files of this name.

    Raises:
        TickerError: a file of this name is not a CSV of bars.
    """
    path = directory / csv_name(ticker.symbol)
    seen = look(path)
    if seen is None:
        return []
    piece = Piece(
        symbol=ticker.symbol,
        where=path,
        start=date.min,
        end=date.max,
        adjusted=None,
        collected=datetime.fromtimestamp(seen.modified / 1e9, UTC),
        sha256=None,
        size=seen.size,
    )
    history = recognised(path, seen, known)
    if history is not None:
        piece = replace(piece, start=history.first_day, end=history.last_day)
        return [replace(piece, adjusted=history.adjusted, sha256=history.sha256)]
    ends = ends_of(path)
    if ends is None:
        raise TickerError(f"{path} is not a CSV of bars")
    first, last = (moment_day(moment, ticker.market) for moment in (ends.first, ends.last))
    return [replace(piece, start=first, end=last)]
