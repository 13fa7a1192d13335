"""The `plan` command: estimates what a download would take."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from polygon_async.cli.commands import download
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, run_cancellable, say
from polygon_async.errors import ConfigError, one_line
from polygon_async.settings.settings import settings_from

if TYPE_CHECKING:
    import argparse

    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Estimate what a download will take before you spend anything: requests, time, bytes on disk and in S3, as ranges;
and warn of likely mistakes. It takes the download's flags. It sends at most three requests, to measure how many
bars tickers unknown to the ledger have; it does not contact S3."""
EPILOG = """\
exit codes:
  0  planned                                            2    cannot be planned: one line says why

examples:
  polygon-async plan --universe sp500.csv
  polygon-async plan --universe sp500.csv --from last --rate 5/min --offline
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The download's flags, and one more."""
    download.add_flags(parser)
    alone = parser.add_argument_group("what it may spend")
    alone.add_argument("--offline", action="store_true", help="send no request; needs no key")


def run(call: Call) -> int:
    """Make the plan and print it."""
    log_to(logging.StreamHandler(), call.flags, call.redact)
    offline = call.flags.offline
    settings = settings_from({**vars(call.flags), "processes": "0"}, call.environment, needs_key=not offline)

    from polygon_async.run.plan import make_plan
    from polygon_async.settings import universe

    tickers = universe.of(settings)
    try:
        plan = run_cancellable(make_plan(settings, tickers, offline=offline))
    except ValueError as error:
        raise ConfigError(f"the trading sessions of this range are unknown ({one_line(error)})") from error
    told = call.redact(json.dumps(plan.as_json()) if call.flags.json else plan.as_text())
    return 0 if say(told) else COULD_NOT
