"""Turns the `results` of a page whose bars all have the same form into CSV rows, without parsing a number.

A bar of the usual form is {"v":..,"vw":..,"o":..,"c":..,"h":..,"l":..,"t":..,"n":..}, without spaces; one that was
traded over the counter has "otc":true at its end, one of an index has fewer numbers. What the first bar is like, all
must be, but for a "vw" or an "n" that some may lack. Such a page is taken apart as a whole: without the characters of
numbers, it must be that form over and over; without all others, the numbers are left, and only change places. This
costs a third of parsing bar by bar and gives the same bytes; a page that does not fit is parsed bar by bar.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polygon_async.bars.columns import TIMESTAMP
from polygon_async.polygon.oddities import BEHIND, found_in_letters

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plain_rows"]

_NAMES = ("o", "h", "l", "c", "v", "vw", "t", "n")
"""The API's, of the CSV's columns but for the last, which is `otc`."""
_REQUIRED = frozenset("ohlct")
_OTC, _TRUE = b',"otc":true}', b"True"
_LONGEST = 64
"""No form of a bar ends behind so many bytes."""
_NO_VWAP = re.compile(rb'("v":[0-9+.eE-]+),"o"')
_NO_TRADES = re.compile(rb'("t":[0-9]+)\}')
_NUMBER = b"0123456789+-.eE"
_REST = b'"vwochltn{}[]'
_COLUMNS = len(_NAMES)
_TIME_DIGITS = 13
# Integers, as products of floats go to BLAS, whose threads spin on another core for longer than a page takes.
_POWERS = 10 ** np.arange(_TIME_DIGITS - 1, -1, -1, dtype=np.int64)
_BLOCK = 2048
_STEPS = np.arange(_BLOCK * 256)
"""Characters of a block's rows; longer blocks, with numbers of over 30 digits, get a new array."""
_COMMA, _COLON, _NEWLINE, _ZERO = b",:\n0"


class _Form(NamedTuple):
    """What is left of a bar without the characters of its numbers."""

    text: bytes
    numbers: int
    """In a bar."""
    columns: NDArray[np.intp]
    """Of the CSV, that the bars have."""
    places: NDArray[np.intp]
    """Of these columns' numbers in a bar."""


def plain_rows(results: bytes, *, needs_volume: bool = True) -> tuple[bytes, NDArray[np.int64], dict[str, int]] | None:
    """The bars as CSV rows, numbers letter for letter, their starts (ms UTC), and what is odd about them.

    Args:
        results: The page's `results`, brackets included; it must be well-formed JSON.
        needs_volume: Whether a bar without a volume does not fit.

    Returns:
        None if the bars differ in form otherwise, it is none of a bar, or a time is not 13 digits.
    """
    bars = results
    if is_otc := results.endswith(_OTC, 0, -1):
        bars = results.replace(_OTC, b"}")
    taken_off = len(results) - len(bars)
    form, count = _found_form(bars)
    if form is None:
        bars = _filled(bars)
        form, count = _found_form(bars)
    if form is None or (needs_volume and _NAMES.index("v") not in form.columns):
        return None
    if is_otc and taken_off != count * (len(_OTC) - 1):
        return None
    numbers = bars.translate(None, _REST)
    letters = np.frombuffer(numbers + BEHIND, dtype=np.uint8)
    ends = np.append(np.flatnonzero(letters == _COMMA), len(numbers)).astype(np.int32)
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int32)
    # Digits before the colon belong to the key: {"v7":1} has the form, too, but no v.
    if (letters[starts] != _COLON).any():
        return None
    starts += 1
    starts = _in_columns(starts, form)
    lengths = _in_columns(ends, form) - starts
    stamps = _stamps(letters, starts[:, TIMESTAMP], lengths[:, TIMESTAMP])
    if stamps is None:
        return None
    has_exponents = b"e" in bars or b"E" in bars
    odd = found_in_letters(letters, starts, lengths, stamps, has_exponents=has_exponents, has_signs=b"-" in bars)
    return _rows(letters, starts, lengths, _TRUE if is_otc else b""), stamps, odd


