"""Tickers, days and a bucket's objects in; one DataFrame out: one call of `read_bars`."""

import asyncio
import sys

from polygon_async import read_bars

start, end, *tickers = sys.argv[1:]
bars = asyncio.run(read_bars(tickers, start, end, source="bucket"))
print(len(bars), int(bars["close"].sum()))
