"""A run's summary in, a small HTML table for a notebook out, however many tickers there were."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from polygon_async.report.causes import causes
from polygon_async.report.words import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polygon_async.model.units import Outcome

__all__ = ["notebook_html"]

_MOST_CAUSES = 10
_ALSO = {"no_data": "without data", "failed": "failed", "unfinished": "not finished"}


def notebook_html(totals: Mapping[str, Any], failed: Iterable[Outcome]) -> str:
    """The table of a run.

    Args:
        totals: What `Summary.totals` returns.
        failed: The outcomes that failed.
    """
    tickers = totals["tickers"]
    rows = [
        ("tickers done", f"{tickers['done']:,} of {tickers['total']:,}"),
        *((word, f"{tickers[name]:,}") for name, word in _ALSO.items() if tickers[name]),
        ("range", f"{totals['from']} to {totals['to']}"),
        ("bars", f"{totals['bars']:,}"),
        ("CSV", size(totals["csv_bytes"])),
        ("in S3", size(totals["stored_bytes"])),
        ("requests", f"{totals['requests']:,}"),
        ("time", duration(totals["seconds"])),
        ("exit code", f"{totals['exit_code']}"),
    ]
    if totals["error"]:
        rows.append(("error", totals["error"]))
    found = causes(failed)
    rows += [("failed", str(cause)) for cause in islice(found, _MOST_CAUSES)]
    if len(found) > _MOST_CAUSES:
        rows.append(("", f"and {len(found) - _MOST_CAUSES:,} more causes"))
    cells = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th><td style="text-align: left">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{cells}</table>"
