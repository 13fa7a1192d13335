"""What is held of tickers, with adjusted prices, in; which of it a split has made out of date since, out.

Adjusted prices are those of the day on which they were fetched. Bars from before a split and bars from after it do
not go together, so that a ticker that was split since is fetched anew, over all that is held of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from polygon_async.archive.splits import all_splits
from polygon_async.ledger.held import Fetch
from polygon_async.model.layout import csv_name
from polygon_async.model.units import NEW_YORK, today

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from polygon_async.archive.splits import Keeper
    from polygon_async.errors import TickerError
    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.model.splits import Split
    from polygon_async.model.tickers import Ticker
    from polygon_async.polygon.client import Client

__all__ = ["SplitSince", "fetches_with", "is_out_of_date", "seams", "splits_since", "unknown_splits"]


@dataclass(frozen=True, slots=True)
class SplitSince:
    """The tickers that were split since they were fetched."""

    ranges: Mapping[str, tuple[date, date]] = field(default_factory=dict)
    """First and last day of all that is held of each of them: it is fetched anew."""
    due: Mapping[str, Sequence[Split]] = field(default_factory=dict)
    """The splits that have made what is held of it out of date, by symbol."""
    errors: Mapping[str, TickerError] = field(default_factory=dict)
    """Why it is not known whether a ticker was split."""


async def splits_since(
    tickers: Sequence[Ticker], fetches: Mapping[str, Sequence[Fetch]], *, client: Client, keeper: Keeper
) -> SplitSince:
    """Ask for the splits since the oldest of these fetches, once for all tickers.

    Args:
        tickers: The universe.
        fetches: When what is held of each, with adjusted prices, was fetched, by symbol.
        client: The API.
        keeper: Knows the answers of the last day.

    Raises:
        RunError: as `Client.get`.
    """
    known = [ticker for ticker in tickers if fetches.get(ticker.symbol)]
    if not known:
        return SplitSince()
    this_day = today()
    oldest = min(fetch.day for ticker in known for fetch in fetches[ticker.symbol])
    found = await all_splits(known, since=oldest, until=this_day, client=client, keeper=keeper)
    ranges, out_of_date = {}, {}
    for symbol, splits in found.splits.items():
        held = fetches[symbol]
        due = [split for split in splits if is_out_of_date(held, split, learned=found.learned[split], today=this_day)]
        if due:
            ranges[symbol] = min(fetch.first_day for fetch in held), max(fetch.last_day for fetch in held)
            out_of_date[symbol] = due
    return SplitSince(ranges, out_of_date, found.errors)


def fetches_with(
    fetches: Mapping[str, Sequence[Fetch]], histories: Mapping[str, LocalHistory], *, source: str
) -> dict[str, list[Fetch]]:
    """When bars with adjusted prices were fetched, with those of local histories that are from the same source.

    A history may have bars of which no object was ever wanted.

    Args:
        fetches: Those of what is held, by symbol.
        histories: By symbol.
        source: Where the bars come from.
    """
    found = {symbol: list(several) for symbol, several in fetches.items()}
    for symbol, history in histories.items():
        if history.began is not None and history.adjusted and history.source == source:
            day = datetime.fromtimestamp(history.began, NEW_YORK).date()
            found.setdefault(symbol, []).append(Fetch(history.first_day, history.last_day, day, history.began))
    return found


def is_out_of_date(held: Sequence[Fetch], split: Split, *, learned: float, today: date) -> bool:
    """Whether some of what is held has prices from before a split.

    What was fetched on the very day of the split may have them: it counts if it was fetched once the list had the
    split, and only until that day is over.
    """

    def is_before(fetch: Fetch) -> bool:
        if fetch.day == split.day:
            return fetch.began < learned or today > split.day
        return fetch.day < split.day

    later = [fetch for fetch in held if not is_before(fetch)]
    return any(
        fetch.first_day < split.day and is_before(fetch) and not any(_covers(other, fetch) for other in later)
        for fetch in held
    )


def _covers(one: Fetch, other: Fetch) -> bool:
    return one.first_day <= other.first_day and other.last_day <= one.last_day


async def seams(
    growing: Sequence[tuple[Ticker, LocalHistory]], directory: Path, *, source: str, client: Client, keeper: Keeper
) -> dict[str, str]:
    """Why bars that are fetched now cannot be joined to the local histories that they continue, by symbol.

    Prices from before a split, and from after it, would stand side by side in one file.

    Args:
        growing: The tickers, with adjusted prices, and their histories.
        directory: Where the files are.
        source: Where the bars come from.
        client: The API.
        keeper: Knows the answers of the last day.

    Raises:
        RunError: as `Client.get`.
    """
    before = {ticker.symbol: history for ticker, history in growing}
    fetches = fetches_with({}, before, source=source)
    split = await splits_since([ticker for ticker, _ in growing], fetches, client=client, keeper=keeper)
    errors = {symbol: unknown_splits(error) for symbol, error in split.errors.items()}
    for symbol, due in split.due.items():
        path, first = directory / csv_name(symbol), before[symbol].first_day
        errors[symbol] = (
            f"it was split ({', '.join(map(str, due))}) after the bars in {path} were fetched, so that their adjusted"
            f" prices do not match the new ones; --from {first} fetches them all again, another --output-dir keeps both"
        )
    return errors


def unknown_splits(error: TickerError) -> str:
    """Why a ticker fails of which nobody can say whether it was split."""
    return f"{error}; prices from before and after a split might mix (--no-adjusted needs no list)"
