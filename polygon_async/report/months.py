"""Sessions with bars by month, in; a table out whose newest months come first, so that none is cut off."""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

from polygon_async.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["months_table"]

_MOST_MONTHS = 24
"""Of the newest, each has a column; before them, each year has one."""


def months_table(coverage: Mapping[str, Any]) -> str:
    """The table of all tickers together, and of those that lack most; nothing, if no sessions are known."""
    if not coverage["months"]:
        return ""
    periods = _periods(month for month, *_ in coverage["months"])
    head = "".join(f'<th scope="col">{escape(name[2:] if "-" in name else name)}</th>' for name in periods)
    whole = {month: (found, expected) for month, found, expected in coverage["months"]}
    rows = [_row("1 ticker" if coverage["of"] == 1 else f"all {counted(coverage['of'], 'ticker')}", whole, periods)]
    rows += [_row(each["ticker"], each["months"], periods, gaps=each["missing"]) for each in coverage["tickers"]]
    return (
        f'<div class="scroll"><table class="months"><tr><th scope="col">ticker</th>{head}</tr>{"".join(rows)}</table>'
        "</div><p class=\"soft\">Share of a month's (or year's) sessions with bars, in percent, the newest first;"
        " framed: sessions are missing.</p>"
    )


def _periods(months: Iterable[str]) -> dict[str, list[str]]:
    """The columns, the newest first, each with its months."""
    newest = sorted(months, reverse=True)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for place, month in enumerate(newest):
        found[month if place < _MOST_MONTHS else month[:4]].append(month)
    return dict(found)


def _row(
    name: str,
    months: Mapping[str, Sequence[int]],
    periods: Mapping[str, Sequence[str]],
    gaps: Sequence[str] = (),
) -> str:
    with_gap = {day[:7] for day in gaps}
    cells = []
    for period, its_months in periods.items():
        found, expected = (sum(months.get(month, (0, 0))[place] for month in its_months) for place in (0, 1))
        if not expected:
            cells.append('<td class="m"></td>')
            continue
        share = found / expected
        frame = " g" if with_gap.intersection(its_months) else ""
        colour = f"background: rgb(var(--good) / {0.08 + 0.5 * share:.2f})"
        title = escape(f"{name}, {period}: {found} of {counted(expected, 'session')}")
        # What is not whole is never shown as 100.
        shown = 100 if found == expected else min(99, round(share * 100))
        cells.append(f'<td class="m{frame}" style="{colour}" title="{title}">{shown}</td>')
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'
