"""The result of a run: its text, its JSON, its exit code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async._version import __version__
from polygon_async.model.days import dates_of
from polygon_async.model.layout import FAILED_CSV, NO_DATA_CSV, REPORT_HTML, csv_name
from polygon_async.model.spelling import with_likely
from polygon_async.model.states import OutcomeState
from polygon_async.report.causes import causes
from polygon_async.report.notebook import notebook_html
from polygon_async.report.words import counted, day, duration, first_lines, moment, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from polygon_async.model.counters import Counters
    from polygon_async.model.sessions import Coverage
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Outcome
    from polygon_async.report.estimate import Estimate

__all__ = ["Summary"]

_MOST_LINES = 10
_MOST_DAYS = 3
_ROOM = 8
"""Of the titles at the lines' start."""
_SESSIONS_OF_A_WEEK = 5
_DONE = (OutcomeState.UPLOADED, OutcomeState.SAVED)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Summary:
    """The result of a run, however it ended."""

    tickers: Sequence[Ticker]
    """The universe of the run, in order."""
    outcomes: Sequence[Outcome]
    """One for every unit that ended, in order of ending."""
    counters: Counters
    start: date
    end: date
    adjusted: bool
    collected: datetime
    """When the run started, UTC: the time in its objects' keys."""
    seconds: float
    directory: Path
    """The output directory."""
    interrupted: bool = False
    error: str | None = None
    """What stopped the run, if anything did."""
    coverages: Mapping[str, Coverage] = field(default_factory=dict)
    """Which sessions the bars of each ticker cover, by symbol, as far as that is known."""
    estimate: Estimate | None = None
    """The estimate that a plan would have given before the run, without a sample."""
    since_last: bool = False
    """Whether each ticker's range began on the day after the last one that was held."""
    has_earlier: bool = False
    """Whether bars from before the range were held of any ticker: then a range without any is no failure."""
    words: Sequence[str] = ()
    """What the command line said beside tickers and days."""
    command: Sequence[str] = ()
    """All that the command line said; empty for a run that was started from Python."""
    keeps_csv: bool = True
    """Whether CSVs stay after their upload."""
    anew: Sequence[str] = ()
    """Tickers of which all that was held was fetched anew, as they were split since."""

    def __repr__(self) -> str:
        told = self.totals()
        return f"<Summary: {_counted(told['tickers'])}, {counted(told['bars'], 'bar')}, exit code {self.exit_code}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a small table, however many tickers there were."""
        return notebook_html(self)

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed or none had data, 2 could not go on, 130 interrupted."""
        if self.error is not None:
            return 2
        if self.interrupted:
            return 130
        # Where there was no ticker to do, as in a small universe's empty shard, nothing is wrong.
        return 1 if self.failed or (self.tickers and not (self.done or self.has_earlier)) else 0

    @property
    def done(self) -> list[Outcome]:
        """Units whose bars arrived where they should."""
        return [o for o in self.outcomes if o.state in _DONE]

    @property
    def failed(self) -> list[Outcome]:
        """Units that failed, with their errors."""
        return [o for o in self.outcomes if o.state is OutcomeState.FAILED]

    @property
    def no_data(self) -> list[Outcome]:
        """Units whose range has no bar."""
        return [o for o in self.outcomes if o.state is OutcomeState.NO_DATA]

    @property
    def unfinished(self) -> list[Ticker]:
        """Tickers that the run did not finish."""
        ended = {outcome.unit.ticker.symbol for outcome in self.outcomes}
        return [ticker for ticker in self.tickers if ticker.symbol not in ended]

    @property
    def was_stopped(self) -> bool:
        """Whether the run ended before everything was tried."""
        return self.interrupted or self.error is not None

    @property
    def late(self) -> list[Outcome]:
        """Units whose first bar comes more than a week after the range's start."""
        return [outcome for outcome in self.done if outcome.starts_late_by is not None]

    def as_json(self) -> dict[str, Any]:
        """The summary as one JSON object; times in s, sizes in bytes, moments in ISO 8601."""
        return {**self.totals(), **{name: list(each) for name, each in self.lists().items()}}

    def totals(self) -> dict[str, Any]:
        """The summary without its lists; its size does not grow with the number of tickers."""
        done = self.done
        return {
            "version": __version__,
            "exit_code": self.exit_code,
            "error": self.error,
            "interrupted": self.interrupted,
            "collected": self.collected.isoformat(timespec="seconds"),
            "from": "last" if self.since_last else self.start.isoformat(),
            "to": self.end.isoformat(),
            "adjusted": self.adjusted,
            "tickers": {
                "total": len(self.tickers),
                "done": len(done),
                "earlier": sum(o.earlier for o in done),
                "no_data": len(self.no_data),
                "failed": len(self.failed),
                "unfinished": len(self.unfinished),
            },
            "bars": sum(o.csv.bars for o in done if o.csv),
            "doubles": sum(o.csv.duplicates for o in done if o.csv),
            "csv_bytes": sum(o.csv.size for o in done if o.csv),
            "stored_bytes": sum(o.receipt.size for o in done if o.receipt),
            "requests": self.counters.requests,
            "estimate": self.estimate and self.estimate.as_json(),
            "answers": {str(status): count for status, count in sorted(self.counters.answers.items())},
            "retries": dict(sorted(self.counters.retries.items())),
            "seconds": round(self.seconds, 3),
            "again": self.again or None,
            "workers": [count.as_json(name) for name, count in sorted(self.counters.workers.items())],
            **self.counters.measures.as_json(),
        }

    def lists(self) -> dict[str, Iterator[Any]]:
        """The summary's lists, by their names in the JSON object: what ended how, and what is left."""
        return {
            "done": (self._done_json(each) for each in self.done),
            "no_data": (each.unit.ticker.symbol for each in self.no_data),
            "failed": ({"ticker": each.unit.ticker.symbol, "error": each.error or ""} for each in self.failed),
            "causes": (each.as_json() for each in causes(self.failed)),
            "unfinished": (ticker.symbol for ticker in self.unfinished),
            "fetched_anew": iter(self.anew),
            "odd": ({"ticker": symbol, "bars": dict(found)} for symbol, found in self.counters.odd.items()),
            "in_doubt": ({"ticker": symbol, "note": note} for symbol, note in self._notes()),
        }

    def as_text(self) -> str:
        """The summary for a person: a few lines, however many tickers there were."""
        summed = self.totals()
        head = f"{_counted(summed['tickers'])}, in {duration(self.seconds)} ({self._first_day} to {self.end})"
        stored = f", {size(summed['stored_bytes'])} in S3" if summed["stored_bytes"] else ""
        lines = [("bars", f"{summed['bars']:,}, {size(summed['csv_bytes'])} of CSV{stored}")]
        retries = ", ".join(f"{count} x {reason}" for reason, count in summed["retries"].items())
        told = f", including retries: {retries}" if retries else ""
        lines.append(("requests", f"{summed['requests']:,}{told}{self._expected}"))
        if summed["workers"]:
            lost = sum(each["lost"] for each in summed["workers"])
            lines.append(("workers", f"{len(summed['workers']):,}{f', {lost:,} of them lost' if lost else ''}"))
        if summed["doubles"]:
            repeated = "1 bar was" if summed["doubles"] == 1 else f"{summed['doubles']:,} bars were"
            lines.append(("repeated", f"{repeated} sent twice, identically, and kept once"))
        lines += _titled("split", self.anew, lambda symbol: f"{symbol}, since it was last fetched: refetched in full")
        lines += _titled("odd bars", list(self.counters.odd.items()), _odd)
        lines += _titled("in doubt", self._notes(), lambda each: f"{each[0]}: {each[1]}")
        lines += _titled("starts late", self.late, _late_start)
        lines += _titled("gaps", [each for each in self.coverages.items() if each[1].missing], _gap)
        lines += _titled("ends early", self._ended_early(), _early_end)
        nothing = [with_likely(each.unit.ticker.symbol) for each in self.no_data]
        lines += _titled("no data", nothing, str, str(self.directory / NO_DATA_CSV))
        lines += _titled("failed", causes(self.failed), str, str(self.directory / FAILED_CSV))
        lines.append(("files", self._files))
        lines += [("again", again)] if (again := self.again) else []
        room = max(_ROOM, *(len(title) for title, _ in lines))
        return "\n".join([head, *(f"  {title:<{room}}  {line}" for title, line in lines)])

    @property
    def _files(self) -> str:
        """Where the run's files lie."""
        csvs = [f"CSVs in {self.directory}"] if self.done and self.keeps_csv else []
        lists = [FAILED_CSV] if self.failed or (self.was_stopped and self.unfinished) else []
        lists += [NO_DATA_CSV] if self.no_data else []
        return ", ".join([*csvs, *(str(self.directory / name) for name in (*lists, REPORT_HTML))])

    @property
    def again(self) -> str:
        """The whole command, ready to paste, that runs what failed or was not finished; empty if there is nothing.

        A run that was stopped goes on by the command that began it; what failed is a universe of its own.
        """
        if not self.failed and not (self.was_stopped and self.unfinished):
            return ""
        if self.was_stopped and self.command and "-" not in self.command:
            return shlex.join(["polygon-async", *self.command])
        start = "last" if self.since_last else f"{self.start}"
        words = [
            "polygon-async",
            "--universe",
            str(self.directory / FAILED_CSV),
            "--from",
            start,
            "--to",
            f"{self.end}",
        ]
        words += [] if self.adjusted or "--no-adjusted" in self.words else ["--no-adjusted"]
        return shlex.join([*words, *self.words])

    def _done_json(self, outcome: Outcome) -> dict[str, Any]:
        symbol = outcome.unit.ticker.symbol
        csv = self.directory / csv_name(symbol) if self.keeps_csv else None
        return _done_json(outcome, self.coverages.get(symbol), csv)

    def _notes(self) -> list[tuple[str, str]]:
        """What a person should look at: ticker and sentence."""
        return [(symbol, note) for symbol, notes in self.counters.notes.items() for note in notes]

    def _ended_early(self) -> list[tuple[str, Coverage]]:
        """Tickers without a bar in the range's last sessions, more than a week of them."""
        return [(symbol, found) for symbol, found in self.coverages.items() if found.after > _SESSIONS_OF_A_WEEK]

    @property
    def _expected(self) -> str:
        if self.estimate is None or not self.estimate.units:
            return ""
        low, high = self.estimate.requests.as_json()
        return f" (expected: {low:,} to {high:,})"

    @property
    def _first_day(self) -> str:
        return "each from its last day" if self.since_last else self.start.isoformat()


