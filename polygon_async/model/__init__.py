"""The values and names that all wings share: tickers, units, days, sessions, states, counters.

Every wing but `system` may import it. Read `units` first (what is fetched, and how it ends), then `layout`,
the only module that knows a file name, a key or a tag.
"""