def _found_form(bars: bytes) -> tuple[_Form | None, int]:
    """The form that all bars of a page have, and how many they are; None if they differ, or are none."""
    skeleton = bars.translate(None, _NUMBER)
    form = _form(skeleton[1 : skeleton.find(b"}", 0, _LONGEST) + 1])
    if form is None:
        return None, 0
    count = (len(skeleton) - 1) // (len(form.text) + 1)
    return (form if skeleton == b"[" + b",".join([form.text] * count) + b"]" else None), count


def _filled(bars: bytes) -> bytes:
    """The bars with nothing in the place of a vwap or a number of trades that some lack, so that all are of a form."""
    return _NO_TRADES.sub(rb'\1,"n":}', _NO_VWAP.sub(rb'\1,"vw":,"o"', bars))


@lru_cache(maxsize=64)
def _form(text: bytes) -> _Form | None:
    """The form of a bar; None if it is none of a bar."""
    names = [name.decode() for name in re.findall(rb'"([a-z]+)":', text)]
    if text != b"{%s}" % b",".join(b'"%s":' % name.encode() for name in names):
        return None
    if len(names) != len(set(names)) or not _REQUIRED <= set(names) <= set(_NAMES):
        return None
    columns = [at for at, name in enumerate(_NAMES) if name in names]
    return _Form(text, len(names), np.array(columns), np.array([names.index(_NAMES[at]) for at in columns]))


def _in_columns(ends: NDArray[np.int32], form: _Form) -> NDArray[np.int32]:
    """Where numbers begin or end, a row a bar, in the order of the CSV's columns; 0 for those that there are not."""
    found = ends.reshape(-1, form.numbers)[:, form.places]
    if len(form.columns) == _COLUMNS:
        return found
    spread = np.zeros((len(found), _COLUMNS), dtype=np.int32)
    spread[:, form.columns] = found
    return spread


def _stamps(
    letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.int64] | None:
    """The numbers at `starts`, if all of them are 13 digits long."""
    if (lengths != _TIME_DIGITS).any():
        return None
    # All runs of so many letters; numpy's own view of them takes longer than reading a small page's times.
    runs: NDArray[np.uint8] = np.ndarray(
        (len(letters) - _TIME_DIGITS + 1, _TIME_DIGITS), np.uint8, letters.data, strides=(1, 1)
    )
    digits = runs[starts] - _ZERO
    stamps: NDArray[np.int64] = digits.astype(np.int64) @ _POWERS
    # Below zero wraps around: any other character is more than 9, too.
    return None if (digits > 9).any() else stamps


def _rows(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32], otc: bytes) -> bytes:
    """The numbers in column order, with a comma after each and `otc` at the end of each row.

    Block by block: a whole page's indices would take eight times its memory, and not fit the cache.
    """
    blocks = range(0, len(starts), _BLOCK)
    return b"".join([_block(letters, starts[i : i + _BLOCK], lengths[i : i + _BLOCK], otc) for i in blocks])


def _block(letters: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[np.int32], otc: bytes) -> bytes:
    room = lengths + 1
    room[:, -1] += len(otc) + 1
    room = room.ravel()
    ends = np.cumsum(room)
    # Where each character of the output comes from; what no number has is copied from anywhere and set below.
    source = np.repeat(starts.ravel() - (ends - room), room)
    source += _STEPS[: len(source)] if len(source) <= len(_STEPS) else np.arange(len(source))
    rows = letters.take(source, mode="clip")
    rows[ends - 1] = _COMMA
    line_ends = ends[_COLUMNS - 1 :: _COLUMNS]
    for place, letter in enumerate(reversed(b",%s\n" % otc), start=1):
        rows[line_ends - place] = letter
    return rows.tobytes()
