"""CSVs of one ticker in; their rows in one order, each minute once, out. It runs in threads."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polygon_async.bars.columns import COLUMNS, CSV_HEADER, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Joined", "NotBars", "Rows", "joined", "rows_of"]

_COMMAS = len(COLUMNS) - 1
_DIGITS = 13
"""Of a moment in ms since 1970, from September 2001 to the year 2286."""
_POWERS = 10 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64)
_NEWLINE, _COMMA, _ZERO, _NINE = b"\n,09"


class NotBars(Exception):
    """What is no CSV of bars; its text is what is wrong, fit for a person."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of bars, in the order of their timestamps."""

    text: bytes
    """The rows, each with its line end, without a header."""
    stamps: NDArray[np.int64]
    """The start of each row's bar, ms UTC, strictly increasing."""
    ends: NDArray[np.int64]
    """Where each row ends in the text, its line end included."""

    def __len__(self) -> int:
        return len(self.stamps)

    def between(self, first: int, last: int) -> Rows:
        """The rows of bars from `first` to `last`, ms UTC, both included."""
        begin, end = np.searchsorted(self.stamps, [first, last + 1])
        return self.cut(int(begin), int(end))

    def cut(self, begin: int, end: int) -> Rows:
        """Rows `begin` to `end`, the latter not included."""
        start = self._start(begin)
        text = self.text[start : self._start(end)] if end > begin else b""
        return Rows(text, self.stamps[begin:end], self.ends[begin:end] - start)

    def row(self, number: int) -> bytes:
        """One row."""
        return self.text[self._start(number) : int(self.ends[number])]

    def _start(self, number: int) -> int:
        return int(self.ends[number - 1]) if number else 0


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Several CSVs' rows as one."""

    rows: Rows
    doubles: int
    """How many minutes more than one of them has."""
    differing: int
    """How many of these differ; of each, the row that was collected last is there."""


def rows_of(csv: bytes) -> Rows:
    """The rows of a CSV of bars.

    Raises:
        NotBars: its header, a row, or the order is not that of a CSV of bars.
    """
    if not csv.startswith(CSV_HEADER):
        raise NotBars(f"it starts with {csv[:80]!r} instead of its header")
    text = csv[len(CSV_HEADER) :]
    if text and not text.endswith(b"\n"):
        raise NotBars("its last line is cut off")
    cells = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(cells == _NEWLINE).astype(np.int64) + 1
    if not len(ends):
        return Rows(b"", np.empty(0, np.int64), ends)
    commas = np.flatnonzero(cells == _COMMA)
    if len(commas) != len(ends) * _COMMAS:
        raise NotBars("a row has too many or too few cells")
    cuts = commas.reshape(-1, _COMMAS)
    starts = np.concatenate(([0], ends[:-1]))
    begin, end = cuts[:, TIMESTAMP - 1] + 1, cuts[:, TIMESTAMP]
    if (cuts[:, 0] < starts).any() or (cuts[:, -1] >= ends).any() or (end - begin != _DIGITS).any():
        raise NotBars("a row is not a bar")
    digits = cells[begin[:, None] + np.arange(_DIGITS)]
    if (digits < _ZERO).any() or (digits > _NINE).any():
        raise NotBars("a timestamp is not a number")
    stamps = (digits.astype(np.int64) - _ZERO) @ _POWERS
    if (stamps[1:] <= stamps[:-1]).any():
        raise NotBars("its bars are not in the order of their timestamps")
    return Rows(text, stamps, ends)


def joined(several: Sequence[Rows]) -> Joined:
    """All rows in one order; where several have the same minute, the last of these counts.

    Args:
        several: In the order in which they were collected, the oldest first.
    """
    parts = sorted((rows for rows in several if len(rows)), key=lambda rows: int(rows.stamps[0]))
    if all(one.stamps[-1] < other.stamps[0] for one, other in itertools.pairwise(parts)):
        return Joined(_in_a_row(parts), 0, 0)
    parts = [rows for rows in several if len(rows)]
    stamps = np.concatenate([rows.stamps for rows in parts])
    owner = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    place = np.concatenate([np.arange(len(rows)) for rows in parts])
    order = np.lexsort((owner, stamps))
    stamps, owner, place = stamps[order], owner[order], place[order]
    again = np.flatnonzero(stamps[1:] == stamps[:-1])
    differing = {
        int(stamps[one])
        for one in again.tolist()
        if parts[owner[one]].row(int(place[one])) != parts[owner[one + 1]].row(int(place[one + 1]))
    }
    doubles = len(np.unique(stamps[again]))
    kept = np.ones(len(stamps), dtype=bool)
    kept[again] = False
    return Joined(_in_a_row(list(_runs(parts, owner[kept], place[kept]))), doubles, len(differing))


def _runs(parts: Sequence[Rows], owner: NDArray[np.int64], place: NDArray[np.int64]) -> Iterator[Rows]:
    """The stretches of rows that stand one after another in one of the parts."""
    breaks = np.flatnonzero((owner[1:] != owner[:-1]) | (place[1:] != place[:-1] + 1)) + 1
    for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(owner)], strict=True):
        yield parts[owner[begin]].cut(int(place[begin]), int(place[end - 1]) + 1)


def _in_a_row(parts: Sequence[Rows]) -> Rows:
    """Parts that follow one another, as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Rows(b"", np.empty(0, np.int64), np.empty(0, np.int64))
    offsets = np.cumsum([0, *(len(rows.text) for rows in parts[:-1])])
    ends = [rows.ends + offset for rows, offset in zip(parts, offsets, strict=True)]
    text = b"".join(rows.text for rows in parts)
    return Rows(text, np.concatenate([rows.stamps for rows in parts]), np.concatenate(ends))
