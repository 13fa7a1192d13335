"""CSVs as DataFrames: one ticker's, or several tickers' together."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from polygon_async.bars.columns import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

__all__ = ["add_ticker", "to_frame", "together"]


def to_frame(csv: bytes) -> pd.DataFrame:
    """The bars of a CSV, one row each, with the types of `DTYPES`; absent fields are NA."""
    import pandas as pd

    return pd.read_csv(io.BytesIO(csv), dtype=dict(DTYPES))


def add_ticker(frame: pd.DataFrame, symbol: str, symbols: Sequence[str]) -> None:
    """Insert a first column `ticker`; its categories are all `symbols`, in their order."""
    import numpy as np
    import pandas as pd

    codes = np.full(len(frame), symbols.index(symbol))
    frame.insert(0, "ticker", pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(symbols)), frame.index))


def together(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The bars of several tickers, one ticker's after another's, with a first column `ticker`."""
    import pandas as pd

    symbols = list(frames)
    for symbol, frame in frames.items():
        add_ticker(frame, symbol, symbols)
    filled = [frame for frame in frames.values() if len(frame)]
    return pd.concat(filled or [frames[symbols[0]]], ignore_index=True)
