"""The API's list of tickers: a query in, its entries out, page after page, each checked."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import msgspec

from polygon_async.errors import PolygonAsyncError, Refused, Untrue, WrongAnswer, one_line
from polygon_async.model.days import plausible_day
from polygon_async.polygon.envelope import Head, check_head, check_speed, decode, unanswered
from polygon_async.polygon.lists import ListPage, ListRequest, list_pages
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from polygon_async.polygon.client import Client

__all__ = ["Entry", "TickerQuery", "entry_of", "entry_pages", "read_entries", "with_list_dates"]

_PATH = "/v3/reference/tickers"
_LIMIT = 1000
"""The most entries that one request may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerQuery:
    """One query of the list."""

    market: str
    """stocks, crypto, fx, otc or indices, as the API calls them."""
    active: bool
    """Traded tickers, or delisted ones."""
    type: str | None = None
    """CS, ETF, ADRC ...; None: all types."""
    exchange: str | None = None
    """MIC of the primary exchange; None: all."""
    day: date | None = None
    """The list as of this day; None: the newest list."""

    def query(self) -> str:
        """Percent-encoded."""
        filters = {"type": self.type, "exchange": self.exchange, "date": self.day and self.day.isoformat()}
        return urlencode(
            {
                "market": self.market,
                **{name: value for name, value in filters.items() if value is not None},
                "active": "true" if self.active else "false",
                "sort": "ticker",
                "order": "asc",
                "limit": str(_LIMIT),
            }
        )


class Entry(msgspec.Struct, frozen=True):
    """One ticker as the list describes it; absent fields are None."""

    ticker: str
    name: str | None = None
    market: str | None = None
    primary_exchange: str | None = None
    type: str | None = None
    active: bool | None = None
    currency_name: str | None = None
    currency_symbol: str | None = None
    list_date: str | None = None
    delisted_utc: str | None = None
    """After reading, the dates are days in ISO 8601, or None if they cannot be days."""


class _Answer(Head):
    results: list[Entry] | msgspec.UnsetType | None = msgspec.UNSET
    """null also means an empty list."""
    count: int | None = None
    next_url: str | None = None


_answers = msgspec.json.Decoder(_Answer)


async def entry_pages(asked: TickerQuery, *, client: Client) -> AsyncGenerator[ListPage[Entry]]:
    """All pages of an answer, as `list_pages`.

    Raises:
        TickerError, RunError: as `list_pages`.
    """
    read = partial(read_entries, asked=asked)
    request = ListRequest(_PATH, asked.query())
    async with contextlib.aclosing(list_pages(request, read=read, what="tickers", client=client)) as pages:
        async for page in pages:
            yield page


def read_entries(body: bytes, *, asked: TickerQuery) -> ListPage[Entry]:
    """Read one page of the list.

    Args:
        body: The JSON of one answer of /v3/reference/tickers, unpacked.
        asked: The query.

    Raises:
        Retryable: The body is not JSON, or not an answer; another attempt may bring it complete.
        Refused: The body says that the key is not entitled to this.
        WrongAnswer: The body is complete and cannot be the answer to the query.
    """
    answer = decode(_answers, body)
    check_head(answer)
    if not answer.results:
        check_speed(answer)
    if answer.results is msgspec.UNSET and answer.count is None:
        raise unanswered(answer)
    entries = answer.results or []
    if answer.count is not None and answer.count != len(entries):
        raise Untrue(f"the answer counts {counted(answer.count, 'ticker')} and holds {len(entries)}{answer.said_by}")
    for entry in entries:
        _check(entry, asked, answer)
    return ListPage([_with_true_days(entry) for entry in entries], answer.next_url or None, answer.said_by)


def _check(entry: Entry, asked: TickerQuery, answer: _Answer) -> None:
    """Check that an entry fits the query, as far as it has the fields."""
    if not entry.ticker:
        raise WrongAnswer(f"the list has an entry without a ticker{answer.said_by}")
    wanted: dict[str, object] = {
        "market": asked.market,
        "active": asked.active,
        "type": asked.type,
        "primary_exchange": asked.exchange,
    }
    for field, value in wanted.items():
        found = getattr(entry, field)
        if value is not None and found is not None and found != value:
            said = f"{one_line(repr(found))} where {value!r} was asked for"
            raise Untrue(f"the list has {one_line(entry.ticker)} with {field} {said}{answer.said_by}")


def _with_true_days(entry: Entry) -> Entry:
    """The entry with its dates in ISO 8601, without impossible ones."""
    return msgspec.structs.replace(entry, list_date=_day(entry.list_date), delisted_utc=_day(entry.delisted_utc))


def _day(text: str | None) -> str | None:
    day = None if text is None else plausible_day(text)
    return None if day is None else day.isoformat()


class _Details(Head):
    results: Entry | None = None


_details = msgspec.json.Decoder(_Details)


async def entry_of(ticker: str, *, day: date | None, client: Client) -> Entry | None:
    """A ticker's own page of the list; None if it was not traded on that day.

    Args:
        ticker: As the API spells it.
        day: The page as of this day; None: the newest.
        client: The API.

    Raises:
        TickerError, RunError: as `Client.get`, except for a missing page.
    """
    query = "" if day is None else urlencode({"date": day.isoformat()})
    request = ListRequest(f"{_PATH}/{quote(ticker, safe=':=+')}", query)
    try:
        return await client.get(request, read=partial(_read_details, ticker=ticker))
    except Refused as error:
        if error.status == 404:
            return None
        raise


async def _list_date(entry: Entry, *, day: date | None, client: Client) -> str | None:
    """The day on which a ticker was listed, from its own page of the list; None if that has none.

    Args:
        entry: The ticker; if it was delisted, the page of its last day is requested.
        day: The page as of this day; None: the newest.
        client: The API.

    Raises:
        TickerError, RunError: as `Client.get`, except for a missing page.
    """
    if day is None and entry.delisted_utc:
        day = date.fromisoformat(entry.delisted_utc) - timedelta(days=1)
    found = await entry_of(entry.ticker, day=day, client=client)
    return None if found is None else found.list_date


def _read_details(body: bytes, *, ticker: str) -> Entry:
    answer = decode(_details, body)
    check_head(answer)
    if answer.results is None:
        check_speed(answer)
        raise unanswered(answer)
    if answer.results.ticker != ticker:
        raise Untrue(f"the answer is about {one_line(repr(answer.results.ticker))}{answer.said_by}")
    return _with_true_days(answer.results)


async def with_list_dates(entries: list[Entry], *, day: date | None, client: Client, workers: int) -> list[Entry]:
    """The same entries with their list dates, requested by `workers` at once.

    Raises:
        TickerError, RunError: the first that any of them met.
    """
    dated = list(entries)
    places = iter(enumerate(entries))

    async def work() -> None:
        for place, entry in places:
            found = entry.list_date or await _list_date(entry, day=day, client=client)
            dated[place] = msgspec.structs.replace(entry, list_date=found)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work())
    except* PolygonAsyncError as group:
        failed = group
    else:
        return dated
    raise failed.exceptions[0]
