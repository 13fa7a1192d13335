"""A universe from the API's list of tickers: each ticker once, as a CSV that `--universe` reads."""

from __future__ import annotations

import csv
import io
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.errors import WrongAnswer, one_line
from polygon_async.model.layout import is_tag_value
from polygon_async.model.tickers import AssetType, is_symbol
from polygon_async.polygon.exchanges import name_of
from polygon_async.polygon.reference import entry_pages, with_list_dates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    from polygon_async.polygon.client import Client
    from polygon_async.polygon.reference import Entry, TickerQuery

__all__ = ["Universe", "as_csv", "currency_of", "exchange_of", "gather", "once_each"]

log = logging.getLogger(__name__)

_COLUMNS = ("ticker", "name", "exchange", "currency", "asset_type", "type", "list_date", "delist_date")

_ASSET_TYPES = {
    "stocks": AssetType.STOCKS,
    "otc": AssetType.STOCKS,
    "indices": AssetType.INDICES,
    "fx": AssetType.FOREX,
    "crypto": AssetType.CRYPTO,
}
_OF_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet would calculate; the last four are the wide forms."""
_CURRENCY = re.compile(r"[A-Za-z0-9]{3,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Universe:
    """The tickers that fit, and what was left out."""

    entries: Sequence[Entry]
    """Each ticker once, sorted."""
    duplicates: int
    """Entries that were dropped because the list repeats a ticker."""
    left_out: int
    """Tickers whose name cannot be that of a file or key."""


def once_each(entries: Iterable[Entry]) -> list[Entry]:
    """Every ticker once, sorted.

    The list repeats tickers, and a name may be reused after a delisting: the active one is kept, else the
    one delisted last.
    """
    kept: dict[str, Entry] = {}
    for entry in entries:
        known = kept.setdefault(entry.ticker, entry)
        if _rank(entry) > _rank(known):
            kept[entry.ticker] = entry
    return [kept[ticker] for ticker in sorted(kept)]


def _rank(entry: Entry) -> tuple[bool, str]:
    return entry.active is not False, entry.delisted_utc or ""


def as_csv(entries: Iterable[Entry]) -> str:
    """A header and a row for each entry; unknown cells are empty.

    Raises:
        WrongAnswer: an exchange or a currency cannot be the value of a tag.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_row(entry) for entry in entries)
    return text.getvalue()


def _row(entry: Entry) -> tuple[str, ...]:
    exchange = exchange_of(entry)
    if not is_tag_value(exchange) or exchange.startswith(_OF_FORMULAS):
        raise WrongAnswer(f"{entry.ticker} is listed on {one_line(repr(exchange))}, which is not an exchange")
    return (
        entry.ticker,
        _as_text(entry.name or ""),
        exchange,
        currency_of(entry),
        _ASSET_TYPES.get(entry.market or "", AssetType.of(entry.ticker)),
        _as_text(entry.type or ""),
        entry.list_date or "",
        entry.delisted_utc or "",
    )


def _as_text(words: str) -> str:
    """The vendor's words in a cell, which a spreadsheet shows and does not calculate: `=1+1` gets an apostrophe.

    Tickers stay as they are: they are read back, and their letters can do no harm.
    """
    line = one_line(words)
    return f"'{line}" if line.startswith(_OF_FORMULAS) else line


def exchange_of(entry: Entry) -> str:
    """The name of its exchange; empty if unknown."""
    return name_of(entry.primary_exchange or "")


def currency_of(entry: Entry) -> str:
    """Its code: stocks have it as their currency's name (`usd`), pairs as its symbol, beside a name in words."""
    told = (entry.currency_symbol, entry.currency_name)
    return next((text.upper() for text in told if text and _CURRENCY.fullmatch(text)), "")


async def gather(
    queries: Iterable[TickerQuery],
    *,
    client: Client,
    takes: Callable[[str, int], bool],
    list_dates: bool,
    day: date | None,
    workers: int,
) -> Universe:
    """All tickers that fit one of the queries, each once.

    Args:
        queries: The queries of the list.
        client: The API.
        takes: Whether a ticker is wanted, given its symbol and the number of those already taken.
        list_dates: Whether to request each ticker's list date.
        day: The list as of this day; None: today.
        workers: How many list dates to request at once.

    Raises:
        TickerError, RunError: as `Client.get`.
    """
    found: list[Entry] = []
    for query in queries:
        async for page in entry_pages(query, client=client):
            found += page.rows
            log.info("%s tickers so far", f"{len(found):,}")
    unique = once_each(found)
    entries: list[Entry] = []
    for entry in unique:
        if is_symbol(entry.ticker) and takes(entry.ticker, len(entries)):
            entries.append(entry)
    if list_dates:
        entries = await with_list_dates(entries, day=day, client=client, workers=workers)
    unusable = [one_line(repr(entry.ticker)) for entry in unique if not is_symbol(entry.ticker)]
    if unusable:
        log.warning("omitted, as these cannot be used as file names or keys: %s", ", ".join(unusable))
    return Universe(entries=entries, duplicates=len(found) - len(unique), left_out=len(unusable))
