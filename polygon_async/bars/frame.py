"""CSVs as DataFrames: one ticker's, or several tickers' together."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from polygon_async.bars.columns import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["add_ticker", "to_frame", "together"]


def to_frame(csv: bytes) -> pd.DataFrame:
    """The bars of a CSV, one row each, with the types of `DTYPES`; absent fields are NA."""
    import pandas as pd

    return pd.read_csv(io.BytesIO(csv), dtype=dict(DTYPES))


def add_ticker(frame: pd.DataFrame, places: NDArray[np.intp], symbols: Sequence[str]) -> None:
    """Insert a first column `ticker`: each row's place in `symbols`, which are its categories, in their order."""
    import pandas as pd

    frame.insert(0, "ticker", pd.Series(pd.Categorical.from_codes(places, categories=pd.Index(symbols)), frame.index))


def together(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The bars of several tickers, one ticker's after another's, with a first column `ticker`."""
    import numpy as np
    import pandas as pd

    each = list(frames.values())
    # Empty ones would have a say in the columns' types.
    whole = pd.concat([frame for frame in each if len(frame)] or each[:1], ignore_index=True)
    # Once for all, as categories are compared one by one.
    add_ticker(whole, np.repeat(np.arange(len(each)), [len(frame) for frame in each]), list(frames))
    return whole
