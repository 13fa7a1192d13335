"""A whole run from Python."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polygon_async.api.arguments import day_text, named_as_in_python, number_text, settings_of, symbols_of, text_of
from polygon_async.run import pipeline
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from polygon_async.api.fetching import Day
    from polygon_async.report.summary import Summary

__all__ = ["download"]


async def download(
    tickers: Iterable[str] | str | None = None,
    *,
    universe_file: Path | str | Sequence[Path | str] | None = None,
    match: Sequence[str] | str = (),
    limit: int | None = None,
    shard: str | None = None,
    start: Day | None = None,
    end: Day | None = None,
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

    None means the environment or the default; nothing is printed, and progress is logged under `polygon_async`.

    Args:
        tickers: As the API spells them; by default those of the universe.
        universe_file: CSVs with a column `ticker`; by default `tickers.csv`.
        match: Globs that select tickers.
        limit: How many of the first tickers are taken.
        shard: Which part of how many is taken of those: `3/16`.
        start: First calendar day, inclusive, as in `fetch_bars`; or `last`, for what the ledger does not hold yet.
        end: Last calendar day, inclusive.
        adjusted: Prices adjusted for splits.
        concurrency: How many tickers are in flight at once; by default 8.
        processes: How many processes parse large pages, or upload; by default none, but threads. They import the main
            module again: a script that asks for them must guard its top level with `if __name__ == "__main__":`.
        rate: As in `fetch_bars`; a run has a pace of its own.
        patience: How long to keep retrying a failing request, in s; by default 300.
        max_failures: After how many failed tickers the run stops; by default, when the first 20 prove that all will.
        bucket: A bucket's name, or `s3://bucket/prefix`.
        key_prefix: What all keys are below.
        output_dir: Where CSVs, ledger and reports go; by default `output`.
        upload: False: CSVs only; needs neither lzop nor S3.
        keep_csv: Whether CSVs stay after their upload.
        force: Start over, and replace existing objects.
        reference: Whether the tags exchange and currency are looked up.
        exchange: The exchange, where neither universe nor API has one.
        currency: The currency, likewise.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Returns:
        The summary: `exit_code`, `done`, `failed`, `no_data`, `as_json()`, `as_text()`.

    Raises:
        ConfigError: An argument or a variable cannot be used.
        RunError: The run could not start; if it could not go on, `summary.error` says why.
    """
    with named_as_in_python():
        settings = settings_of(
            {
                "tickers": None if tickers is None else symbols_of("tickers", tickers),
                "universe": _texts(universe_file),
                "match": [match] if isinstance(match, str) else list(match),
                "limit": number_text("limit", limit),
                "shard": text_of("shard", shard),
                "from": day_text("start", start),
                "to": day_text("end", end),
                "adjusted": adjusted,
                "concurrency": number_text("concurrency", concurrency),
                "processes": number_text("processes", processes),
                "rate": text_of("rate", rate),
                "patience": number_text("patience", patience),
                "max_failures": number_text("max_failures", max_failures),
                "bucket": text_of("bucket", bucket),
                "key_prefix": text_of("key_prefix", key_prefix),
                "output_dir": None if output_dir is None else os.fspath(output_dir),
                "upload": upload,
                "keep_csv": keep_csv,
                "force": force,
                "reference": reference,
                "exchange": text_of("exchange", exchange),
                "currency": text_of("currency", currency),
            },
            api_key,
        )
        secrets = [settings.api_key, *Environment(dict(os.environ), {}).secrets()]
        return await pipeline.download(settings, universe.of(settings), redact=Redactor(secrets))


def _texts(files: Path | str | Sequence[Path | str] | None) -> list[str] | None:
    if files is None:
        return None
    return [str(files)] if isinstance(files, str | os.PathLike) else [str(file) for file in files]
