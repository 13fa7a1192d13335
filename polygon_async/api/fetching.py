"""Tickers and a range in, their bars in one DataFrame out; nothing is written to disk."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeAlias

from polygon_async.api.arguments import day_text, symbols_of
from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.frame import to_frame
from polygon_async.errors import ConfigError, RunError, TickerError, first_of
from polygon_async.model.counters import Counters
from polygon_async.model.units import Unit
from polygon_async.polygon.walk import RestSource
from polygon_async.settings import universe
from polygon_async.settings.ranges import range_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    import numpy as np
    import pandas as pd

    from polygon_async.polygon.client import Client
    from polygon_async.system.threads import Threads

__all__ = ["Day", "fetched"]

Day: TypeAlias = "date | np.datetime64 | str"
"""A calendar day; a datetime, and so a pd.Timestamp, is a date."""


async def fetched(
    ticker: str | Iterable[str],
    start: Day,
    end: Day,
    *,
    adjusted: bool,
    client: Client,
    offload: Threads,
    concurrency: int,
) -> pd.DataFrame:
    """All bars of one ticker, or of several (see `polygon_async.fetch_bars`).

    Raises:
        ConfigError: An argument cannot be used.
        TickerError: Some tickers could not be fetched; all that have failed are named.
        RunError: Nothing can be fetched.
    """
    symbols = symbols_of("ticker", ticker)
    first, last = day_text("start", start), day_text("end", end)
    if first is None or last is None:
        raise ConfigError(f"{'start' if first is None else 'end'}=None: a range has both ends")
    begin, finish = range_of(first, last)
    if not isinstance(adjusted, bool):
        raise ConfigError(f"adjusted={adjusted!r}: must be True or False")
    chosen = universe.from_names(symbols, universe.Defaults())
    units = [Unit(ticker=each, start=begin, end=finish, adjusted=adjusted) for each in chosen]
    source = RestSource(client=client, counters=Counters())
    frames = await _all_of(units, source, offload, concurrency)
    if isinstance(ticker, str):
        return frames[0]
    return await offload(_joined, [unit.ticker.symbol for unit in units], frames)


async def _all_of(units: Sequence[Unit], source: RestSource, offload: Threads, concurrency: int) -> list[pd.DataFrame]:
    """One frame for each unit."""
    frames: dict[int, pd.DataFrame] = {}
    failed: dict[int, TickerError] = {}
    left = iter(enumerate(units))

    async def work() -> None:
        for number, unit in left:
            try:
                frames[number] = await _one(unit, source, offload)
            except TickerError as error:
                failed[number] = error

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(concurrency, len(units))):
                tasks.create_task(work())
    except* RunError as group:
        raise first_of(group) from None
    if failed:
        if len(units) == 1:
            raise failed[0]
        told = [f"{units[number].ticker.symbol}: {error}" for number, error in sorted(failed.items())]
        raise TickerError("; ".join(told))
    return [frames[number] for number in range(len(units))]


async def _one(unit: Unit, source: RestSource, offload: Threads) -> pd.DataFrame:
    csv = bytearray(CSV_HEADER)
    async with contextlib.aclosing(source.pages(unit)) as pages:
        async for page in pages:
            csv += page.rows
    return await offload(to_frame, bytes(csv))


def _joined(symbols: Sequence[str], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame, its first column the ticker."""
    import numpy as np
    import pandas as pd

    # Empty frames would have a say in the types of the columns.
    whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    codes = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    whole.insert(0, "ticker", pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(symbols)), whole.index))
    return whole
