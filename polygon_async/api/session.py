"""Sessions: calls that run side by side share one pace, and one pool of connections to the API."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from polygon_async.api.arguments import named_as_in_python, number_text, settings_of, text_of
from polygon_async.api.fetching import fetched
from polygon_async.errors import ConfigError
from polygon_async.model.counters import Counters
from polygon_async.polygon.session import open_polygon
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import pandas as pd

    from polygon_async.api.fetching import Day
    from polygon_async.model.access import Access
    from polygon_async.polygon.client import Client

__all__ = ["Session", "fetch_bars", "session"]

_CONNECTIONS = 64
"""Most connections of one line."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An open connection to the API."""

    client: Client
    offload: Threads


@dataclass(slots=True)
class _Shared:
    """A line that several calls of one event loop use."""

    ready: asyncio.Future[_Line]
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    holder: asyncio.Task[None] | None = None
    users: int = 0


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Access, _Shared]] = WeakKeyDictionary()
"""The lines that are in use now, by event loop and access."""


class Session:
    """Fetches bars; all its calls share one pace. Made by `session`."""

    def __init__(self, line: _Line, concurrency: int) -> None:
        self._line: _Line | None = line
        self._concurrency = concurrency

    async def fetch_bars(
        self, ticker: str | Iterable[str], start: Day, end: Day, *, adjusted: bool = True
    ) -> pd.DataFrame:
        """As `polygon_async.fetch_bars`, at the pace of this session.

        Raises:
            ConfigError: An argument cannot be used, or the session has ended.
            TickerError: Some tickers could not be fetched completely; the message names all of them.
            RunError: Nothing can be fetched (the key, the network).
        """
        if self._line is None:
            raise ConfigError("the session has ended; fetch inside its `async with` block")
        line = self._line
        with named_as_in_python():
            return await fetched(
                ticker,
                start,
                end,
                adjusted=adjusted,
                client=line.client,
                offload=line.offload,
                concurrency=self._concurrency,
            )

    def __repr__(self) -> str:
        return f"<Session: {'ended' if self._line is None else 'open'}>"

    def _end(self) -> None:
        self._line = None


@contextlib.asynccontextmanager
async def session(
    *,
    rate: str | None = None,
    patience: float | None = None,
    concurrency: int | None = None,
    api_key: str | None = None,
) -> AsyncIterator[Session]:
    """Open a session: `async with polygon_async.session(rate="50/s") as session: ...`.

    Calls of its `fetch_bars` that run side by side (`asyncio.gather`) share the rate and the connections; so do
    all others that are made while it is open with the same key, rate and patience.

    Args:
        rate: `N/s`, `N/min`, `N/h`, `unlimited` or `auto`; by default POLYGON_RATE_LIMIT, else `auto`,
            which finds the plan's limit and remembers it in the user's cache directory.
        patience: How long to keep retrying a failing request, in s; by default 300.
        concurrency: How many tickers one call fetches side by side; by default 8.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Raises:
        ConfigError: An argument or a variable cannot be used.
    """
    with named_as_in_python():
        settings = settings_of(
            {
                "processes": "0",
                "rate": text_of("rate", rate),
                "patience": number_text("patience", patience),
                "concurrency": number_text("concurrency", concurrency),
            },
            api_key,
        )
    # Whatever one call's concurrency is, it shares the line with the others.
    async with _line(replace(settings.access, connections=_CONNECTIONS)) as line:
        opened = Session(line, settings.concurrency)
        try:
            yield opened
        finally:
            opened._end()  # noqa: SLF001 (its own module)


async def fetch_bars(
    ticker: str | Iterable[str],
    start: Day,
    end: Day,
    *,
    adjusted: bool = True,
    rate: str | None = None,
    patience: float | None = None,
    concurrency: int | None = None,
    api_key: str | None = None,
) -> pd.DataFrame:
    """All minute bars of one ticker, or of several, over a range of days; no bar is written to disk.

    Several tickers are fetched side by side. Calls that run side by side with the same key, rate and patience share
    one pace and one pool of connections; to keep them between calls, use `session`.

    Args:
        ticker: As the API spells it: `AAPL`, `BRK.B`, `X:BTCUSD`; or several in a list.
        start: First calendar day, inclusive: a date, a datetime (of any kind: its own day counts), or text: YYYY-MM-DD,
            `yesterday`, `-30d`, `2024-03`.
        end: Last calendar day, inclusive; of a month or a year in text, its last.
        adjusted: Prices adjusted for splits.
        rate: `N/s`, `N/min`, `N/h`, `unlimited` or `auto`; by default POLYGON_RATE_LIMIT, else `auto`,
            which finds the plan's limit and remembers it in the user's cache directory.
        patience: How long to keep retrying a failing request, in s; by default 300.
        concurrency: How many tickers are fetched side by side; by default 8.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Returns:
        One row a bar, strictly increasing in `timestamp`, with the columns of the CSV: open, high, low,
        close, volume, vwap (float64), timestamp (int64, start of the bar in ms UTC), transactions
        (Int64) and otc (boolean), NA where absent. No rows if the range has no bars. Of several tickers, their first
        column is `ticker` (categorical, in the order asked for), and the rows are ordered by it, then by time.

    Raises:
        ConfigError: An argument or a variable cannot be used.
        TickerError: Some tickers could not be fetched completely; the message names all of them.
        RunError: Nothing can be fetched (the key, the network).
    """
    async with session(rate=rate, patience=patience, concurrency=concurrency, api_key=api_key) as opened:
        return await opened.fetch_bars(ticker, start, end, adjusted=adjusted)


@contextlib.asynccontextmanager
async def _line(access: Access) -> AsyncIterator[_Line]:
    """The line of this event loop with this access: the first user opens it, the last one closes it."""
    loop = asyncio.get_running_loop()
    lines = _lines.setdefault(loop, {})
    if (shared := lines.get(access)) is None:
        shared = lines[access] = _Shared(loop.create_future())
        # A task of its own: who opens it may end, or be cancelled, while others still use it.
        shared.holder = loop.create_task(_hold(access, shared))
        # If its first user is cancelled meanwhile, nobody asks for its error.
        shared.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
    shared.users += 1
    try:
        yield await asyncio.shield(shared.ready)
    finally:
        shared.users -= 1
        if not shared.users:
            # From here on, a new call opens another one.
            if lines.get(access) is shared:
                del lines[access]
            shared.unused.set()
            if shared.holder is not None:
                await asyncio.shield(shared.holder)


async def _hold(access: Access, shared: _Shared) -> None:
    """Keep a line open until nobody uses it."""
    try:
        async with Threads(2) as offload, open_polygon(access, offload=offload, counters=Counters()) as client:
            shared.ready.set_result(_Line(client, offload))
            await shared.unused.wait()
    except BaseException as error:
        if shared.ready.done():
            raise
        shared.ready.set_exception(error)
        if isinstance(error, asyncio.CancelledError):
            raise
