"""The `download` command: runs a download and prints its summary."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared, parser_for, words_given
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, RESUME, complain, run_until, say
from polygon_async.errors import ConfigError
from polygon_async.settings.settings import DEFAULTS, settings_from

if TYPE_CHECKING:
    from collections.abc import Container

    from polygon_async.cli.commands import Call
    from polygon_async.report.metrics import MetricsFile

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

log = logging.getLogger(__name__)

_NOT_AGAIN = frozenset(
    {"tickers", "universe", "match", "limit", "shard", "from", "to", "force", "json", "quiet"}
    | {"log_level", "log_format", "log_file", "metrics_file"}
)
"""Flags that choose tickers and days, or say how a run is shown: a run of other tickers has its own."""

DESCRIPTION = """\
Download minute bars of any universe of tickers from Polygon.io (Massive), many tickers at once under one shared
rate limit. Each ticker becomes a CSV, is compressed with lzop, and is uploaded to S3 as one tagged object."""
EPILOG = """\
environment:
  POLYGON_API_KEY         the key (or MASSIVE_API_KEY); no flag: other users can see command lines
  POLYGON_BASE_URL        another API host; default {base_url}
  AWS_...                 credentials, region, endpoint (AWS_ENDPOINT_URL_S3), profiles: as botocore documents them
  A .env file in the working directory supplies what the environment does not set.

exit codes:
  0  all tickers done (or without data, and listed)     2    could not run, or could not continue
  1  some tickers failed, or none had any data          130  interrupted

examples:
  polygon-async --tickers AAPL MSFT --concurrency 8
  polygon-async --universe sp500.csv --from 2026-01-02 --to 2026-01-30 --rate 50/s
  polygon-async --universe output/failed.csv            rerun only what failed
  polygon-async --universe nyse.csv nasdaq.csv --match 'A*' 'B[A-M]*' --limit 100
""".format_map(DEFAULTS)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The download's flags."""
    what = parser.add_argument_group("what to download")
    add_shared(
        what, "--tickers", "--universe", "--match", "--limit", "--shard", "--from", "--to", "--look-back", "--adjusted"
    )

    pace = parser.add_argument_group("how fast")
    add_shared(pace, "--concurrency", "--rate", "--processes", "--patience", "--stall-timeout", "--outage-patience")
    add_shared(pace, "--max-failures", "--fail-fast")
    add_shared(parser.add_argument_group("where it runs"), "--engine", "--scheduler", "--workers")

    where = parser.add_argument_group("destination")
    add_shared(where, "--bucket", "--key-prefix", "--output-dir")
    where.add_argument("--no-upload", dest="upload", action="store_false", help="CSVs only; needs neither lzop nor S3")
    where.add_argument(
        "--keep-csv",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to keep a CSV after its upload is confirmed (default: keep)",
    )
    where.add_argument("--force", action="store_true", help="start over, and replace existing objects")
    tags = parser.add_argument_group("tags missing from the universe")
    tags.add_argument(
        "--reference",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look up exchange and currency in the API's reference data: one request per stock, or the whole list;"
        " kept for 30 days (default: look up)",
    )
    tags.add_argument("--exchange", metavar="X", help="the exchange, where the API has none (default: unknown)")
    tags.add_argument(
        "--currency",
        metavar="C",
        help="the currency, where the API has none (default: USD; for X: and C: pairs the quote currency)",
    )

    told = parser.add_argument_group("output")
    add_shared(told, "--json", *LOGGING)
    told.add_argument(
        "--metrics-file",
        metavar="FILE",
        help="write metrics in the Prometheus text format to this file every few seconds (name it *.prom)",
    )


def run(call: Call) -> int:
    """Download, and print the summary."""
    from polygon_async.cli.live import show

    settings = settings_from(vars(call.flags), call.environment)
    settings = replace(settings, words=_words(call.flags, without=_NOT_AGAIN), command=_words(call.flags))
    handler, watcher = show(settings.rate, quiet=call.flags.quiet, plain=call.flags.log_format == "json")
    log_to(handler, call.flags, call.redact)

    from polygon_async.report.json_stream import json_pieces
    from polygon_async.run.pipeline import download
    from polygon_async.settings import universe

    tickers = universe.of(settings)
    log.debug("%s", settings)
    watchers = [] if watcher is None else [watcher]
    metrics = _metrics(call.flags.metrics_file)
    watchers += [] if metrics is None else [metrics]
    summary = None
    try:
        summary = run_until(lambda stop: download(settings, tickers, redact=call.redact, stop=stop, watchers=watchers))
    finally:
        if metrics is not None:
            metrics.end(summary)
    if call.flags.log_format == "json":
        facts = {name: value for name, value in summary.totals().items() if not isinstance(value, list | dict)}
        log.info("the run has ended", extra={"event": "run_ended", "facts": facts})
    if not say(json_pieces(summary.totals(), summary.lists()) if call.flags.json else summary.as_text()):
        return COULD_NOT
    if summary.error is not None:
        complain(f"error: {summary.error}")
    elif summary.interrupted:
        complain(f"interrupted; {RESUME}")
    return summary.exit_code


def _words(flags: argparse.Namespace, *, without: Container[str] = ()) -> tuple[str, ...]:
    """What the command line said, without some of the flags."""
    parser = parser_for("", description="", epilog="")
    add_flags(parser)
    return tuple(words_given(parser, flags, without=without))


def _metrics(name: str | None) -> MetricsFile | None:
    if name is None:
        return None
    from polygon_async.report.metrics import MetricsFile

    if not name:
        raise ConfigError("--metrics-file '': the value is empty")
    return MetricsFile(Path(name))
