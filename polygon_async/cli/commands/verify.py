"""The `verify` command: checks the objects in the bucket and the local files, and repairs objects on request."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, run_cancellable, say
from polygon_async.errors import ConfigError
from polygon_async.settings.settings import settings_from

if TYPE_CHECKING:
    import argparse

    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Check that every uploaded object is still in the bucket, unchanged: size, checksum, metadata and all tags; with --deep
also the content; and that local files exist unchanged. If nothing was uploaded, only local files
are checked, without S3. Findings go to standard output, and to verify.csv in the output directory."""
EPILOG = """\
exit codes:
  0  all objects and files are as they should be        2    could not check
  1  some are not, or none is where it was looked for   130  interrupted

examples:
  polygon-async verify                                  what the ledger in output/ lists as uploaded or saved
  polygon-async verify --deep --tickers AAPL MSFT
  polygon-async verify --repair                         restore tags; upload again, or fetch again
  polygon-async verify --prefix stocks/ --deep          from the bucket alone, without a ledger
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The verification's flags."""
    import argparse

    what = parser.add_argument_group("what to check")
    what.add_argument("--tickers", nargs="+", metavar="T", help="only these tickers of the ledger (default: all)")
    what.add_argument(
        "--prefix",
        metavar="P",
        help="every object whose key starts with P ('' for all), against its own key and metadata, without a ledger;"
        " the policy must allow ListBucket",
    )
    what.add_argument(
        "--deep",
        action="store_true",
        help="also download and decompress: digest, header, count, order, range; and read every local file",
    )
    what.add_argument(
        "--repair",
        action="store_true",
        help="restore tags; upload again from the CSV, or else fetch again (which needs POLYGON_API_KEY)",
    )
    add_shared(parser.add_argument_group("how fast"), "--concurrency", "--rate", "--patience")
    where = parser.add_argument_group("where")
    add_shared(where, "--bucket", "--key-prefix", "--output-dir")
    where.add_argument(
        "--keep-csv",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to keep a CSV after --repair has uploaded it (default: keep)",
    )
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


def run(call: Call) -> int:
    """Verify, and print the findings."""
    if call.flags.repair and call.flags.prefix is not None:
        raise ConfigError(
            "--repair needs the ledger, so it cannot be combined with --prefix; download verify.csv's tickers instead"
        )
    if call.flags.tickers is not None and call.flags.prefix is not None:
        raise ConfigError("--tickers chooses from the ledger, so it cannot be combined with --prefix")
    settings = settings_from(vars(call.flags), call.environment, needs_key=False)
    log_to(logging.StreamHandler(), call.flags, call.redact)

    from polygon_async.verify.run import Wanted, verify

    wanted = Wanted(settings=settings, deep=call.flags.deep, prefix=call.flags.prefix, repair=call.flags.repair)
    report = run_cancellable(verify(wanted, redact=call.redact))
    report.write_list()
    told = call.redact(json.dumps(report.as_json()) if call.flags.json else report.as_text())
    return report.exit_code if say(told) else COULD_NOT
