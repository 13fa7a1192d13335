"""Flags, environment, `.env` and universe files in; frozen, checked values out.

`run` and the wings above it may import it; the edges (`polygon`, `store`, `bars`) take plain values instead.
Read `settings` first, then `universe`.
"""