def _counted(tickers: Mapping[str, int]) -> str:
    before = f" ({tickers['earlier']:,} in earlier runs)" if tickers["earlier"] else ""
    parts = [f"{tickers['done']:,} of {counted(tickers['total'], 'ticker')} done{before}"]
    parts += [f"{tickers['no_data']:,} without data"] if tickers["no_data"] else []
    parts += [f"{tickers['failed']:,} failed"] if tickers["failed"] else []
    parts += [f"{tickers['unfinished']:,} not finished"] if tickers["unfinished"] else []
    return ", ".join(parts)


def _late_start(outcome: Outcome) -> str:
    symbol = outcome.unit.ticker.symbol
    first = "" if outcome.csv is None else day(outcome.csv.first, symbol)
    return f"{symbol}'s first bar is on {first}"


def _odd(each: tuple[str, Mapping[str, int]]) -> str:
    symbol, found = each
    told = ", ".join(f"{count:,} with {what}" for what, count in sorted(found.items()))
    return f"{symbol} has bars with impossible values, kept as received: {told}"


def _early_end(covered: tuple[str, Coverage]) -> str:
    symbol, found = covered
    return f"{symbol} has no bars in the last {counted(found.after, 'session')}"


def _gap(covered: tuple[str, Coverage]) -> str:
    symbol, found = covered
    count = found.missing.bit_count()
    shown = ", ".join(f"{each}" for each in islice(dates_of(found.missing), _MOST_DAYS))
    rest = f" and {count - _MOST_DAYS:,} more" if count > _MOST_DAYS else ""
    return f"{symbol} has no bars in {count:,} of {counted(found.expected, 'session')}: {shown}{rest}"


