"""A ticker in; the same with the exchange and the currency that the API's reference data tells, out."""

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
"""At most, about: a dozen of what is traded, the rest of what no longer is."""
_WALK_FROM = 15
"""Tickers from which on walking the list, of a dozen pages, takes fewer requests than asking for each."""


class TagLookup:
    """What the reference data tells of a run's tickers; each is asked for when its tags are needed, and once a month.

    Where the universe tells both, or the ticker is no stock, nothing is asked: pairs carry their
    currency in their name, and have no exchange. What cannot be had fails nobody.

    Args:
        tickers: Those of the run whose tags may be needed.
        day: The last one of the run's range.
        polygon: Whom to ask.
        records: Where the answers are kept.
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
        """The ticker with the tags that are known of it.

        Args:
            ticker: As the universe and the flags describe it.
            day: One on which it was traded.

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
                with self._failures(f"{len(missing):,} tickers"):
                    found = await self._walked(missing)
                    await self._recorder.listed(found)
                known |= found or {}
                # Where the list cannot be had, asking for so many one by one is no way out.
                self._is_asked &= found is not None
            self._known = known
        return self._known

    async def _walked(self, missing: set[str]) -> dict[str, Listing]:
        """Those of the list: what is traded, and where that leaves many out, what no longer is.

        Whatever is in neither is in no list, and is not asked for one by one.
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
                kept += [entry for entry in page.entries if entry.ticker in missing]
        return {entry.ticker: _listing(entry) for entry in once_each(kept)}

    @contextlib.contextmanager
    def _failures(self, whose: str) -> Iterator[None]:
        """What cannot be had is told once, and leaves the tags to the flags."""
        try:
            yield
        except TickerError as error:
            # What one answer says is one ticker's matter; what patience did not bring, it will not bring to others.
            if not isinstance(error, WrongAnswer):
                self._is_asked = False
            level = logging.DEBUG if self._has_failed else logging.WARNING
            self._has_failed = True
            log.log(
                level,
                "no reference data for %s (%s): the tags come from the universe, --exchange and --currency alone",
                whose,
                error,
            )


def most_lookups(tickers: Iterable[Ticker]) -> int:
    """How many requests the tags of these tickers may cost."""
    return min(sum(map(_is_open, tickers)), _WALK_FROM + _PAGES_OF_THE_LIST)


def _is_open(ticker: Ticker) -> bool:
    """Whether the reference data may know more than the universe tells."""
    return ticker.market is AssetType.STOCKS and not (ticker.own("exchange") and ticker.own("currency"))


def _listing(entry: Entry | None) -> Listing:
    if entry is None:
        return Listing()
    exchange, currency = (text if is_tag_value(text) else "" for text in (exchange_of(entry), currency_of(entry)))
    return Listing(exchange=exchange or None, currency=currency or None)
