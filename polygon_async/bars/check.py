"""A CSV in, block by block; its digest, its bars, and what is wrong with them, out. It runs in threads."""

from __future__ import annotations

import hashlib
import operator
from itertools import islice

from polygon_async.bars.columns import COLUMNS, CSV_HEADER, TIMESTAMP

__all__ = ["CsvCheck"]

_WIDTH = len(COLUMNS)
_LONGEST_ROW = 10_000
"""Bytes; a longer line does not belong to a CSV of bars, and is not kept."""


class CsvCheck:
    """What is known of a CSV so far; blocks are fed in order, by one thread at a time."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rest = b""
        self._headed = False
        self.header = b""
        """The first line."""
        self.bars = 0
        self.first: int | None = None
        """Start of the first bar, ms UTC."""
        self.last: int | None = None
        self.earliest: int | None = None
        self.latest: int | None = None
        self.broken: int | None = None
        """The first line (from 1) that is not a bar."""
        self.disorder: int | None = None
        """The first line (from 1) whose bar is not later than the one before."""

    @property
    def sha256(self) -> str:
        """The digest of everything so far, in hex."""
        return self._digest.hexdigest()

    def feed(self, block: bytes) -> None:
        """Take one more block."""
        self._digest.update(block)
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LONGEST_ROW:
            self._break(self.bars + 2)
            self._rest = b""
        if lines and not self._headed:
            self._headed, self.header = True, lines[0] + b"\n"
            del lines[0]
        if lines:
            self._take(lines)

    def end(self) -> None:
        """No more blocks follow: the last line must have been complete."""
        if self._rest and not self._headed:
            self.header = self._rest
        elif self._rest:
            self._break(self.bars + 2)

    @property
    def is_headed(self) -> bool:
        """Whether the header is that of our CSVs."""
        return self.header == CSV_HEADER

    def _take(self, lines: list[bytes]) -> None:
        number = self.bars + 2
        self.bars += len(lines)
        rows = [line.split(b",") for line in lines]
        try:
            if any(len(row) != _WIDTH for row in rows):
                raise ValueError  # noqa: TRY301 (one way out for all that is no bar)
            times = [int(row[TIMESTAMP]) for row in rows]
        except ValueError:
            self._break(number + next(index for index, row in enumerate(rows) if not _is_bar(row)))
            times = [int(row[TIMESTAMP]) for row in rows if _is_bar(row)]
            if not times:
                return
        before = [times[0] - 1 if self.last is None else self.last, *times]
        if self.disorder is None and any(map(operator.ge, before, times)):
            pairs = zip(before, islice(before, 1, None), strict=False)
            self.disorder = number + next(index for index, (one, other) in enumerate(pairs) if one >= other)
        self.first = times[0] if self.first is None else self.first
        self.last = times[-1]
        self.earliest = min(times) if self.earliest is None else min(self.earliest, *times)
        self.latest = max(times) if self.latest is None else max(self.latest, *times)

    def _break(self, line: int) -> None:
        self.broken = line if self.broken is None else self.broken


def _is_bar(row: list[bytes]) -> bool:
    return len(row) == _WIDTH and row[TIMESTAMP].isdigit()