def _done_json(outcome: Outcome, coverage: Coverage | None, csv: Path | None) -> dict[str, Any]:
    unit = outcome.unit
    facts: dict[str, Any] = {
        "ticker": unit.ticker.symbol,
        "from": unit.start.isoformat(),
        "to": unit.end.isoformat(),
        "earlier": outcome.earlier,
        "csv": None if csv is None else str(csv),
    }
    if outcome.csv is not None:
        facts |= {
            "bars": outcome.csv.bars,
            "first": moment(outcome.csv.first),
            "last": moment(outcome.csv.last),
            "starts_late": outcome.starts_late_by is not None,
        }
    if coverage is not None:
        facts["sessions"] = coverage.as_json()
    if outcome.seconds is not None:
        facts["seconds"] = round(outcome.seconds, 3)
    if outcome.receipt is not None:
        receipt = outcome.receipt
        facts |= {"bucket": receipt.bucket, "key": receipt.key, "size": receipt.size, "existed": receipt.existed}
    return facts


def _titled(
    title: str, told: Sequence[_T], line: Callable[[_T], str], everything: str = "--json"
) -> list[tuple[str, str]]:
    """A line for each of the first items under a title, and where all of them are."""
    shown = first_lines(map(line, told), len(told), most=_MOST_LINES, rest=f"see {everything}")
    return [("" if number else title, text) for number, text in enumerate(shown)]
