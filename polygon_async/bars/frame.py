"""A CSV as a DataFrame."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from polygon_async.bars.columns import DTYPES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_frame"]


def to_frame(csv: bytes) -> pd.DataFrame:
    """The bars of a CSV, one row each, with the types of `DTYPES`; absent fields are NA."""
    import pandas as pd

    return pd.read_csv(io.BytesIO(csv), dtype=dict(DTYPES))
