"""Stored bars read back: all in one frame, or one ticker's frame after another."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async.api.arguments import choice_of, day_of, flag_of, settings_of, text_of
from polygon_async.api.naming import in_python
from polygon_async.errors import ConfigError, TickerError
from polygon_async.model.units import today
from polygon_async.settings import universe
from polygon_async.settings.values import parse_zone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path

    import pandas as pd

    from polygon_async.api.arguments import Day

__all__ = ["read_bars", "scan_bars"]

log = logging.getLogger(__name__)


async def read_bars(
    tickers: Iterable[str] | str,
    start: Day,
    end: Day,
    *,
    adjusted: bool = False,
    as_of: Day | None = None,
    source: str = "auto",
    stored: str | None = None,
    zone: str = "America/New_York",
    form: str = "pandas",
    bucket: str | None = None,
    key_prefix: str | None = None,
    output_dir: Path | str | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    patience: float | None = None,
    api_key: str | None = None,
) -> Any:
    """Stored bars of some tickers, as one DataFrame; every object is checked against its digest.

    Of a minute that several objects hold, the bar collected last counts. What a reader should know (sessions that
    nothing stored covers, minutes that differ between downloads) is logged as a warning under `polygon_async`, and is
    in the frame's `attrs["remarks"]`, by ticker.

    Args:
        tickers: One or several, as the API spells them.
        start: First calendar day, inclusive; what `fetch_bars` takes.
        end: Last calendar day, inclusive; of a month or a year, its last day.
        adjusted: Adjust prices and volumes for splits, as the API does; for bars stored with `adjusted=False`. It
            needs the API's key, unless the ledger has learned the splits within a day.
        as_of: The last day whose splits count; by default today.
        source: `bucket` (what the bucket lists), `local` (the CSVs in `output_dir`) or `auto`: the objects that the
            ledger in `output_dir` knows, local CSVs of tickers that were never uploaded, without a ledger the bucket.
        stored: `adjusted` or `unadjusted`: only what was stored with such prices; by default whatever there is.
        zone: The time zone of the index, such as `UTC`.
        form: `pandas`, or `pyarrow` for a Table (with the extra `parquet`).
        bucket: By default S3_BUCKET, else the default bucket; `s3://bucket/prefix` says the prefix, too.
        key_prefix: What all keys are below; by default S3_KEY_PREFIX, else nothing.
        output_dir: Where the ledger and the local CSVs are; by default `output`.
        concurrency: Objects downloaded side by side; by default 8.
        rate: As in `fetch_bars`, for the list of splits.
        patience: As in `fetch_bars`.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Returns:
        One row a bar, ordered by ticker as asked, then time: `ticker` (categorical), open, high, low, close, volume,
        vwap (float64), transactions (Int64), otc (boolean), NA where absent; the index, `timestamp`, is the start of
        the bar in `zone`. As a Table, ticker and timestamp are its first columns.

    Raises:
        ConfigError: An argument or a variable cannot be used.
        TickerError: A ticker's bars are damaged or gone, or cannot be adjusted; the message names all such tickers.
        RunError: Nothing can be read (the bucket, the credentials, the ledger).
    """
    import pandas as pd

    choice_of("form", form, ("pandas", "pyarrow"))
    frames: list[pd.DataFrame] = []
    remarks: dict[str, list[str]] = {}
    failed: list[TickerError] = []
    scan = _scan(
        tickers,
        start,
        end,
        adjusted=adjusted,
        as_of=as_of,
        source=source,
        stored=stored,
        zone=zone,
        bucket=bucket,
        key_prefix=key_prefix,
        output_dir=output_dir,
        concurrency=concurrency,
        rate=rate,
        patience=patience,
        api_key=api_key,
    )
    with in_python(api_key):
        async with contextlib.aclosing(scan) as each:
            async for found in each:
                if isinstance(found, TickerError):
                    failed.append(found)
                elif not failed:
                    frames.append(found[1])
                    remarks |= {found[0]: found[1].attrs["remarks"]} if found[1].attrs["remarks"] else {}
        if failed:
            raise TickerError("; ".join(map(str, failed)))
    for frame in frames:
        frame.attrs = {}
    frame = pd.concat([frame for frame in frames if len(frame)] or frames[:1])
    frame.attrs["remarks"] = remarks
    if form == "pyarrow":
        from polygon_async.archive.output import table_of

        return table_of(frame, zone)
    return frame


async def scan_bars(
    tickers: Iterable[str] | str,
    start: Day,
    end: Day,
    *,
    adjusted: bool = False,
    as_of: Day | None = None,
    source: str = "auto",
    stored: str | None = None,
    zone: str = "America/New_York",
    bucket: str | None = None,
    key_prefix: str | None = None,
    output_dir: Path | str | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    patience: float | None = None,
    api_key: str | None = None,
) -> AsyncGenerator[tuple[str, pd.DataFrame]]:
    """Stored bars, one ticker's DataFrame after another: for more than memory holds.

    The arguments and the frames are those of `read_bars`; a few tickers are read ahead.

    Yields:
        A ticker, and its bars; no rows if nothing is stored.

    Raises:
        TickerError: The next ticker cannot be read; the scan ends there.
        ConfigError, RunError: as `read_bars`.
    """
    scan = _scan(
        tickers,
        start,
        end,
        adjusted=adjusted,
        as_of=as_of,
        source=source,
        stored=stored,
        zone=zone,
        bucket=bucket,
        key_prefix=key_prefix,
        output_dir=output_dir,
        concurrency=concurrency,
        rate=rate,
        patience=patience,
        api_key=api_key,
    )
    with in_python(api_key):
        async with contextlib.aclosing(scan) as each:
            async for found in each:
                if isinstance(found, TickerError):
                    raise found
                yield found


async def _scan(
    tickers: Iterable[str] | str,
    start: Day,
    end: Day,
    *,
    adjusted: bool,
    as_of: Day | None,
    source: str,
    stored: str | None,
    zone: str,
    bucket: str | None,
    key_prefix: str | None,
    output_dir: Path | str | None,
    concurrency: int | None,
    rate: str | None,
    patience: float | None,
    api_key: str | None,
) -> AsyncGenerator[tuple[str, pd.DataFrame] | TickerError]:
    """Each ticker with its frame, or why there is none."""
    from polygon_async.archive.frames import frame_of
    from polygon_async.archive.reader import Count
    from polygon_async.archive.run import Adjusting, read, remarks
    from polygon_async.archive.scan import Failure, Source, Wanted

    arguments = {
        "tickers": tickers,
        "start": start,
        "end": end,
        "processes": 0,
        "bucket": bucket,
        "key_prefix": key_prefix,
        "output_dir": output_dir,
        "concurrency": concurrency,
        "rate": rate,
        "patience": patience,
    }
    is_adjusted = flag_of("adjusted", adjusted)
    settings = settings_of(arguments, api_key, required=("tickers", "start", "end"), needs_key=is_adjusted)
    prices = None if stored is None else choice_of("stored", stored, ("adjusted", "unadjusted"))
    wanted = Wanted(
        tickers=universe.of(replace(settings, shard=None)),
        first=settings.start,
        last=settings.end,
        source=Source(choice_of("source", source, tuple(Source))),
        stored=None if prices is None else prices == "adjusted",
        bucket=settings.bucket,
        key_prefix=settings.key_prefix,
        directory=settings.output_dir,
        concurrency=settings.concurrency,
        patience=settings.patience,
    )
    zone = _zone(zone)
    adjusting = None
    last = today() if as_of is None else day_of("as_of", as_of, is_last=True)
    if is_adjusted:
        adjusting = Adjusting(as_of=last, access=settings.access, source=settings.source)
    names = [ticker.symbol for ticker in wanted.tickers]
    make = partial(frame_of, zone=zone, symbols=names)
    async with contextlib.aclosing(read(wanted, make, adjusting=adjusting, count=Count())) as each:
        async for found in each:
            if isinstance(found, Failure):
                yield TickerError(f"{found.ticker.symbol}: {found.error}")
                continue
            frame = found.made
            frame.attrs["remarks"] = remarks(found.bars)
            for remark in frame.attrs["remarks"]:
                log.warning("%s: %s", found.bars.ticker.symbol, remark)
            yield found.bars.ticker.symbol, frame


def _zone(zone: object) -> str:
    try:
        return parse_zone(text_of("zone", zone))
    except ValueError as error:
        raise ConfigError(f"zone={zone!r}: {error}") from None
