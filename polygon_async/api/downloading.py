"""A run's arguments in, its summary out."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from polygon_async.api.arguments import settings_of
from polygon_async.api.naming import in_python, python_words
from polygon_async.run import pipeline
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from polygon_async.api.arguments import Day
    from polygon_async.report.summary import Summary

__all__ = ["download"]


async def download(
    tickers: Iterable[str] | str | None = None,
    *,
    universe_file: Path | str | Iterable[Path | str] | None = None,
    match: Iterable[str] | str = (),
    limit: int | None = None,
    shard: str | None = None,
    start: Day | None = None,
    end: Day | None = None,
    adjusted: bool = True,
    concurrency: int | None = None,
    processes: int | str = 0,
    rate: str | None = None,
    patience: float | None = None,
    max_failures: int | str | None = None,
    engine: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
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

    The arguments are the command line's flags; None means the environment or the default. Days are what `fetch_bars`
    takes; `start="last"` starts each ticker on the day after the last one that the ledger holds. Nothing is printed;
    progress is logged under `polygon_async`. With `processes` pages are parsed in separate processes, which import the
    main module again: a script that asks for them must guard its top level with `if __name__ == "__main__":`.
    So must one that asks for `workers`.

    Returns:
        The summary: `exit_code`, `done`, `failed`, `no_data`, `as_json()`, `as_text()`. A notebook shows it as a table.

    Raises:
        ConfigError: An argument, a variable or a file cannot be used.
        RunError: The run could not start; if it could not go on, `summary.error` says why.
    """
    arguments = {
        "universe_file": universe_file,
        "match": match,
        "limit": limit,
        "shard": shard,
        "start": start,
        "end": end,
        "adjusted": adjusted,
        "concurrency": concurrency,
        "processes": processes,
        "rate": rate,
        "patience": patience,
        "max_failures": max_failures,
        "engine": engine,
        "scheduler": scheduler,
        "workers": workers,
        "bucket": bucket,
        "key_prefix": key_prefix,
        "output_dir": output_dir,
        "upload": upload,
        "keep_csv": keep_csv,
        "force": force,
        "reference": reference,
        "exchange": exchange,
        "currency": currency,
    }
    with in_python(api_key):
        settings = settings_of({"tickers": tickers, **arguments}, api_key)
        secrets = [settings.api_key, *Environment(dict(os.environ), {}).secrets()]
        summary = await pipeline.download(settings, universe.of(settings), redact=Redactor(secrets))
    outcomes = [
        outcome if outcome.error is None else replace(outcome, error=python_words(outcome.error))
        for outcome in summary.outcomes
    ]
    return replace(summary, error=summary.error and python_words(summary.error), outcomes=outcomes)
