"""The `results` of a page whose bars all have the usual form in, CSV rows out; no number is ever made.

A bar of the usual form is {"v":..,"vw":..,"o":..,"c":..,"h":..,"l":..,"t":..,"n":..}, in this order and
without spaces. Such a page is taken apart as a whole: what is left of it without the numbers'
letters must be that form again and again, and what is left without the rest is the numbers, which
only change places. It costs a third of reading bar by bar and gives the same bytes; whatever does
not fit is read the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polygon_async.bars.columns import TIMESTAMP

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plain_rows"]

_FORM = b'{"v":,"vw":,"o":,"c":,"h":,"l":,"t":,"n":}'
_NUMBER = b"0123456789+-.eE"
_REST = b'"vwochltn{}[]'
# Where open, high, low, close, volume, vwap, timestamp and transactions stand in that form.
_PLACES = np.array([2, 4, 5, 3, 0, 1, 6, 7])
_COLUMNS = len(_PLACES)
_TIME_DIGITS = 13
# Integers, as products of doubles go to BLAS, whose threads spin on another core for longer than a page takes.
_POWERS = 10 ** np.arange(_TIME_DIGITS - 1, -1, -1, dtype=np.int64)
_BLOCK = 2048
_STEPS = np.arange(_BLOCK * 256)
"""Letters of a block's rows; longer ones, which numbers of over 30 digits make, count anew."""
_COMMA, _COLON, _NEWLINE, _ZERO = b",:\n0"


def plain_rows(results: bytes) -> tuple[bytes, NDArray[np.int64]] | None:
    """The bars as CSV rows, numbers letter for letter, and their starts (ms UTC).

    Args:
        results: The page's `results`, brackets included; it must be well-formed JSON.

    Returns:
        None where a bar has another form, or a time that is not 13 digits.
    """
    form = results.translate(None, _NUMBER)
    count = (len(form) - 1) // (len(_FORM) + 1)
    if not count or form != b"[" + b",".join([_FORM] * count) + b"]":
        return None
    letters = np.frombuffer(results.translate(None, _REST), dtype=np.uint8)
    ends = np.append(np.flatnonzero(letters == _COMMA), len(letters)).astype(np.int32)
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int32)
    # What stands before the colon is of the key: {"v7":1} has the form, too, but no v.
    if (letters[starts] != _COLON).any():
        return None
    starts += 1
    starts = starts.reshape(count, _COLUMNS)[:, _PLACES]
    lengths = ends.reshape(count, _COLUMNS)[:, _PLACES] - starts
    stamps = _stamps(letters, starts[:, TIMESTAMP], lengths[:, TIMESTAMP])
    return None if stamps is None else (_rows(letters, starts, lengths), stamps)


def _stamps(
    letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.int64] | None:
    """The numbers that stand at `starts`, when all of them are 13 digits long."""
    if (lengths != _TIME_DIGITS).any():
        return None
    digits = np.lib.stride_tricks.sliding_window_view(letters, _TIME_DIGITS)[starts] - _ZERO
    stamps: NDArray[np.int64] = digits.astype(np.int64) @ _POWERS
    # Below zero wraps around: a letter that is no digit is more than 9, too.
    return None if (digits > 9).any() else stamps


def _rows(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> bytes:
    """The numbers in the places' order, with a comma behind each and an empty `otc` at each row's end.

    Block by block: a whole page's indices would take eight times its memory, and leave the cache.
    """
    blocks = range(0, len(starts), _BLOCK)
    return b"".join([_block(letters, starts[i : i + _BLOCK], lengths[i : i + _BLOCK]) for i in blocks])


def _block(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> bytes:
    room = lengths + 1
    room[:, -1] += 1
    room = room.ravel()
    ends = np.cumsum(room)
    # For every letter of the output, where it comes from; separators are copied from anywhere and set below.
    source = np.repeat(starts.ravel() - (ends - room), room)
    source += _STEPS[: len(source)] if len(source) <= len(_STEPS) else np.arange(len(source))
    rows = letters.take(source, mode="clip")
    rows[ends - 1] = _COMMA
    line_ends = ends[_COLUMNS - 1 :: _COLUMNS]
    rows[line_ends - 2] = _COMMA
    rows[line_ends - 1] = _NEWLINE
    return rows.tobytes()
