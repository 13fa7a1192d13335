"""The columns of a CSV of bars: their order, header, types, and the place of the timestamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COLUMNS", "CSV_HEADER", "DTYPES", "TIMESTAMP"]

DTYPES: Mapping[str, str] = {
    **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "float64"),
    "timestamp": "int64",
    "transactions": "Int64",
    "otc": "boolean",
}
"""The pandas type of each column, in the order of the columns."""
COLUMNS = tuple(DTYPES)
CSV_HEADER = b"%s\n" % ",".join(COLUMNS).encode()
TIMESTAMP = COLUMNS.index("timestamp")
"""The timestamp's place in a row."""
