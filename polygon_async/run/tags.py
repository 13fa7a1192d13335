"""Completes tickers with exchange and currency from the API's reference data."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from polygon_async.errors import TickerError, WrongAnswer
from polygon_async.model.layout import is_tag_value
from polygon_async.model.tickers import AssetType, Listing
from polygon_async.polygon.reference import TickerQuery, entry_of, entry_pages
from polygon_async.polygon.universe import currency_of, exchange_of, once_each
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.tickers import Ticker
    from polygon_async.polygon.client import Client
    from polygon_async.polygon.reference import Entry

__all__ = ["TagLookup", "most_lookups"]

log = logging.getLogger(__name__)

_SECONDS_KEPT = 30 * 86_400
_PAGES_OF_THE_LIST = 40
"""At most, about: a dozen of active tickers, the rest of delisted ones."""
_WALK_FROM = 15
"""With more tickers than this, walking the list, a dozen pages, takes fewer requests than asking for each."""


class TagLookup:
    """Looks up a run's tickers in the reference data, each when its tags are needed, and once a month.

    If the universe gives both tags, or the ticker is not a stock, nothing is looked up: pairs have their
    currency in their name, and no exchange. A failed look-up fails no ticker.

    Args:
        tickers: The run's tickers whose tags may be needed.
        day: The last day of the run's range.
        client: The API.
        recorder: Keeps the answers.
    """

    def __init__(self, tickers: Iterable[Ticker], *, day: date, client: Client, recorder: Recorder) -> None:
        self._wanted = {ticker.symbol for ticker in tickers if _is_open(ticker)}
        self._day = day
        self._client = client
        self._recorder = recorder
        self._known: dict[str, Listing] | None = None
        self._first = asyncio.Lock()
        self._has_failed = False
        self._is_asked = True

    async def described(self, ticker: Ticker, *, day: date) -> Ticker:
        """The ticker with all tags that are known.

        Args:
            ticker: As described by the universe and the flags.
            day: A day on which it was traded.

        Raises:
            RunError: as `Client.get`.
        """
        if ticker.symbol not in self._wanted:
            return ticker
        async with self._first:
            known = await self._prepared()
        listing = known.get(ticker.symbol)
        if listing is None and self._is_asked:
            with self._failures(ticker.symbol):
                listing = _listing(await entry_of(ticker.symbol, day=day, client=self._client))
                known[ticker.symbol] = listing
                await self._recorder.listed({ticker.symbol: listing})
        if listing is None:
            return ticker
        return replace(
            ticker,
            exchange=ticker.own("exchange") or listing.exchange or ticker.exchange,
            currency=ticker.own("currency") or listing.currency or ticker.currency,
        )

    async def _prepared(self) -> dict[str, Listing]:
        """What earlier runs have learned, and where much is missing, the list."""
        if self._known is None:
            known = await self._recorder.listings(since=time.time() - _SECONDS_KEPT)
            missing = self._wanted - known.keys()
            if len(missing) > _WALK_FROM:
                found: dict[str, Listing] | None = None
                with self._failures(counted(len(missing), "ticker")):
                    found = await self._walked(missing)
                    await self._recorder.listed(found)
                known |= found or {}
                # If the list cannot be fetched, asking for so many one by one is not the answer.
                self._is_asked &= found is not None
            self._known = known
        return self._known

    async def _walked(self, missing: set[str]) -> dict[str, Listing]:
        """Walk the list: active tickers, and if that leaves out many, delisted ones.

        A ticker in neither is not in the list at all, and is not asked for one by one.
        """
        found: dict[str, Listing] = {}
        for active in (True, False):
            found |= await self._walked_once(missing - found.keys(), active=active)
            if len(missing) - len(found) <= _WALK_FROM:
                return found
        return dict.fromkeys(missing, Listing()) | found

    async def _walked_once(self, missing: set[str], *, active: bool) -> dict[str, Listing]:
        kept: list[Entry] = []
        asked = TickerQuery(market="stocks", active=active, day=self._day)
        async with contextlib.aclosing(entry_pages(asked, client=self._client)) as pages:
            async for page in pages:
                kept += [entry for entry in page.rows if entry.ticker in missing]
        return {entry.ticker: _listing(entry) for entry in once_each(kept)}

    @contextlib.contextmanager
    def _failures(self, whose: str) -> Iterator[None]:
        """Log a failure once, and leave the tags to the flags."""
        try:
            yield
        except TickerError as error:
            # A wrong answer concerns one ticker; but if patience was used up once, it will be for others, too.
            if not isinstance(error, WrongAnswer):
                self._is_asked = False
            level = logging.DEBUG if self._has_failed else logging.WARNING
            self._has_failed = True
            log.log(
                level,
                "no reference data for %s (%s); the tags come only from the universe, --exchange and --currency",
                whose,
                error,
            )


def most_lookups(tickers: Iterable[Ticker]) -> int:
    """How many requests the tags of these tickers may cost."""
    return min(sum(map(_is_open, tickers)), _WALK_FROM + _PAGES_OF_THE_LIST)


def _is_open(ticker: Ticker) -> bool:
    """Whether the reference data may know more than the universe gives."""
    return ticker.market is AssetType.STOCKS and not (ticker.own("exchange") and ticker.own("currency"))


def _listing(entry: Entry | None) -> Listing:
    if entry is None:
        return Listing()
    exchange, currency = (text if is_tag_value(text) else "" for text in (exchange_of(entry), currency_of(entry)))
    return Listing(exchange=exchange or None, currency=currency or None)
