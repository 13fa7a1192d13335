"""argv in, exit code out; signals; nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from polygon_async import __version__
from polygon_async.config import DEFAULTS, Environment, settings_from
from polygon_async.errors import Interrupted, RunError
from polygon_async.redaction import RedactingFormatter, Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygon_async.summary import Summary

__all__ = ["main", "parser"]

log = logging.getLogger(__name__)

_INTERRUPTED = 130
_SECONDS_TO_LEAVE = 4.5
"""Of the first signal: whatever hangs then is left behind."""
_GO_ON = "the same command again goes on where this run was"
_DESCRIPTION = """\
Download minute bars of any universe of tickers from Polygon.io (Massive), many tickers at once and under
one shared rate limit; write one CSV a ticker, compress it with lzop, and upload it to S3 as one tagged object."""
_EPILOG = """\
environment:
  POLYGON_API_KEY         the key (or MASSIVE_API_KEY); it has no flag, as command lines are public
  POLYGON_BASE_URL        another host of the API; default {base_url}
  AWS_...                 credentials, region, endpoint (AWS_ENDPOINT_URL_S3), profiles: as botocore documents them
  A file .env in the working directory fills in what the environment does not say.

exit codes:
  0  all tickers done (those without data are told)     2    could not run, or could not go on
  1  some tickers failed, or none had any data          130  interrupted

