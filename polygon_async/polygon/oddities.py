"""Counts the bars of a page whose numbers are impossible. Such bars are reported, never changed or dropped.

Numbers are compared as they are spelt, eight letters at a time: making 200,000 numbers of them would cost as much
as reading the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from polygon_async.model.units import MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import ReadableBuffer as Buffer
    from numpy.typing import NDArray

__all__ = ["BEHIND", "Bar", "found_in_bars", "found_in_letters"]

_STARTS = "starts within a minute"
_HIGH = "high below low"
_NEGATIVE = "negative price or volume"
_TRADES = "number of trades that is not whole"

_OPEN, _HIGH_AT, _LOW_AT, _CLOSE, _VOLUME, _TRADES_AT = 0, 1, 2, 3, 4, 7
_AMOUNTS = [_OPEN, _HIGH_AT, _LOW_AT, _CLOSE, _VOLUME]
_WORD = 8
"""Letters that are compared at once."""
BEHIND = bytes(_WORD)
"""What must stand behind the last number."""
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_POINTS = np.uint64(0x2E2E2E2E2E2E2E2E)
_NOTHING = np.uint64(0)
_KEPT = np.array([2**64 - 2 ** (8 * (_WORD - length)) for length in range(_WORD + 1)], dtype=np.uint64)
"""What of a word is a number's, by the number's length."""
_ENDS = np.array([*(ord(".") << 8 * (_WORD - 1 - length) for length in range(_WORD)), 0], dtype=np.uint64)
"""A point behind a number, by the number's length."""
_MINUS = ord("-")
_ABSENT = (b"", b"null")


def found_in_letters(
    letters: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    stamps: NDArray[np.int64],
    *,
    has_exponents: bool,
    has_signs: bool,
) -> dict[str, int]:
    """How many bars of a page are odd, by what is odd about them; oddities without a bar are left out.

    Args:
        letters: The page's numbers, and `BEHIND` them.
        starts: Where each number begins, a row a bar, in the order of the CSV's columns without `otc`.
        lengths: How long each is; 0 for one that there is not.
        stamps: The bars' starts, ms UTC.
        has_exponents: Whether any number may be spelt like 1.2e+1.
        has_signs: Whether any number may have a minus.
    """
    below = 0
    if has_signs:
        amounts = [at for at in _AMOUNTS if lengths[0, at]]
        signed = np.flatnonzero((letters[starts[:, amounts]] == _MINUS).any(axis=1)).tolist()
        below = sum(any(_number(letters, starts[row, at], lengths[row, at]) < 0 for at in amounts) for row in signed)
    if has_exponents:
        cells = _cells(letters, starts[:, _TRADES_AT], lengths[:, _TRADES_AT])
        trades = sum(not cell.lstrip(b"-").isdigit() for cell in cells if cell)
    else:
        trades = _count_with_point(letters, starts[:, _TRADES_AT], lengths[:, _TRADES_AT])
    as_spelt = not (has_exponents or has_signs)
    found = {
        _STARTS: int(np.count_nonzero(stamps % MINUTE_MS)),
        _HIGH: (_count_less if as_spelt else _count_less_by_value)(letters, starts, lengths),
        _NEGATIVE: below,
        _TRADES: trades,
    }
    return {name: count for name, count in found.items() if count}


class Bar(Protocol):
    """One bar: its numbers as they are spelt, in whatever holds bytes; an absent one is empty or null."""

    o: Buffer
    h: Buffer
    l: Buffer  # noqa: E741 (the API's own name)
    c: Buffer
    v: Buffer
    n: Buffer


