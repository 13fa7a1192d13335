"""The `status` command: shows what the ledger and the disk know, without contacting the API or the store."""

from __future__ import annotations

import logging
import shutil
import sys
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, complain, say
from polygon_async.errors import one_line
from polygon_async.model.layout import LEDGER
from polygon_async.settings.settings import output_directory

if TYPE_CHECKING:
    import argparse

    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

_UNKNOWN = 1
"""Exit code: the ledger does not know a ticker, which may be misspelt."""

DESCRIPTION = """\
Show what the ledger of an output directory knows: units done, pending and failed, with reasons; bars, bytes and
the span of each ticker; and which local files are missing or changed. A download may be running."""
EPILOG = """\
exit codes:
  0  shown                                              2    there is no ledger, or it cannot be read
  1  a ticker of --tickers is unknown

examples:
  polygon-async status
  polygon-async status --tickers AAPL MSFT --json
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The status's flags."""
    what = parser.add_argument_group("what to show")
    what.add_argument("--tickers", nargs="+", metavar="T", help="only these tickers (default: all)")
    add_shared(what, "--output-dir")
    what.add_argument("--all", action="store_true", help="show every line, even on a terminal")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


def run(call: Call) -> int:
    """Print the status."""
    from polygon_async.ledger.overview import open_overview
    from polygon_async.model.spelling import with_likely
    from polygon_async.report.status import MOST_LINES, status_json, status_text

    flags = call.flags
    log_to(logging.StreamHandler(), flags, call.redact)
    directory = output_directory(vars(flags))
    path = directory / LEDGER
    with open_overview(directory, flags.tickers) as overview:
        known = {row.ticker for row in overview.rows()} if flags.tickers else set()
        unknown = [ticker for ticker in flags.tickers or () if ticker not in known]
        if flags.json:
            is_said = say(map(call.redact, status_json(overview, path)))
        else:
            on_terminal = sys.stdout.isatty()
            most = MOST_LINES if on_terminal and not flags.all else None
            width = shutil.get_terminal_size().columns if on_terminal else None
            told = status_text(overview, path, most=most, width=width)
            is_said = say(call.redact(told))
    if unknown:
        complain(f"the ledger {path} does not know {', '.join(with_likely(one_line(each)) for each in unknown)}")
    return COULD_NOT if not is_said else _UNKNOWN if unknown else 0
