"""One ticker's bars in, as stored or adjusted for splits; a DataFrame, or rows of a CSV, out. It runs in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polygon_async.bars.columns import COLUMNS, CSV_HEADER
from polygon_async.bars.frame import add_ticker, to_frame
from polygon_async.model.units import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from polygon_async.archive.reader import TickerBars
    from polygon_async.model.splits import Adjustment
    from polygon_async.model.tickers import Ticker

__all__ = ["FILE_HEADER", "csv_rows", "frame_of"]

FILE_HEADER = b"ticker," + CSV_HEADER
"""The first line of a CSV with several tickers."""
_PRICES = ("open", "high", "low", "close", "vwap")


def frame_of(bars: TickerBars, splits: Sequence[Adjustment], *, zone: str, symbols: Sequence[str]) -> pd.DataFrame:
    """The bars as a DataFrame.

    Args:
        bars: One ticker's.
        splits: What they are adjusted by; none: they are as they were stored.
        zone: The time zone of the index.
        symbols: The categories of the column `ticker`.

    Returns:
        One row a bar: `ticker` (categorical), open, high, low, close, volume, vwap (float64), transactions (Int64) and
        otc (boolean); the index, `timestamp`, is the start of the bar.
    """
    import pandas as pd

    frame = _adjusted(bars, splits)
    index = pd.DatetimeIndex(pd.to_datetime(frame.pop("timestamp"), unit="ms", utc=True)).tz_convert(zone)
    frame.index = index.rename("timestamp")
    add_ticker(frame, np.full(len(frame), symbols.index(bars.ticker.symbol)), symbols)
    return frame


def csv_rows(bars: TickerBars, splits: Sequence[Adjustment]) -> bytes:
    """The bars as rows of a CSV, each with its ticker before it; without splits, the numbers stand as stored."""
    if not len(bars.rows):
        return b""
    text = bars.rows.text
    if splits:
        text = _adjusted(bars, splits).to_csv(index=False, header=False, lineterminator="\n").encode()
    name = bars.ticker.symbol.encode() + b","
    return name + text[:-1].replace(b"\n", b"\n" + name) + b"\n"


def _adjusted(bars: TickerBars, splits: Sequence[Adjustment]) -> pd.DataFrame:
    """With the columns of a CSV of bars."""
    frame = to_frame(CSV_HEADER + bars.rows.text)
    assert tuple(frame.columns) == COLUMNS  # noqa: S101 (the rows have been checked)
    if splits:
        now, then = _shares(bars.ticker, bars.rows.stamps, splits)
        # One rounding where one of the two is 1, as in nearly all splits.
        for name in _PRICES:
            frame[name] = frame[name] * then / now
        frame["volume"] = frame["volume"] * now / then
    return frame


def _shares(
    ticker: Ticker, stamps: NDArray[np.int64], splits: Sequence[Adjustment]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares as of the chosen day, and shares at each moment for which one got them."""
    days = (Unit(ticker=ticker, start=split.before, end=split.before, adjusted=False) for split in splits)
    borders = [day.bounds()[0] for day in days]
    place = np.searchsorted(np.array(borders), stamps, side="right")
    now = np.array([*(float(split.ratio.numerator) for split in splits), 1.0])
    then = np.array([*(float(split.ratio.denominator) for split in splits), 1.0])
    return now[place], then[place]
