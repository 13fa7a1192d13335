"""A command in, the parser of its flags out; a flag that several commands have is worded here, once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from polygon_async.settings.settings import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOGGING", "add_shared", "parser_for"]

LOGGING = ("--quiet", "--log-level", "--log-format", "--log-file")
"""What every command that logs has."""

_SHARED: Mapping[str, Mapping[str, Any]] = {
    "--tickers": {
        "nargs": "+",
        "metavar": "T",
        "help": "these tickers, in this order; overrides the universe file",
    },
    "--universe": {
        "nargs": "+",
        "metavar": "FILE",
        "help": "CSVs with a `ticker` column, and optionally `exchange`, `currency`, `asset_type`; - is standard"
        f" input (default: {DEFAULTS['universe']})",
    },
    "--match": {
        "nargs": "+",
        "metavar": "GLOB",
        "help": "of these tickers only those that fit one of the globs, such as 'BRK.*' (upper and lower case differ)",
    },
    "--limit": {"metavar": "N", "help": "of these tickers only the first N"},
    "--from": {
        "metavar": "DATE",
        "help": "first day, inclusive; or last: each ticker starts on the day after what the ledger holds of it"
        " (default: two years ago plus a day) [POLYGON_FROM]",
    },
    "--to": {
        "metavar": "DATE",
        "help": "last day, inclusive (default: yesterday in New York) [POLYGON_TO]",
    },
    "--adjusted": {
        "action": argparse.BooleanOptionalAction,
        "default": True,
        "help": "prices adjusted for splits (default: adjusted, as the API's own default)",
    },
    "--concurrency": {
        "metavar": "N",
        "help": "tickers (and windows of one) in flight at once"
        f" (default: {DEFAULTS['concurrency']}) [POLYGON_CONCURRENCY]",
    },
    "--rate": {
        "metavar": "R",
        "help": "requests of all workers together: N/s, N/min, N/h, unlimited, or auto, which finds out what the plan"
        f" allows (default: {DEFAULTS['rate']}) [POLYGON_RATE_LIMIT]",
    },
    "--processes": {
        "metavar": "N",
        "help": "processes that read pages; 0 reads them in threads"
        f" (default: {DEFAULTS['processes']}, one for each core) [POLYGON_PROCESSES]",
    },
    "--patience": {
        "metavar": "S",
        "help": "seconds from a request's first failure for which it is retried, and the time an upload may take"
        f" (default: {DEFAULTS['patience']}) [POLYGON_PATIENCE]",
    },
    "--stall-timeout": {
        "metavar": "S",
        "help": f"seconds without a byte after which an attempt has failed (default: {DEFAULTS['stall_timeout']})"
        " [POLYGON_STALL_TIMEOUT]",
    },
    "--outage-patience": {
        "metavar": "S",
        "help": "seconds for which the whole run waits while the API is down for everyone"
        f" (default: {DEFAULTS['outage_patience']}) [POLYGON_OUTAGE_PATIENCE]",
    },
    "--bucket": {"metavar": "B", "help": f"S3 bucket (default: {DEFAULTS['bucket']}) [S3_BUCKET]"},
    "--output-dir": {"metavar": "D", "help": f"directory of the CSVs (default: {DEFAULTS['output_dir']})"},
    "--json": {"action": "store_true", "help": "the summary as one JSON object on standard output"},
    "--log-level": {
        "metavar": "L",
        "choices": ["debug", "info", "warning", "error"],
        "default": DEFAULTS["log_level"],
        "help": f"debug, info, warning or error (default: {DEFAULTS['log_level']}); logs go to standard error",
    },
    "--log-format": {
        "choices": ["text", "json"],
        "metavar": "F",
        "default": DEFAULTS["log_format"],
        "help": f"text, or json: one object a line (default: {DEFAULTS['log_format']})",
    },
    "--log-file": {"metavar": "FILE", "help": "append the log lines to this file, too"},
    "--quiet": {
        "action": "store_true",
        "help": "on standard error only what fails; the result and the log file stay as they are",
    },
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, like every other error."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the flags)\n")


def parser_for(prog: str, *, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser that says what is wrong in one line, and keeps the lines of its help as they are written."""
    return _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_shared(group: argparse._ActionsContainer, *flags: str) -> None:
    """Give a parser, or a group of its flags, those of the shared ones that are named here."""
    for flag in flags:
        group.add_argument(flag, **_SHARED[flag])
