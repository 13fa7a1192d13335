"""Reading a page as the program does."""

from __future__ import annotations

import datetime as dt

from polygon_async.bars.page import Border, Page
from polygon_async.errors import Refused, Retryable, WrongAnswer
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit
from polygon_async.polygon.bar_pages import read_page

DAY = dt.date(2026, 3, 3)

OWN_ERRORS = (Retryable, WrongAnswer, Refused)


def read(body: bytes | str, unit: Unit | None = None, border: Border | None = None) -> Page:
    whole = body.encode() if isinstance(body, str) else body
    return read_page(whole, unit=unit or unit_of(), border=border or Border())


def unit_of(symbol: str = "AAPL", first: dt.date = DAY, last: dt.date = DAY, *, adjusted: bool = True) -> Unit:
    ticker = Ticker(symbol, AssetType.of(symbol), "unknown", "USD")
    return Unit(ticker=ticker, start=first, end=last, adjusted=adjusted)
