"""Pages of bars, whatever their source: how to ask for them, and how each must follow the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Protocol

from polygon_async.bars.columns import TIMESTAMP
from polygon_async.errors import Untrue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from polygon_async.bars.part import Part
    from polygon_async.model.units import Unit

__all__ = [
    "BEGINNING",
    "LONGEST_TAIL",
    "MOST_BARS",
    "Border",
    "Page",
    "Source",
    "Start",
    "Table",
    "border_after",
    "new_rows",
    "next_border",
    "spell_moment",
]

MOST_BARS = 50_000
"""Bars of a full page: the most that one request may ask for."""
LONGEST_TAIL = 100_000
"""Bytes of a page's last rows (over a thousand) that are kept to recognise duplicates in the next page."""


@dataclass(frozen=True, slots=True)
class Border:
    """Where the pages so far have ended; the next page must not contradict it."""

    last: int | None = None
    """Start of the last bar so far, ms UTC; None before the first bar."""
    tail: bytes = field(default=b"", repr=False)
    """The last rows so far, to tell a duplicate from a contradiction."""


_NO_BORDER = Border()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a unit's pages begin, and the file that their rows go to."""

    moment: int | None = None
    """The first moment to request (ms UTC); None: the beginning of the range."""
    border: Border = _NO_BORDER
    """Where the bars before that moment end."""
    part: Part | None = None
    """How far the unit's part file has got; None if there is no file."""
    is_promised: bool = False
    """Whether a next_url said that there are bars from that moment on."""


BEGINNING = Start()
"""The whole range, without a part file."""


@dataclass(frozen=True, slots=True)
class Table:
    """The bars of a page, or the new ones among them."""

    rows: bytes = field(repr=False)
    """CSV, each row with its line end."""
    stamps: NDArray[np.int64]
    """The bars' starts, ms UTC; one for each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page that has passed all checks."""

    rows: bytes = field(repr=False)
    """The new bars as CSV rows, in order, each with its line end; no header."""
    bars: int
    """How many rows."""
    first: int | None
    """Start of the first new bar, ms UTC; None for a page without any."""
    border: Border
    """What the page after this one must follow."""
    days: int = field(repr=False)
    """The days of the new bars (see `days`)."""
    duplicates: int
    """Bars of this page that were dropped, as the rows before have the same."""
    next_url: str | None
    request_id: str | None
    part: Part | None = None
    """How far the part file has got, if the rows are already in it and no longer here."""
    resume_at: int | None = None
    """The first moment (ms UTC) after this page that has not been requested; None at the range's end."""
    is_promised: bool = False
    """Whether this page's next_url said that there are bars from `resume_at` on."""
    odd: Mapping[str, int] = field(default_factory=dict)
    """How many bars have values that no bar can have, by what is odd about them; they are in the rows as they are."""

    @property
    def is_empty(self) -> bool:
        """Whether the answer held no bar at all, not even one that is there already."""
        return not self.bars and not self.duplicates


class Source(Protocol):
    """Where units' bars come from."""

    def pages(self, unit: Unit, start: Start = BEGINNING, *, priority: int = 0) -> AsyncGenerator[Page]:
        """The unit's pages that have bars, in order, each checked against those before.

        The caller must close the generator, as requests may be in flight.

        Args:
            unit: What to fetch.
            start: Where to begin. If it names a part file, the source may append a page's rows to it and set
                `Page.part`; the caller appends the rows of every other page.
            priority: Of pages that wait to be read, those with the lowest priority come first.

        Raises:
            TickerError: the unit cannot be fetched completely.
            RunError: no unit can be fetched.
        """


def new_rows(table: Table, border: Border) -> Table:
    """The new bars of a page, in strictly increasing order, without duplicates.

    Raises:
        Untrue: a bar comes after a later one, or is there twice, and not the same.
    """
    import numpy as np

    stamps = table.stamps
    follows = border.last is None or not len(stamps) or stamps[0] > border.last
    if follows and (stamps[1:] > stamps[:-1]).all():
        return table
    known = {int(row.split(b",")[TIMESTAMP]): row for row in border.tail.splitlines()}
    rows: list[bytes] = []
    last = border.last
    for t, row in zip(stamps.tolist(), table.rows.splitlines(), strict=True):
        if last is None or t > last:
            rows.append(row)
            known[t] = row
            last = t
        elif t not in known:
            raise Untrue(f"the bar at {spell_moment(t)} comes after the one at {spell_moment(last)}")
        elif not _same(row, known[t]):
            raise Untrue(f"there are two different bars at {spell_moment(t)}")
    new = np.array([int(row.split(b",")[TIMESTAMP]) for row in rows], dtype=np.int64)
    return Table(b"\n".join((*rows, b"")), new)


def _same(row: bytes, other: bytes) -> bool:
    """Whether two rows have the same values, however their numbers are spelt (18 and 18.0)."""
    if row == other:
        return True
    return [_value(cell) for cell in row.split(b",")] == [_value(cell) for cell in other.split(b",")]


def _value(cell: bytes) -> Decimal | str:
    text = cell.decode()
    try:
        return Decimal(text)
    except InvalidOperation:  # an empty cell, True, or an exponent beyond all bounds
        return text


def next_border(border: Border, new: Table) -> Border:
    """The border after the new bars of a page that follows `border`."""
    if not len(new.stamps):
        return border
    # Only the end of a long page is looked at.
    rows = border.tail + new.rows if len(new.rows) < LONGEST_TAIL else new.rows
    return border_after(int(new.stamps[-1]), rows)


def border_after(last: int, rows: bytes) -> Border:
    """The border after rows whose last bar starts at `last` (ms UTC); a first half row is dropped."""
    end = rows[-LONGEST_TAIL:]
    return Border(last=last, tail=end[end.index(b"\n") + 1 :] if len(end) == LONGEST_TAIL else end)


def spell_moment(t: int) -> str:
    """A bar's start (ms UTC) for people, even if no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(t / 1000, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"t={t}"
