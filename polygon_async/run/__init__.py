"""Settings and tickers in, a summary out: one run from its checks to its end.

`api`, `verify` and `cli` may import it. Read `pipeline` first, then `workers`: the only module that knows how
units run side by side.
"""
