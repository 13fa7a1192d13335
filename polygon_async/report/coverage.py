"""Which sessions the bars of a run's outcomes cover."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from polygon_async.errors import one_line
from polygon_async.ledger.entries import Life
from polygon_async.model.days import moment_day, plausible_day
from polygon_async.model.sessions import coverage, expected_from, sessions
from polygon_async.model.tickers import AssetType
from polygon_async.model.units import today

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polygon_async.model.sessions import Coverage, Sessions
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Outcome
    from polygon_async.system.threads import Threads

__all__ = ["Covered", "cover", "prepare"]

log = logging.getLogger(__name__)

_EVERY_DAY = frozenset({AssetType.CRYPTO, AssetType.FOREX})


@dataclass(frozen=True, slots=True)
class Covered:
    """One outcome whose days are known."""

    outcome: Outcome
    expected: Sessions
    """The sessions of its range."""
    found: Coverage


def prepare(tickers: Iterable[Ticker]) -> None:
    """Load the calendar beforehand if it will be needed; blocking."""
    if any(ticker.market not in _EVERY_DAY for ticker in tickers):
        with contextlib.suppress(ValueError):
            sessions(AssetType.STOCKS, today(), today())


async def cover(
    outcomes: Sequence[Outcome], lives: Mapping[str, Life], *, look_back: int, offload: Threads
) -> list[Covered]:
    """The coverage of every outcome whose days are known.

    Args:
        outcomes: How the units ended.
        lives: What is known of each ticker's life, by its symbol.
        look_back: So many sessions before a ticker's first bar may be late ones.
        offload: Where it is worked out.
    """
    known: dict[tuple[AssetType, date, date], Sessions] = {}
    covered: list[Covered] = []
    try:
        await offload.each(lambda outcome: covered.extend(_covered(outcome, lives, look_back, known)), outcomes)
    except ValueError as error:
        # The library's calendars cover a limited time.
        log.warning("the trading sessions of this range are unknown (%s); gaps are not checked", one_line(error))
        return []
    return covered


def _covered(
    outcome: Outcome,
    lives: Mapping[str, Life],
    look_back: int,
    known: dict[tuple[AssetType, date, date], Sessions],
) -> list[Covered]:
    """The outcome's coverage, if its days are known; `known` caches which sessions a range has."""
    unit, csv = outcome.unit, outcome.csv
    if csv is None or csv.days is None:
        return []
    market = unit.ticker.market
    # A day that is not over yet need not have a bar.
    asked = (market, unit.start, min(unit.end, today() - timedelta(days=1)))
    if asked not in known:
        known[asked] = sessions(*asked)
    listed, delisted = (plausible_day(unit.ticker.own(column)) for column in ("list_date", "delist_date"))
    life = lives.get(unit.ticker.symbol, Life(unit.start, csv.first, csv.last))
    held = moment_day(life.first, market), moment_day(life.last, market)
    if listed is None:
        listed = expected_from(market, life.asked, held[0], look_back=look_back)
    found = coverage(known[asked], csv.days, listed=listed, delisted=delisted, held=held)
    return [Covered(outcome, known[asked], found)]
