"""A CSV in, a DataFrame out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def to_frame(csv: bytes) -> pd.DataFrame:
    import pandas as pd

    types = dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "float64")
    types |= {"timestamp": "int64", "transactions": "Int64", "otc": "boolean"}
    return pd.read_csv(io.BytesIO(csv), dtype=types)
