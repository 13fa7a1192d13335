"""The `universe` command: writes a universe's CSV from the API's list of tickers."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async._version import __version__
from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, refuse, run_cancellable, say, say_file
from polygon_async.errors import ConfigError, one_line
from polygon_async.polygon.exchanges import mic_of
from polygon_async.settings.settings import settings_from
from polygon_async.settings.universe import Choice
from polygon_async.settings.values import parse_date

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from datetime import date

    from polygon_async.cli.commands import Call
    from polygon_async.polygon.reference import TickerQuery
    from polygon_async.polygon.universe import Universe
    from polygon_async.settings.settings import Settings

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

log = logging.getLogger(__name__)

DESCRIPTION = """\
Write a CSV for --universe from the API's own list of tickers (v3/reference/tickers): ticker, name, exchange,
currency, asset_type, type, list_date, delist_date. Each request returns up to 1,000 tickers."""
EPILOG = """\
A flag with several values takes what matches any of them. Duplicates are dropped; if several companies have had the
same ticker, the active one is kept, else the one delisted last.

exit codes:
  0  written      1  no ticker matches   2  could not run, or could not continue   130  interrupted

examples:
  polygon-async universe --type CS ADRC --exchange NASDAQ NYSE --output stocks.csv
  polygon-async universe --type ETF --date 2024-12-31 --active --delisted > etfs.csv
  polygon-async universe --market crypto --match '*USD' --output pairs.csv
  polygon-async universe --type CS | polygon-async --universe - --limit 100
