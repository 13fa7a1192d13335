"""What is done and what can be resumed, in one SQLite file in the output directory.

`report`, `run` and the wings above may import it. Read `entries` first (what is recorded), then `ledger`
(how); `recorder` makes a run's entries from a thread of its own, and `inventory` reads without writing.
"""
