"""One ticker's bars as a DataFrame, or a whole run."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from polygon_async.api.arguments import settings_of
from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.frame import to_frame
from polygon_async.errors import ConfigError
from polygon_async.model.counters import Counters
from polygon_async.model.units import Unit
from polygon_async.polygon.session import open_polygon
from polygon_async.polygon.walk import RestSource
from polygon_async.run import pipeline
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.system.redaction import Redactor
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    import pandas as pd

    from polygon_async.report.summary import Summary

__all__ = ["download", "fetch_bars"]


async def fetch_bars(
    ticker: str,
    start: date | str,
    end: date | str,
    *,
    adjusted: bool = True,
    rate: str | None = None,
    patience: float | None = None,
    api_key: str | None = None,
) -> pd.DataFrame:
    """All minute bars of one ticker over a range of days, as a DataFrame; no bar is written to disk.

    Args:
        ticker: As the API spells it: `AAPL`, `BRK.B`, `X:BTCUSD`.
        start: First calendar day, inclusive; a date or YYYY-MM-DD.
        end: Last calendar day, inclusive.
        adjusted: Prices adjusted for splits.
        rate: `N/s`, `N/min`, `N/h`, `unlimited` or `auto`; by default POLYGON_RATE_LIMIT, else `auto`,
            which finds the plan's limit and remembers it in the user's cache directory.
        patience: How long to keep retrying a failing request, in s; by default 300.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Returns:
        One row a bar, strictly increasing in `timestamp`, with the columns of the CSV: open, high, low,
        close, volume, vwap (float64), timestamp (int64, start of the bar in ms UTC), transactions
        (Int64) and otc (boolean), NA where absent. No rows if the range has no bars.

    Raises:
        ConfigError: An argument or a variable cannot be used.
        TickerError: The range could not be fetched completely.
        RunError: No range can be fetched (the key, the network).
    """
    settings = settings_of(
        {
            "tickers": [ticker],
            "from": str(start),
            "to": str(end),
            "adjusted": adjusted,
            "processes": "0",
            "rate": rate,
            "patience": None if patience is None else str(patience),
        },
        api_key,
    )
    (asked,) = universe.from_names([ticker], universe.Defaults())
    unit = Unit(ticker=asked, start=settings.start, end=settings.end, adjusted=adjusted)
    csv = bytearray(CSV_HEADER)
    async with (
        Threads(2) as offload,
        open_polygon(settings.access, offload=offload, counters=Counters()) as client,
    ):
        source = RestSource(client=client, counters=Counters())
        async with contextlib.aclosing(source.pages(unit)) as pages:
            async for page in pages:
                csv += page.rows
        return await offload(to_frame, bytes(csv))


async def download(
    tickers: Sequence[str] | str | None = None,
    *,
    universe_file: Path | str | Sequence[Path | str] | None = None,
    match: Sequence[str] | str = (),
    limit: int | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    adjusted: bool = True,
    concurrency: int | None = None,
    processes: int = 0,
    rate: str | None = None,
    patience: float | None = None,
    max_failures: int | None = None,
    bucket: str | None = None,
    key_prefix: str | None = None,
    output_dir: Path | str | None = None,
    upload: bool = True,
    keep_csv: bool = True,
    force: bool = False,
    reference: bool = True,
    exchange: str | None = None,
    currency: str | None = None,
    api_key: str | None = None,
) -> Summary:
    """Run a whole download, as the command line does: CSVs, lzop, tagged objects.

    The arguments are the command line's flags; None means the environment or the default. Nothing is
    printed; progress is logged under `polygon_async`. With `processes` pages are parsed in separate
    processes, which import the main module again: a script that asks for them must guard its top level
    with `if __name__ == "__main__":`.

    Returns:
        The summary: `exit_code`, `done`, `failed`, `no_data`, `as_json()`, `as_text()`.

    Raises:
        RunError: The run could not start; if it could not go on, `summary.error` says why.
    """
    if isinstance(tickers, str):
        tickers = [tickers]
    if tickers is not None and not tickers:
        raise ConfigError("no ticker to download")
    settings = settings_of(
        {
            "tickers": tickers,
            "universe": _texts(universe_file),
            "match": match,
            "limit": None if limit is None else str(limit),
            "from": start and str(start),
            "to": end and str(end),
            "adjusted": adjusted,
            "concurrency": None if concurrency is None else str(concurrency),
            "processes": str(processes),
            "rate": rate,
            "patience": None if patience is None else str(patience),
            "max_failures": None if max_failures is None else str(max_failures),
            "bucket": bucket,
            "key_prefix": key_prefix,
            "output_dir": output_dir and str(output_dir),
            "upload": upload,
            "keep_csv": keep_csv,
            "force": force,
            "reference": reference,
            "exchange": exchange,
            "currency": currency,
        },
        api_key,
    )
    secrets = [settings.api_key, *Environment(dict(os.environ), {}).secrets()]
    return await pipeline.download(settings, universe.of(settings), redact=Redactor(secrets))


def _texts(files: Path | str | Sequence[Path | str] | None) -> list[str] | None:
    if files is None:
        return None
    return [str(files)] if isinstance(files, str | os.PathLike) else [str(file) for file in files]
