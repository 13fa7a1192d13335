"""A run's report as one plain value, from which its page can be made again at any time."""

from __future__ import annotations

import json
from collections import Counter
from heapq import nlargest, nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any

from polygon_async.model.days import by_month
from polygon_async.model.layout import csv_name, report_names
from polygon_async.report.html import html_of
from polygon_async.report.words import moment
from polygon_async.system.files import disk_errors, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from polygon_async.model.counters import Measures
    from polygon_async.model.units import Outcome
    from polygon_async.report.coverage import Covered
    from polygon_async.report.summary import Summary
    from polygon_async.system.threads import Threads

__all__ = ["coverage_report", "redacted", "report_of", "write_report"]

_MOST_SLOW = 15
_MOST_COVERED = 60
_MOST_FAILED = 500
_MOST_FILES = 500


async def coverage_report(covered: Sequence[Covered], *, offload: Threads) -> dict[str, Any]:
    """The report's part on sessions: those of all tickers by month, and the tickers that lack most."""
    sessions: Counter[int] = Counter()
    expected: Counter[str] = Counter()
    with_bars: Counter[str] = Counter()

    def count(each: Covered) -> None:
        sessions[each.expected.days] += 1
        with_bars.update(_with_bars(each))

    await offload.each(count, covered)
    for days, tickers in sessions.items():
        expected.update({month: count * tickers for month, count in by_month(days).items()})
    worst = await offload(nsmallest, _MOST_COVERED, covered, key=_lack)
    return {
        "months": [[month, with_bars[month], expected[month]] for month in sorted(expected)],
        "tickers": [_covered(each) for each in worst],
        "of": len(covered),
        "with_gaps": sum(bool(each.found.missing) for each in covered),
    }


def report_of(summary: Summary, settings: Mapping[str, object], coverage: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a run; apart from the failures, its size does not grow with the number of tickers.

    Args:
        summary: The run.
        settings: Its settings, without secrets.
        coverage: What `coverage_report` made.
    """
    lists, measures = summary.lists(), summary.counters.measures
    timed = [outcome for outcome in summary.outcomes if outcome.seconds is not None]
    return {
        **summary.totals(),
        "settings": {name: _plain(value) for name, value in settings.items()},
        "series": _series(measures),
        "latencies": _latencies(measures),
        "slowest": [_slow(outcome) for outcome in nlargest(_MOST_SLOW, timed, key=lambda each: each.seconds or 0)],
        "causes": list(islice(lists["causes"], _MOST_FAILED)),
        "failures": list(islice(lists["failed"], _MOST_FAILED)),
        "odd": list(islice(lists["odd"], _MOST_FAILED)),
        "in_doubt": list(islice(lists["in_doubt"], _MOST_FAILED)),
        "unfinished_tickers": list(islice(lists["unfinished"], _MOST_FAILED)),
        "no_data_tickers": list(islice(lists["no_data"], _MOST_FAILED)),
        "files": [_file(outcome, summary) for outcome in islice(summary.done, _MOST_FILES)],
        "command": list(islice(summary.command, _MOST_FILES)),
        "coverage": dict(coverage),
    }


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A plain value with secrets removed from its texts; numbers stay as they are, however short a secret is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(each, redact) for name, each in value.items()}
    return [redacted(each, redact) for each in value] if isinstance(value, list) else value


def write_report(report: Mapping[str, Any], directory: Path, *, run: int | None = None) -> Path:
    """Write a report as JSON and as a page, each replaced as a whole; returns the page's path.

    Args:
        report: What it says.
        directory: Where to write it.
        run: The number of an earlier run, whose report stands beside the newest one; None: it is the newest.

    Raises:
        DiskUnusable: they cannot be written.
    """
    page, values = (directory / name for name in report_names(run))
    for path, text in ((values, json.dumps(report, indent=1) + "\n"), (page, html_of(report))):
        with disk_errors(path):
            replace_file(path, text)
    return page


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _series(measures: Measures) -> dict[str, object]:
    """Requests over time: second of the run, requests a second, refused, failed, and allowed ones a second."""
    length = measures.series.seconds
    points = [
        [number * length, span.requests / length, span.refused / length, span.failed / length, span.allowed]
        for number, span in sorted(measures.series.spans.items())
    ]
    return {"seconds": length, "points": points}


def _latencies(measures: Measures) -> list[list[float]]:
    """Upper bound in ms and number of requests of every bucket that has any, eight buckets merged into one."""
    merged: Counter[int] = Counter()
    for number, count in measures.latencies.counts.items():
        merged[-(-number // 8)] += count
    return [[round(1.05 ** (8 * number) * 1000, 1), merged[number]] for number in sorted(merged)]


def _slow(outcome: Outcome) -> dict[str, object]:
    bars = outcome.csv.bars if outcome.csv else 0
    ticker = outcome.unit.ticker.symbol
    return {"ticker": ticker, "seconds": round(outcome.seconds or 0, 3), "bars": bars, "state": str(outcome.state)}


def _file(outcome: Outcome, summary: Summary) -> dict[str, object]:
    """Where a ticker's bars are."""
    symbol = outcome.unit.ticker.symbol
    return {
        "ticker": symbol,
        "state": str(outcome.state),
        "bars": outcome.csv.bars if outcome.csv else 0,
        "csv": str(summary.directory / csv_name(symbol)) if summary.keeps_csv else None,
        "key": outcome.receipt.key if outcome.receipt else None,
    }


def _lack(each: Covered) -> tuple[int, int, int]:
    """The more a ticker lacks, the less this is."""
    return -each.found.missing.bit_count(), -each.found.after, -each.found.before


def _with_bars(each: Covered) -> dict[str, int]:
    """How many of a ticker's sessions have bars, by month."""
    csv = each.outcome.csv
    return by_month(each.expected.days & (0 if csv is None else csv.days or 0))


def _covered(each: Covered) -> dict[str, object]:
    found, csv = _with_bars(each), each.outcome.csv
    return {
        "ticker": each.outcome.unit.ticker.symbol,
        **each.found.as_json(),
        "first": moment(csv.first) if csv else None,
        "last": moment(csv.last) if csv else None,
        "months": {month: [found.get(month, 0), count] for month, count in by_month(each.expected.days).items()},
    }
