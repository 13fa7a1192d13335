"""The `read` command: writes stored bars as Parquet or CSV, as they were stored or adjusted for splits."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async._version import __version__
from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, run_cancellable, say
from polygon_async.errors import ConfigError, one_line
from polygon_async.model.units import today
from polygon_async.settings.settings import settings_from
from polygon_async.settings.values import parse_date, parse_last_date, parse_zone

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from polygon_async.archive.output import Output
    from polygon_async.archive.run import Adjusting
    from polygon_async.archive.scan import Wanted
    from polygon_async.cli.commands import Call
    from polygon_async.system.redaction import Redactor

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Read stored bars back: from the objects in the bucket, or from local CSVs. Each object is checked against its digest;
if several hold the same minute, the bar collected last counts. Writes Parquet or CSV, whole or not at all."""
EPILOG = """\
exit codes:
  0  everything stored was written                      2    could not read
  1  a ticker cannot be read (nothing is written),      130  interrupted
     or nothing is stored

examples:
  polygon-async read --tickers AAPL MSFT --from 2026-01-02 --to 2026-06-30 --output bars.parquet
  polygon-async read --universe sp500.csv --adjusted --output bars --partition ticker
  polygon-async read --tickers AAPL --output - | head
"""
_T = TypeVar("_T")
_FAILED = 1
_STORED = {"adjusted": True, "unadjusted": False}
_PLAIN = (
    "tickers",
    "universe",
    "match",
    "limit",
    "bucket",
    "key_prefix",
    "output_dir",
    "concurrency",
    "rate",
    "patience",
)
_DAYS = ("from", "to", "as_of")
_SOURCES = ("auto", "bucket", "local")
_PARTITIONS = ("ticker", "month")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command's own flags, and the shared ones."""
    add_shared(parser.add_argument_group("which tickers"), "--tickers", "--universe", "--match", "--limit")
    days = parser.add_argument_group("which days")
    days.add_argument("--from", metavar="DATE", help="first day, inclusive (default: the first one stored)")
    days.add_argument("--to", metavar="DATE", help="last day, inclusive (default: the last one stored)")

    prices = parser.add_argument_group("which prices")
    prices.add_argument(
        "--adjusted",
        action="store_true",
        help="adjust prices and volumes for splits, which the API lists; for bars that were stored with --no-adjusted",
    )
    prices.add_argument(
        "--as-of", metavar="DATE", help="with --adjusted: the last day whose splits count (default: today)"
    )
    prices.add_argument(
        "--stored",
        choices=list(_STORED),
        metavar="P",
        help="only what was stored adjusted, or unadjusted (default: whichever exists)",
    )

    source = parser.add_argument_group("source")
    source.add_argument(
        "--source",
        choices=_SOURCES,
        metavar="S",
        default=_SOURCES[0],
        help="bucket: the objects in the bucket; local: the CSVs in the output directory; auto: the objects that the"
        " ledger knows, local CSVs of tickers that were never uploaded, or without a ledger the bucket (default: auto)",
    )
    add_shared(source, "--bucket", "--key-prefix", "--output-dir")

    target = parser.add_argument_group("destination")
    target.add_argument(
        "--output", metavar="FILE", help=".parquet, .csv or .csv.gz; - writes a CSV to standard output; required"
    )
    target.add_argument(
        "--partition",
        choices=_PARTITIONS,
        metavar="P",
        help="ticker or month: write a Hive-style directory of Parquet files, one for each",
    )
    target.add_argument(
        "--zone", metavar="Z", default="America/New_York", help="time zone in Parquet (default: America/New_York)"
    )
    add_shared(parser.add_argument_group("how fast"), "--concurrency", "--rate", "--patience")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


@dataclass(slots=True)
class _Result:
    """What was read, ticker by ticker."""

    output: str
    tickers: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    objects: int = 0
    bytes_read: int = 0

    @property
    def bars(self) -> int:
        return sum(told["bars"] for told in self.tickers)

    @property
    def exit_code(self) -> int:
        return 0 if self.bars and not self.failed else _FAILED

    def as_json(self) -> dict[str, Any]:
        written = None if self.exit_code else self.output
        return {
            "version": __version__,
            "exit_code": self.exit_code,
            "output": written,
            "bars": self.bars,
            "objects": self.objects,
            "bytes_read": self.bytes_read,
            "tickers": self.tickers,
            "failed": self.failed,
        }

    def as_text(self) -> str:
        from polygon_async.report.words import counted, first_lines, size

        lines = first_lines(self.remarks, len(self.remarks), most=20, rest="--json names them all")
        lines += [f"failed: {told['ticker']}: {told['error']}" for told in self.failed]
        if self.failed:
            return "\n".join([*lines, "nothing was written, as these tickers would be missing"])
        if not self.bars:
            return "\n".join([*lines, "nothing is stored for these tickers and days; nothing was written"])
        some = sum(1 for told in self.tickers if told["bars"])
        read = f"{counted(self.objects, 'object')}, {size(self.bytes_read)} read" if self.objects else "local files"
        where = "on standard output" if self.output == "-" else f"in {self.output}"
        done = f"{counted(some, 'ticker')}, {counted(self.bars, 'bar')} {where} ({read})"
        return "\n".join([*lines, done])


