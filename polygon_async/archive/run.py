"""What to read, and how to adjust it, in; one ticker's bars after another, ready to be written, out."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Generic, TypeVar

from polygon_async.archive.scan import Failure, Wanted, open_archive
from polygon_async.archive.splits import LedgerKeeper, TickerSplits, all_splits
from polygon_async.errors import ConfigError, TickerError
from polygon_async.model.counters import Counters
from polygon_async.model.days import iso_dates_of
from polygon_async.model.splits import adjustments
from polygon_async.model.tickers import AssetType
from polygon_async.polygon.session import open_polygon
from polygon_async.report.words import counted
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from polygon_async.archive.reader import Count, TickerBars
    from polygon_async.model.access import Access
    from polygon_async.model.splits import Adjustment

__all__ = ["Adjusting", "Read", "read", "remarks"]

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")
_OLDEST = date(1970, 1, 1)
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusting:
    """How bars are adjusted for splits."""

    as_of: date
    """The last day whose splits count."""
    access: Access
    """The API, which lists them."""
    source: str
    """Its name in the ledger."""


@dataclass(frozen=True, slots=True, eq=False)
class Read(Generic[_Made]):
    """One ticker's bars, and what was made of them."""

    bars: TickerBars
    made: _Made


async def read(
    wanted: Wanted,
    make: Callable[[TickerBars, Sequence[Adjustment]], _Made],
    *,
    adjusting: Adjusting | None,
    count: Count,
    on_secret: Callable[[str | None], object] = lambda _: None,
) -> AsyncGenerator[Read[_Made] | Failure]:
    """One ticker after another, in their order.

    Args:
        wanted: What is to be read.
        make: What is made of a ticker's bars and what they are adjusted by; it runs in threads.
        adjusting: Adjust it; None: everything stays as it was stored.
        count: How far it has got.
        on_secret: Told the secrets of an S3 profile, so that no log shows them.

    Raises:
        RunError: nothing can be read.
    """
    if not wanted.tickers:
        raise ConfigError("no ticker to read")
    async with open_archive(wanted, count=count, on_secret=on_secret) as archive:
        splits = TickerSplits({}, {}) if adjusting is None else await _splits(wanted, adjusting)

        def made(bars: TickerBars) -> Read[_Made] | Failure:
            due = _due(bars, splits, adjusting)
            return due if isinstance(due, Failure) else Read(bars, make(bars, due))

        async with contextlib.aclosing(archive.each(made)) as each:
            async for found in each:
                yield found


async def _splits(wanted: Wanted, adjusting: Adjusting) -> TickerSplits:
    async with (
        Threads(2) as offload,
        open_polygon(adjusting.access, offload=offload, counters=Counters()) as client,
    ):
        keeper = LedgerKeeper(wanted.directory, source=adjusting.source, offload=offload)
        since = wanted.first or _OLDEST
        return await all_splits(wanted.tickers, since=since, until=adjusting.as_of, client=client, keeper=keeper)


def _due(bars: TickerBars, splits: TickerSplits, adjusting: Adjusting | None) -> Sequence[Adjustment] | Failure:
    """What a ticker's bars are to be adjusted by."""
    if adjusting is None or not len(bars.rows) or bars.ticker.market is not AssetType.STOCKS:
        return ()
    if (error := splits.errors.get(bars.ticker.symbol)) is not None:
        return Failure(bars.ticker, error)
    due = adjustments(splits.splits.get(bars.ticker.symbol, ()), as_of=adjusting.as_of)
    if bars.adjusted is not False:
        stored = "was stored with adjusted prices" if bars.adjusted else "comes from a file not in any ledger"
        advice = "only what was stored with --no-adjusted can be adjusted; without --adjusted, it is read as stored"
        return Failure(bars.ticker, TickerError(f"it {stored}; {advice}"))
    return due


def remarks(bars: TickerBars) -> list[str]:
    """What a reader of a ticker's bars should know, each in a sentence."""
    said = []
    if not len(bars.rows):
        said.append("no bars are stored" if bars.pieces == 0 else "no stored bars are in the range")
    elif bars.lacking:
        days = iso_dates_of(bars.lacking)
        more = f" and {len(days) - _MOST_NAMED:,} more" if len(days) > _MOST_NAMED else ""
        said.append(f"no stored bars cover {counted(len(days), 'session')}: {', '.join(days[:_MOST_NAMED])}{more}")
    if bars.differing:
        verb = "differs" if bars.differing == 1 else "differ"
        said.append(f"{counted(bars.differing, 'minute')} {verb} between downloads; the bars collected last count")
    if bars.outside_life:
        said.append(
            f"{counted(bars.outside_life, 'bar')} outside its life span (list_date, delist_date), perhaps"
            " another company's"
        )
    return said