examples:
  polygon-async --tickers AAPL MSFT --concurrency 8
  polygon-async --universe sp500.csv --from 2026-01-02 --to 2026-01-30 --rate 50/s
  polygon-async --universe output/failed.csv            run again just what has failed
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, like every other error."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the flags)\n")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar, and its help."""
    parser = _Parser(
        prog="polygon-async",
        description=_DESCRIPTION,
        epilog=_EPILOG.format_map(DEFAULTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"polygon-async {__version__}")

    what = parser.add_argument_group("what to download")
    what.add_argument(
        "--tickers", nargs="+", metavar="T", help="these tickers, in this order; overrides the universe file"
    )
    what.add_argument(
        "--universe",
        metavar="FILE",
        help="CSV with a `ticker` column, and optionally `exchange`, `currency`, `asset_type`"
        f" (default: {DEFAULTS['universe']})",
    )
    what.add_argument(
        "--from",
        metavar="DATE",
        help="first day, inclusive (default: two years ago plus a day) [POLYGON_FROM]",
    )
    what.add_argument("--to", metavar="DATE", help="last day, inclusive (default: yesterday in New York) [POLYGON_TO]")
    what.add_argument(
        "--adjusted",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="prices adjusted for splits (default: adjusted, as the API's own default)",
    )

    pace = parser.add_argument_group("how fast")
    pace.add_argument(
        "--concurrency",
        metavar="N",
        help="tickers (and windows of one) in flight at once"
        f" (default: {DEFAULTS['concurrency']}) [POLYGON_CONCURRENCY]",
    )
    pace.add_argument(
        "--rate",
        metavar="R",
        help="requests of all workers together: N/s, N/min, N/h, unlimited, or auto, which finds out what the plan"
        f" allows (default: {DEFAULTS['rate']}) [POLYGON_RATE_LIMIT]",
    )
    pace.add_argument(
        "--processes",
        metavar="N",
        help="processes that read pages; 0 reads them in threads"
        f" (default: {DEFAULTS['processes']}, one for each core) [POLYGON_PROCESSES]",
    )
    pace.add_argument(
        "--patience",
        metavar="S",
        help="seconds from a request's first failure for which it is retried, and the time an upload may take"
        f" (default: {DEFAULTS['patience']}) [POLYGON_PATIENCE]",
    )
    pace.add_argument(
        "--stall-timeout",
        metavar="S",
        help=f"seconds without a byte after which an attempt has failed (default: {DEFAULTS['stall_timeout']})"
        " [POLYGON_STALL_TIMEOUT]",
    )

    pace.add_argument(
        "--outage-patience",
        metavar="S",
        help="seconds for which the whole run waits while the API is down for everyone"
        f" (default: {DEFAULTS['outage_patience']}) [POLYGON_OUTAGE_PATIENCE]",
    )

    where = parser.add_argument_group("where to")
    where.add_argument("--bucket", metavar="B", help=f"S3 bucket (default: {DEFAULTS['bucket']}) [S3_BUCKET]")
    where.add_argument("--output-dir", metavar="D", help=f"directory of the CSVs (default: {DEFAULTS['output_dir']})")
    where.add_argument("--no-upload", dest="upload", action="store_false", help="CSVs only; needs neither lzop nor S3")
    where.add_argument(
        "--keep-csv",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a CSV stays after its upload is confirmed (default: it stays)",
    )
    where.add_argument("--force", action="store_true", help="replace objects that are there already")
    where.add_argument(
        "--exchange", metavar="X", help="tag of tickers whose exchange the universe does not tell (default: unknown)"
    )
    where.add_argument(
        "--currency",
        metavar="C",
        help="tag of tickers whose currency the universe does not tell"
        " (default: USD; for X: and C: pairs the quote currency)",
    )

    telling = parser.add_argument_group("what it tells")
    telling.add_argument("--json", action="store_true", help="the summary as one JSON object on standard output")
    telling.add_argument(
        "--log-level",
        metavar="L",
        choices=["debug", "info", "warning", "error"],
        default=DEFAULTS["log_level"],
        help=f"debug, info, warning or error (default: {DEFAULTS['log_level']}); logs go to standard error",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # A daemon may have closed them; they stay open until the process ends.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the locale cannot spell is no reason to fail
    flags = parser().parse_args(argv)
    redact = Redactor()
    # Until the run answers signals itself, a SIGTERM ends it the way a Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        summary = _download(flags, redact)
    except RunError as error:
        return _refuse(redact(str(error)), as_json=flags.json)
    except (KeyboardInterrupt, Interrupted):
        return _refuse("interrupted before anything was fetched", as_json=flags.json, code=_INTERRUPTED)
    if not _print(json.dumps(summary.as_json()) if flags.json else summary.as_text()):
        return 2
    if summary.error is not None:
        print(f"polygon-async: error: {summary.error}", file=sys.stderr)
    elif summary.interrupted:
        print(f"polygon-async: interrupted; {_GO_ON}", file=sys.stderr)
    return summary.exit_code


def _download(flags: argparse.Namespace, redact: Redactor) -> Summary:
    from polygon_async.progress import show

    environment = Environment.load(Path.cwd())
    for secret in environment.secrets():
        redact.add(secret)
    settings = settings_from(vars(flags), environment)
    formatter = RedactingFormatter(redact, "%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler, watcher = show(settings.rate, formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("polygon_async").setLevel(flags.log_level.upper())

    from polygon_async import universe
    from polygon_async.pipeline import download

    tickers = universe.of(settings)
    log.debug("%s", settings)

    async def run() -> Summary:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, leave, stop)
        return await download(settings, tickers, redact=redact, stop=stop, watcher=watcher)

    patience = threading.Timer(_SECONDS_TO_LEAVE, leave_at_once)
    patience.daemon = True

    def leave(stop: asyncio.Event) -> None:
        if stop.is_set():
            leave_at_once()
        stop.set()
        patience.start()

    try:
        return asyncio.run(run())
    finally:
        patience.cancel()
        # The loop has given them back; what is left to do is to say how it ended.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def leave_at_once() -> NoReturn:
    """End the program here and now, and what it has started with it; the ledger holds all that has happened."""
    from polygon_async.compress import end_children

    with contextlib.suppress(OSError):
        print(f"polygon-async: interrupted at once; {_GO_ON}", file=sys.stderr, flush=True)
    end_children()
    os._exit(_INTERRUPTED)


def _print(result: str) -> bool:
    """Print the result; whether standard output took it, or nobody reads it, which is no error."""
    try:
        print(result, flush=True)
    except OSError as error:
        # Python would try to flush again at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"polygon-async: error: standard output cannot be written ({error.strerror})", file=sys.stderr)
            return False
    return True


def _refuse(error: str, *, as_json: bool, code: int = 2) -> int:
    """A run that could not start: one line, and for programs the same as JSON."""
    if as_json:
        _print(json.dumps({"version": __version__, "exit_code": code, "error": error}))
    print(f"polygon-async: {'' if code == _INTERRUPTED else 'error: '}{error}", file=sys.stderr)
    return code