"""

_MARKETS = ("stocks", "crypto", "fx", "otc", "indices")
_TYPE = re.compile(r"[A-Z0-9_]{1,20}")
_SETTINGS = ("concurrency", "rate", "patience", "stall_timeout", "outage_patience", "match", "limit")
_NOTHING = 1

_T = TypeVar("_T")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The filters, and the shared flags."""
    which = parser.add_argument_group("which tickers")
    which.add_argument(
        "--market",
        nargs="+",
        metavar="M",
        choices=_MARKETS,
        default=["stocks"],
        help=f"{', '.join(_MARKETS[:-1])} or {_MARKETS[-1]} (default: stocks)",
    )
    which.add_argument(
        "--type", nargs="+", metavar="T", default=[], help="CS, ETF, ADRC, PFD, WARRANT ... (default: all)"
    )
    which.add_argument(
        "--exchange",
        nargs="+",
        metavar="X",
        default=[],
        dest="listed_on",
        help="primary exchange, by code or name: XNAS or NASDAQ, ARCX or 'NYSE ARCA' (default: all)",
    )
    which.add_argument("--active", action="store_true", help="currently traded tickers (the default)")
    which.add_argument("--delisted", action="store_true", help="tickers no longer traded; with --active, both kinds")
    which.add_argument("--date", metavar="DATE", help="the list as of this day (default: the newest list)")
    add_shared(which, "--match", "--limit")

    where = parser.add_argument_group("destination")
    where.add_argument(
        "--output", metavar="FILE", default="-", help="the file to write or replace (default: standard output)"
    )
    where.add_argument(
        "--list-dates",
        action="store_true",
        help="also fill in list_date, which the list lacks: one more request for each ticker",
    )

    pace = parser.add_argument_group("how fast")
    add_shared(pace, "--concurrency", "--rate", "--patience", "--stall-timeout", "--outage-patience")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What the flags ask for, checked."""

    questions: tuple[TickerQuery, ...]
    day: date | None
    output: Path | None
    """None: standard output."""
    list_dates: bool
    as_json: bool


def run(call: Call) -> int:
    """Gather the tickers, write them, and print how many there are."""
    flags = vars(call.flags)
    order = _order(flags)
    settings = settings_from({name: flags[name] for name in _SETTINGS} | {"processes": "0"}, call.environment)
    log_to(logging.StreamHandler(), call.flags, call.redact)

    from polygon_async.polygon.universe import as_csv
    from polygon_async.system.files import disk_errors, replace_file

    universe, requests = run_cancellable(_gathered(order, settings))
    if not universe.entries:
        return refuse("no ticker on the list matches; nothing was written", as_json=order.as_json, code=_NOTHING)
    text = as_csv(universe.entries)
    if order.output is None:
        return 0 if say_file(text) else COULD_NOT
    with disk_errors(order.output):
        replace_file(order.output, text)
    result = {
        "version": __version__,
        "exit_code": 0,
        "output": str(order.output),
        "tickers": len(universe.entries),
        "doubles": universe.duplicates,
        "left_out": universe.left_out,
        "requests": requests,
    }
    return 0 if say(json.dumps(result) if order.as_json else _sentence(result)) else COULD_NOT


async def _gathered(order: _Order, settings: Settings) -> tuple[Universe, int]:
    """The tickers, and how many requests they took."""
    from polygon_async.model.counters import Counters
    from polygon_async.polygon.session import open_polygon
    from polygon_async.polygon.universe import gather
    from polygon_async.system.machine import provide_files
    from polygon_async.system.threads import Threads

    provide_files(settings.concurrency, each=1)
    counters = Counters()
    choice = Choice(match=settings.match, limit=settings.limit)
    async with Threads(2) as offload, open_polygon(settings.access, offload=offload, counters=counters) as client:
        universe = await gather(
            order.questions,
            client=client,
            takes=choice.takes,
            list_dates=order.list_dates,
            day=order.day,
            workers=settings.concurrency,
        )
    return universe, counters.requests


def _sentence(result: dict[str, Any]) -> str:
    from polygon_async.report.words import counted

    asides = [counted(result["requests"], "request")]
    asides += [f"{counted(result['doubles'], 'duplicate')} dropped"] if result["doubles"] else []
    return f"{counted(result['tickers'], 'ticker')} in {result['output']} ({', '.join(asides)})"


def _order(flags: dict[str, Any]) -> _Order:
    from polygon_async.polygon.reference import TickerQuery

    day = None if flags["date"] is None else _parsed("date", flags["date"], parse_date)
    actives = [True] * (flags["active"] or not flags["delisted"]) + [False] * flags["delisted"]
    chosen = product(
        dict.fromkeys(flags["market"]),
        dict.fromkeys(_parsed("type", text, _type) for text in flags["type"]) or [None],
        dict.fromkeys(_parsed("exchange", text, mic_of) for text in flags["listed_on"]) or [None],
        actives,
    )
    output = _output(flags["output"])
    if flags["json"] and output is None:
        raise ConfigError("--json needs --output FILE: without it, the CSV goes to standard output")
    return _Order(
        questions=tuple(
            TickerQuery(market=market, type=type_, exchange=exchange, active=active, day=day)
            for market, type_, exchange, active in chosen
        ),
        day=day,
        output=output,
        list_dates=flags["list_dates"],
        as_json=flags["json"],
    )


def _parsed(flag: str, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"--{flag} {one_line(repr(text))}: {error}") from None


def _type(text: str) -> str:
    if not _TYPE.fullmatch(text.strip().upper()):
        raise ValueError("must be a word such as CS, ETF or ADRC")
    return text.strip().upper()


def _output(text: str) -> Path | None:
    if text == "-":
        return None
    from polygon_async.system.files import check_replaceable

    path = Path(text)
    try:
        check_replaceable(path)
    except OSError as error:
        said = "not a file" if error.errno in {errno.EISDIR, errno.ENXIO} else f"cannot be written ({error.strerror})"
        raise ConfigError(f"--output {one_line(repr(text))}: {said}") from error
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"--output {one_line(repr(text))}: its directory does not exist")
    if not os.access(path.resolve().parent, os.W_OK):
        raise ConfigError(f"--output {one_line(repr(text))}: its directory is not writable")
    return path