def found_in_bars(bars: Sequence[Bar], stamps: NDArray[np.int64], *, has_signs: bool) -> dict[str, int]:
    """The same, of bars that were taken apart one by one."""
    trades = [bytes(bar.n) for bar in bars]
    found = {
        _STARTS: int(np.count_nonzero(stamps % MINUTE_MS)),
        _HIGH: sum(float(bar.h) < float(bar.l) for bar in bars),
        _NEGATIVE: sum(map(_is_negative, bars)) if has_signs else 0,
        # Most pages have whole numbers only.
        _TRADES: 0
        if b"".join(trades).isdigit()
        else sum(not number.lstrip(b"-").isdigit() for number in trades if number not in _ABSENT),
    }
    return {name: count for name, count in found.items() if count}


def _is_negative(bar: Bar) -> bool:
    amounts = map(bytes, (bar.o, bar.h, bar.l, bar.c, bar.v))
    return any(float(amount) < 0 for amount in amounts if amount not in _ABSENT)


def _count_with_point(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> int:
    """The number of numbers that are spelt with a decimal point."""
    found = np.zeros(len(starts), dtype=bool)
    for offset in range(0, int(lengths.max(initial=0)), _WORD):
        found |= _points(_word(letters, starts + offset, np.maximum(lengths - offset, 0))) > 0
    return int(np.count_nonzero(found))


def _count_less(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> int:
    """The number of bars whose high is below their low."""
    columns = (_HIGH_AT, _LOW_AT)
    rows, offset = np.arange(len(starts)), 0
    fraction = np.zeros(len(rows), dtype=bool)
    suspects: list[int] = []
    while len(rows):
        left = [np.maximum(lengths[rows, column] - offset, 0) for column in columns]
        high, low = (
            _ended(_word(letters, starts[rows, column] + offset, size), size, fraction)
            for column, size in zip(columns, left, strict=True)
        )
        # An earlier point is a smaller number; with points at the same place, or behind them, the letters tell.
        high_point, low_point = _points(high), _points(low)
        longer = (left[0] > _WORD) | (left[1] > _WORD)
        # Whole numbers that are longer than a word: their lengths tell, and they are few.
        huge = longer & ~fraction & ((high_point | low_point) == 0)
        less = (high_point > low_point) | ((high_point == low_point) & (high < low)) | huge
        suspects += rows[less].tolist()
        undecided = (high == low) & longer & ~huge
        fraction = (fraction | (high_point > 0))[undecided]
        rows, offset = rows[undecided], offset + _WORD
    # 18 and 18.0 are spelt differently: the few suspects are made numbers.
    numbers = ([_number(letters, starts[row, column], lengths[row, column]) for column in columns] for row in suspects)
    return sum(high < low for high, low in numbers)


def _ended(found: NDArray[np.uint64], lengths: NDArray[np.int32], fraction: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The words, with a point behind a whole number's last digit."""
    whole = ~fraction & (_points(found) == 0)
    ended: NDArray[np.uint64] = found | np.where(whole, _ENDS.take(lengths, mode="clip"), _NOTHING)
    return ended


def _count_less_by_value(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> int:
    high, low = (
        np.array([float(cell) for cell in _cells(letters, starts[:, column], lengths[:, column])])
        for column in (_HIGH_AT, _LOW_AT)
    )
    return int(np.count_nonzero(high < low))


def _cells(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> Iterator[bytes]:
    whole = letters.tobytes()
    for begin, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield whole[begin : begin + length]


def _number(letters: NDArray[np.uint8], start: int, length: int) -> float:
    return float(letters[start : start + length].tobytes())


def _word(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> NDArray[np.uint64]:
    """The next letters of numbers as words that compare as the letters do; what is behind a number's end is 0."""
    # A word for every letter, that letter its first.
    words: NDArray[np.uint64] = np.ndarray((len(letters) - _WORD + 1,), ">u8", letters.data, strides=(1,))
    found: NDArray[np.uint64] = words[np.minimum(starts, len(words) - 1)].astype(np.uint64)
    found &= _KEPT.take(lengths, mode="clip")
    return found


def _points(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bit where each word has its decimal point; 0 for none."""
    apart = words ^ _POINTS
    bits: NDArray[np.uint64] = (apart - _ONES) & ~apart & _TOPS
    return bits
