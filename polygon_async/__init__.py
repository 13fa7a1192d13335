"""Minute bars of any universe of tickers, from Polygon.io (Massive) into S3.

- `fetch_bars` gives the bars of one or several tickers as a DataFrame; in a `session`, calls share one pace.
- `download` is a whole run, as on the command line; it gives a `Summary`.
- `read_bars` gives stored bars of many tickers; `scan_bars` one ticker's after another.

`scan_bars` is an async iterator and `session` gives a context for `async with`; the others are coroutines. What goes
wrong is a `PolygonAsyncError`: a `TickerError` is about some tickers, a `RunError` about all of them, and a
`ConfigError` about an argument, a variable or a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygon_async._version import __version__

if TYPE_CHECKING:
    from polygon_async.api.downloading import download
    from polygon_async.api.reading import read_bars, scan_bars
    from polygon_async.api.session import Session, fetch_bars, session
    from polygon_async.errors import ConfigError, PolygonAsyncError, RunError, TickerError
    from polygon_async.report.summary import Summary

__all__ = [
    "ConfigError",
    "PolygonAsyncError",
    "RunError",
    "Session",
    "Summary",
    "TickerError",
    "__version__",
    "download",
    "fetch_bars",
    "read_bars",
    "scan_bars",
    "session",
]

_HOMES = {
    "ConfigError": "errors",
    "PolygonAsyncError": "errors",
    "RunError": "errors",
    "Session": "api.session",
    "Summary": "report.summary",
    "TickerError": "errors",
    "download": "api.downloading",
    "fetch_bars": "api.session",
    "read_bars": "api.reading",
    "scan_bars": "api.reading",
    "session": "api.session",
}


def __getattr__(name: str) -> object:
    """Import each name when it is first used: `--version` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What is exported, imported or not yet, for help() and completion."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
