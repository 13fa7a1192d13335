"""The columns of a CSV of bars: the header, and where what stands."""

from __future__ import annotations

__all__ = ["CSV_HEADER"]

CSV_HEADER = b"open,high,low,close,volume,vwap,timestamp,transactions,otc\n"
