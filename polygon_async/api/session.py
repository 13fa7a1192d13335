"""A key and a pace in; a session out, in which calls side by side fetch bars at that one pace."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from polygon_async.api.arguments import settings_of
from polygon_async.api.naming import in_python
from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.frame import to_frame, together
from polygon_async.errors import RunError, TickerError, first_of
from polygon_async.model.counters import Counters
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import Outcome, Unit, today
from polygon_async.polygon.session import open_client
from polygon_async.polygon.sharing import shared_gate
from polygon_async.polygon.walk import RestSource
from polygon_async.report.causes import causes
from polygon_async.settings import universe
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    import pandas as pd

    from polygon_async.api.arguments import Day
    from polygon_async.settings.settings import Settings

__all__ = ["Session", "fetch_bars", "session"]

_HOW = "async with polygon_async.session() as session: ..."
_MOST_TOLD = 10
"""Tickers whose errors are told one by one."""
_THREADS = 2
"""They make frames of CSVs."""


def session(
    *,
    rate: str | None = None,
    patience: float | None = None,
    api_key: str | None = None,
    concurrency: int | None = None,
) -> Session:
    """A session with the API, in which `fetch_bars` can be called many times, also side by side.

    All its calls share one pace, one set of connections and one limit of tickers in flight:

        async with polygon_async.session(rate="100/s") as session:
            stocks, bitcoin = await asyncio.gather(
                session.fetch_bars(["AAPL", "MSFT"], "2026-01-05", "2026-01-09"),
                session.fetch_bars("X:BTCUSD", "2026-01-05", "2026-01-09"),
            )

    Args:
        rate: `N/s`, `N/min`, `N/h`, `unlimited` or `auto`; by default POLYGON_RATE_LIMIT, else `auto`,
            which finds the plan's limit and remembers it in the user's cache directory.
        patience: How long to keep retrying a failing request, in s; by default POLYGON_PATIENCE, else 300.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.
        concurrency: Tickers in flight at once, of all calls together; by default POLYGON_CONCURRENCY, else 8.

    Raises:
        ConfigError: An argument or a variable cannot be used.
    """
    with in_python(api_key):
        day = today()
        arguments = {"rate": rate, "patience": patience, "concurrency": concurrency, "processes": 0}
        # The days come with each call; no variable is asked for them.
        return Session(settings_of({**arguments, "start": day, "end": day}, api_key), api_key)


async def fetch_bars(
    tickers: Iterable[str] | str,
    start: Day,
    end: Day,
    *,
    adjusted: bool = True,
    concurrency: int | None = None,
    rate: str | None = None,
    patience: float | None = None,
    api_key: str | None = None,
) -> pd.DataFrame:
    """All minute bars of one or several tickers over a range of days, as a DataFrame; no bar is written to disk.

    Calls of one event loop that run side by side (`asyncio.gather`) share one pace if they have the same key, address
    and rate. For calls one after another, `session` keeps the pace and the connections from one to the next.

    Args:
        tickers: One, as the API spells it (`AAPL`, `BRK.B`, `X:BTCUSD`), or several; of duplicates the first counts.
        start: First calendar day, inclusive: a date, a datetime, a pandas Timestamp or a numpy datetime64 (the day as
            written, in whichever time zone); or text as on the command line: YYYY-MM-DD, 2024-03, 2024, today,
            yesterday, -30d.
        end: Last calendar day, inclusive; of a month or a year, its last day.
        adjusted: Prices adjusted for splits.
        concurrency: Tickers in flight at once; by default POLYGON_CONCURRENCY, else 8.
        rate: `N/s`, `N/min`, `N/h`, `unlimited` or `auto`; by default POLYGON_RATE_LIMIT, else `auto`,
            which finds the plan's limit and remembers it in the user's cache directory.
        patience: How long to keep retrying a failing request, in s; by default POLYGON_PATIENCE, else 300.
        api_key: By default POLYGON_API_KEY or MASSIVE_API_KEY from the environment.

    Returns:
        One row a bar, with the columns of the CSV: open, high, low, close, volume, vwap (float64), timestamp (int64,
        start of the bar in ms UTC), transactions (Int64) and otc (boolean), NA where absent. No rows if the range
        has no bars. Of one ticker (text), strictly increasing in `timestamp`. Of several (a list, even of one), with
        a first column `ticker` (categorical, in the order asked), ordered by ticker, then `timestamp`.

    Raises:
        ConfigError: An argument or a variable cannot be used.
        TickerError: A range could not be fetched completely; all tickers were tried, and the message names each
            that failed.
        RunError: No range can be fetched (the key, the network).
    """
    async with session(rate=rate, patience=patience, api_key=api_key, concurrency=concurrency) as own:
        return await own.fetch_bars(tickers, start, end, adjusted=adjusted)


class Session:
    """What `session` gives, to be used in `async with`; closing it ends the calls that are still running."""

    def __init__(self, settings: Settings, api_key: object = None) -> None:
        self._settings = settings
        self._api_key = api_key
        self._stack = contextlib.AsyncExitStack()
        self._offload = Threads(_THREADS)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._source: RestSource | None = None
        self._calls: set[asyncio.Task[pd.DataFrame]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "not open yet" if self._source is None else "open"
        return f"<Session: {self._settings.rate.text}, {state}>"

    async def __aenter__(self) -> Session:
        if self._loop is not None or self._is_closed:
            raise RunError(f"a session can be opened only once; make another: {_HOW}")
        self._loop = asyncio.get_running_loop()
        access = self._settings.access
        with in_python(self._api_key):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(self._offload)
                gate = await stack.enter_async_context(shared_gate(access))
                client = await stack.enter_async_context(open_client(access, gate=gate, offload=self._offload))
                self._source = RestSource(client=client, counters=Counters())
                self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        async with self._stack:
            for call in self._calls:
                call.cancel()
            if self._calls:
                await asyncio.wait(self._calls)

    async def fetch_bars(
        self, tickers: Iterable[str] | str, start: Day, end: Day, *, adjusted: bool = True
    ) -> pd.DataFrame:
        """As `polygon_async.fetch_bars`, at the session's pace.

        Raises:
            ConfigError, TickerError: as there.
            RunError: as there; or the session is not open, or was closed meanwhile.
        """
        with in_python():
            units = _units(tickers, start, end, adjusted=adjusted)
        source = self._opened()
        work = self._one(units[0], source) if isinstance(tickers, str) else self._several(units, source)
        call = asyncio.create_task(work)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            with in_python(self._api_key):
                return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise RunError("the session was closed before all bars were fetched") from None
            raise

    def _opened(self) -> RestSource:
        if self._is_closed:
            raise RunError(f"the session is closed; open another: {_HOW}")
        if self._source is None:
            raise RunError(f"the session is not open; use it as in {_HOW}")
        if self._loop is not asyncio.get_running_loop():
            raise RunError("the session belongs to another event loop; open one in this loop, too")
        return self._source

    async def _several(self, units: Sequence[Unit], source: RestSource) -> pd.DataFrame:
        """The bars of several units, with their tickers."""
        frames: dict[str, pd.DataFrame] = {}
        failed: dict[str, TickerError] = {}
        left = iter(units)

        async def work() -> None:
            for unit in left:
                try:
                    frames[unit.ticker.symbol] = await self._one(unit, source)
                except TickerError as error:
                    failed[unit.ticker.symbol] = error

        ended_by: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                # No more than can go on: another call's tickers need not wait for all of these.
                for _ in range(min(len(units), self._settings.concurrency)):
                    group.create_task(work())
        except ExceptionGroup as errors:  # a ticker's own error never leaves its worker: this one concerns all
            ended_by = first_of(errors)
        if ended_by is not None:
            raise ended_by
        if failed:
            raise TickerError(_told(units, failed)) from next(iter(failed.values()))
        symbols = [unit.ticker.symbol for unit in units]
        return await self._offload(together, {symbol: frames[symbol] for symbol in symbols})

    async def _one(self, unit: Unit, source: RestSource) -> pd.DataFrame:
        csv = bytearray(CSV_HEADER)
        async with self._room:
            async with contextlib.aclosing(source.pages(unit)) as pages:
                async for page in pages:
                    csv += page.rows
            return await self._offload(to_frame, bytes(csv))


def _units(tickers: Iterable[str] | str, start: Day, end: Day, *, adjusted: bool) -> list[Unit]:
    """What a call's arguments ask for; no variable is asked."""
    arguments = {"tickers": tickers, "start": start, "end": end, "adjusted": adjusted}
    asked = settings_of(arguments, None, environment={}, required=tuple(arguments), needs_key=False)
    named = universe.from_names(asked.tickers or (), universe.Defaults())
    return [Unit(ticker=each, start=asked.start, end=asked.end, adjusted=asked.adjusted) for each in named]


def _told(units: Iterable[Unit], failed: Mapping[str, TickerError]) -> str:
    """Every ticker that failed, with its error; where there are many, those that failed alike together."""
    ended = [
        Outcome(unit=unit, state=OutcomeState.FAILED, error=str(failed[unit.ticker.symbol]))
        for unit in units
        if unit.ticker.symbol in failed
    ]
    if len(ended) <= _MOST_TOLD:
        return "; ".join(f"{each.unit.ticker.symbol}: {each.error}" for each in ended)
    return "; ".join(f"{', '.join(cause.tickers)}: {cause.text}" for cause in causes(ended))
