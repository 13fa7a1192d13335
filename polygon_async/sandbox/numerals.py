"""Arrays of whole numbers in decimal units in, rows of JSON text out, all rows at once.

A row of text is a row of a byte matrix; a zero byte is "nothing here" and is deleted at the very
end. Numbers of different lengths thus need no work per row.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Cells = npt.NDArray[np.uint8]

_ZERO = ord("0")
_QUAD = 10_000


def _four_digits() -> npt.NDArray[np.uint32]:
    """The texts 0000 to 9999, each as one 32-bit word, so that a look-up copies four digits."""
    values = np.arange(_QUAD)
    digits = [values // power % 10 + _ZERO for power in (1000, 100, 10, 1)]
    return np.ascontiguousarray(np.stack(digits, axis=1).astype(np.uint8)).view(np.uint32).ravel()


_QUADS = _four_digits()


def literal(text: str, rows: int) -> Cells:
    """The same ASCII text in every row, shape (rows, len(text))."""
    return np.broadcast_to(np.frombuffer(text.encode("ascii"), dtype=np.uint8), (rows, len(text)))


def _digits(values: Whole, width: int) -> Cells:
    """Zero-padded digits of non-negative values below 10**width, shape (len(values), width)."""
    quads = -(-width // 4)
    words = np.empty((len(values), quads), dtype=np.uint32)
    for place in range(quads - 1, -1, -1):
        higher = values // _QUAD
        words[:, place] = _QUADS[values - higher * _QUAD]
        values = higher
    return words.view(np.uint8)[:, quads * 4 - width :]


def _width(values: Whole) -> int:
    return len(str(int(values.max(initial=0))))


def whole(values: Whole) -> Cells:
    """Non-negative integers without leading zeros."""
    cells = _digits(values, _width(values)).copy()
    least = len(str(int(values.min(initial=0))))
    leading = np.ones(len(values), dtype=np.bool_)
    # No value is shorter than the least one, and a lone zero keeps its digit.
    for column in range(cells.shape[1] - least):
        leading &= cells[:, column] == _ZERO
        cells[leading, column] = 0
    return cells


def decimal(units: Whole, places: int, dotted: Mask | None = None) -> Cells:
    """Non-negative numbers given in units of 10**-places, without trailing zeros.

    A number without a fraction prints as an integer (`18`), or as `18.0` where `dotted` says so.
    """
    scale = 10**places
    integer = units // scale
    fraction = _digits(units - integer * scale, places).copy()
    trailing = np.ones(len(units), dtype=np.bool_)
    for column in range(places - 1, -1, -1):
        trailing &= fraction[:, column] == _ZERO
        fraction[trailing, column] = 0
    point = np.full((len(units), 1), ord("."), dtype=np.uint8)
    bare = trailing if dotted is None else trailing & ~dotted
    point[bare] = 0
    fraction[trailing & ~bare, 0] = _ZERO
    return np.concatenate((whole(integer), point, fraction), axis=1)


def blank(cells: Cells, missing: Mask) -> Cells:
    """The same cells, with nothing in the rows where `missing` is true."""
    cells = cells.copy()
    cells[missing] = 0
    return cells


def join(columns: Sequence[Cells]) -> bytes:
    """All rows, each the columns side by side, as one text."""
    return np.concatenate(columns, axis=1).tobytes().translate(None, b"\0")
