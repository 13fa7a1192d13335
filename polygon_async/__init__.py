"""Minute bars of any universe of tickers, from Polygon.io (Massive) into S3."""

__version__ = "0.1.0"