def run(call: Call) -> int:
    """Read, write, and say what was written."""
    flags = vars(call.flags)
    zone = _parsed(flags, "zone", parse_zone) or ""
    if not flags["output"]:
        raise ConfigError("--output is missing: name a .parquet, .csv or .csv.gz file, or - for standard output")
    if flags["as_of"] is not None and not flags["adjusted"]:
        raise ConfigError("--as-of needs --adjusted")
    if flags["output"] == "-" and flags["json"]:
        raise ConfigError("--json needs --output FILE: with -, the bars go to standard output")
    days = {name: _parsed(flags, name, parse_date if name == "from" else parse_last_date) for name in _DAYS}
    if days["from"] and days["to"] and days["from"] > days["to"]:
        raise ConfigError(f"the range ends before it starts: --from {days['from']} is after --to {days['to']}")
    plain = {name: flags[name] for name in _PLAIN} | {"processes": "0", "from": "1970-01-01", "to": f"{today()}"}
    settings = settings_from(plain, call.environment, needs_key=flags["adjusted"])
    log_to(logging.StreamHandler(), call.flags, call.redact)

    from polygon_async.archive.output import output_for
    from polygon_async.archive.run import Adjusting
    from polygon_async.archive.scan import Source, Wanted
    from polygon_async.settings import universe

    tickers = sorted(universe.of(replace(settings, shard=None)), key=lambda ticker: ticker.symbol)
    symbols = [ticker.symbol for ticker in tickers]
    output = output_for(flags["output"], partition=flags["partition"], symbols=symbols, zone=zone)
    wanted = Wanted(
        tickers=tickers,
        first=days["from"],
        last=days["to"],
        source=Source(flags["source"]),
        stored=_STORED.get(flags["stored"]),
        bucket=settings.bucket,
        key_prefix=settings.key_prefix,
        directory=settings.output_dir,
        concurrency=settings.concurrency,
        patience=settings.patience,
    )
    adjusting = None
    if flags["adjusted"]:
        adjusting = Adjusting(as_of=days["as_of"] or today(), access=settings.access, source=settings.source)
    result = _Result(flags["output"])
    try:
        run_cancellable(_read(wanted, adjusting, output, result, call.redact))
    finally:
        output.discard()
    return _told(result, call.redact, as_json=flags["json"])


async def _read(wanted: Wanted, adjusting: Adjusting | None, output: Output, result: _Result, redact: Redactor) -> None:
    """Write all that is stored; what is wrong with a ticker is noted, and then nothing is written any more."""
    import contextlib

    from polygon_async.archive.reader import Count
    from polygon_async.archive.run import read, remarks
    from polygon_async.archive.scan import Failure
    from polygon_async.report.progress import showing
    from polygon_async.report.words import counted, size
    from polygon_async.system.threads import Threads

    count, total = Count(), len(wanted.tickers)

    def words() -> str:
        done = f"{count.tickers:,} of {counted(total, 'ticker')} read"
        return f"{done}, {counted(count.bars, 'bar')}, {size(count.bytes_read)}"

    async with Threads(1) as writing, showing(words):
        found = read(wanted, output.prepare, adjusting=adjusting, count=count, on_secret=redact.add)
        async with contextlib.aclosing(found) as each:
            async for one in each:
                if isinstance(one, Failure):
                    result.failed.append({"ticker": one.ticker.symbol, "error": redact(str(one.error))})
                    continue
                symbol = one.bars.ticker.symbol
                said = remarks(one.bars)
                result.remarks += [f"{symbol}: {remark}" for remark in said]
                result.tickers.append(_facts(one.bars, said))
                if one.made is not None and not result.failed:
                    await writing(output.add, one.made)
                if not output.is_wanted:
                    break
        result.objects, result.bytes_read = count.objects, count.bytes_read
        if not result.exit_code:
            await writing.surely(output.finish)


def _facts(bars: Any, said: Sequence[str]) -> dict[str, Any]:
    from polygon_async.model.days import iso_dates_of

    rows = bars.rows
    return {
        "ticker": bars.ticker.symbol,
        "bars": len(rows),
        "first": int(rows.stamps[0]) if len(rows) else None,
        "last": int(rows.stamps[-1]) if len(rows) else None,
        "pieces": bars.pieces,
        "doubles": bars.doubles,
        "differing": bars.differing,
        "lacking": iso_dates_of(bars.lacking),
        "remarks": list(said),
    }


def _told(result: _Result, redact: Redactor, *, as_json: bool) -> int:
    if result.output == "-":
        # The bars are the result; what is to be said of them goes to standard error.
        log = logging.getLogger(__name__)
        for line in redact(result.as_text()).splitlines():
            log.log(logging.ERROR if result.exit_code else logging.INFO, "%s", line)
        return result.exit_code
    told = redact(json.dumps(result.as_json()) if as_json else result.as_text())
    return result.exit_code if say(told) else COULD_NOT


def _parsed(flags: Mapping[str, Any], name: str, parse: Callable[[str], _T]) -> _T | None:
    text = flags[name]
    if text is None:
        return None
    try:
        return parse(text.strip())
    except ValueError as error:
        raise ConfigError(f"--{name.replace('_', '-')} {one_line(repr(text))}: {error}") from None
