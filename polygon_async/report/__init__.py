"""A run's outcomes and counters in; what a person or a program learns of them out.

Summary, lists that can be fed back in, metrics, HTML page, status, coverage, estimates. `run` and the wings
above it may import it. Read `summary` first.
"""
