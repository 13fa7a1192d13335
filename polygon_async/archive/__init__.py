"""What was stored, read back: tickers and days in; their bars, each minute once, out.

Read `pieces` first (where bars are), then `reader` (how they become one ticker's rows) and `scan` (many tickers).
"""
