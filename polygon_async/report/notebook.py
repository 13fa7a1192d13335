"""A run's summary in, a small HTML table for a notebook out."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from polygon_async.errors import one_line
from polygon_async.report.causes import causes
from polygon_async.report.words import counted, duration, size

if TYPE_CHECKING:
    from polygon_async.report.summary import Summary

__all__ = ["notebook_html"]

_MOST_CAUSES = 5
_MOST_RETRIES = 5
_CODES = {0: "done", 1: "done, but some tickers failed or none had data", 2: "stopped", 130: "interrupted"}
_ENDS = {
    "earlier": "of them in earlier runs",
    "no_data": "without data",
    "failed": "failed",
    "unfinished": "not finished",
}
"""What is told of tickers that ended in a way, if any did."""


def notebook_html(summary: Summary) -> str:
    """A table of a few rows, however many tickers there were; everything in it is escaped."""
    told = summary.totals()
    count = told["tickers"]
    state = f"{_CODES[told['exit_code']]} (exit code {told['exit_code']}), in {duration(summary.seconds)}"
    prices = "adjusted" if summary.adjusted else "not adjusted"
    start = "each from its last day" if summary.since_last else f"{summary.start}"
    tickers = [f"{count['done']:,} of {count['total']:,} done"]
    tickers += [f"{count[name]:,} {words}" for name, words in _ENDS.items() if count[name]]
    stored = f", {size(told['stored_bytes'])} in S3" if told["stored_bytes"] else ""
    rows = [("state", state)]
    rows += [("error", one_line(told["error"]))] if told["error"] else []
    rows += [
        ("tickers", ", ".join(tickers)),
        ("days", f"{start} to {summary.end}, {prices}"),
        ("bars", f"{told['bars']:,}, {size(told['csv_bytes'])} of CSV{stored}"),
        ("requests", f"{told['requests']:,}{_retries(told['retries'])}"),
    ]
    found = causes(summary.failed)
    rows += [("failed", one_line(cause)) for cause in found[:_MOST_CAUSES]]
    if len(found) > _MOST_CAUSES:
        rows.append(("", f"and {counted(len(found) - _MOST_CAUSES, 'more cause')}: see summary.failed"))
    cells = (f'<tr><th style="text-align:left">{name}</th>{_cell(text)}</tr>' for name, text in rows)
    return f"<table><tbody>{''.join(cells)}</tbody></table>"


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{escape(text)}</td>'


def _retries(retries: dict[str, int]) -> str:
    """The most frequent reasons."""
    if not retries:
        return ""
    most = sorted(retries.items(), key=lambda item: -item[1])[:_MOST_RETRIES]
    more = ", ..." if len(retries) > _MOST_RETRIES else ""
    return f", including retries: {', '.join(f'{number:,} x {reason}' for reason, number in most)}{more}"
