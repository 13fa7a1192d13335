"""The `report` command: writes the report of an earlier run again, from the ledger."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, say
from polygon_async.errors import ConfigError
from polygon_async.settings.settings import output_directory

if TYPE_CHECKING:
    import argparse

    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Rewrite the report of a run, as an HTML page and as JSON, from the ledger of an output directory. Every run
writes report.html and report.json when it ends."""
EPILOG = """\
exit codes:
  0  written                                            2    there is no such run, or it left no report

examples:
  polygon-async report
  polygon-async report --run 12 --output-dir bars
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The report's flags."""
    what = parser.add_argument_group("what to report")
    what.add_argument(
        "--run",
        metavar="N",
        help="the number of the run, from 1; its files are report-run-N.html and .json (default: the last one with a"
        " report)",
    )
    add_shared(what, "--output-dir")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


def run(call: Call) -> int:
    """Write the report and print its path."""
    from polygon_async.ledger.runs import read_report
    from polygon_async.report.run_report import redacted, write_report

    flags = call.flags
    log_to(logging.StreamHandler(), flags, call.redact)
    directory, number = output_directory(vars(flags)), flags.run
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 19):
        raise ConfigError(f"--run {number!r}: must be a whole number, 1 or more")
    run = None if number is None else int(number)
    report = redacted(read_report(directory, run), call.redact)
    page = write_report(report, directory, run=run)
    return 0 if say(json.dumps(report) if flags.json else str(page)) else COULD_NOT
