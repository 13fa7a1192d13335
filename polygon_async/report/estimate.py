"""What fetching some units will take, as ranges, judged by how dense their tickers' bars are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polygon_async.bars.page import MOST_BARS
from polygon_async.model.sessions import Sessions, sessions
from polygon_async.model.tickers import AssetType
from polygon_async.model.units import today

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from polygon_async.model.units import Unit
    from polygon_async.system.threads import Threads

__all__ = ["Density", "Estimate", "Span", "estimate", "expect"]

_CSV_BYTES = (58.0, 80.0)
"""Bytes of a bar's row."""
_STORED_SHARE = (0.5, 0.6)
"""The share of a CSV's bytes that remains after lzop."""
_MINUTES = {
    AssetType.STOCKS: (1.0, 960.0),
    AssetType.OPTIONS: (1.0, 390.0),
    AssetType.INDICES: (1.0, 400.0),
    AssetType.FOREX: (1.0, 1440.0),
    AssetType.CRYPTO: (1.0, 1440.0),
}
"""Bars that a ticker can have in a session: from a single one to every minute of the market's day."""
_DRIFT = 0.25
"""How far a ticker's density may differ from its earlier one, or from that of other tickers of its market."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range, from the least to the most."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def as_json(self) -> list[int]:
        """Both ends, rounded."""
        return [round(self.low), round(self.high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """How many bars a ticker has in a session."""

    bars: float
    basis: str
    """`ledger` or `sample`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What fetching some units will take."""

    units: int
    sessions: Mapping[str, int]
    """Sessions in the range, by market; if units have different ranges, the most."""
    requests: Span
    bars: Span
    csv_bytes: Span
    stored_bytes: Span
    largest: float
    """Bytes that the largest CSV may have."""
    bases: Mapping[str, int]
    """How many densities come from the `ledger`, a `sample`, `others` of the market, or an `assumption`."""

    def as_json(self) -> dict[str, Any]:
        """Ranges as [low, high]."""
        spans = {name: getattr(self, name).as_json() for name in ("requests", "bars", "csv_bytes", "stored_bytes")}
        return {"units": self.units, "sessions": dict(self.sessions), **spans, "rests_on": dict(self.bases)}


def estimate(
    units: Sequence[Unit], known: Mapping[str, Density], *, lookups: int = 0, until: date | None = None
) -> Estimate:
    """What fetching the units will take, at least and at most.

    Args:
        units: What is to be fetched.
        known: Densities by symbol; other tickers are assumed to lie between the thinnest and the densest of
            their market, or, if none is known, between what the market allows.
        lookups: Most requests that looking up tags may cost.
        until: The last day that has all its bars; later ones have none yet. None: no day is too late.

    Raises:
        ValueError: an exchange's calendar does not reach there.
    """
    calendar: dict[tuple[AssetType, date, date], Sessions] = {}
    by_market: dict[str, int] = {}
    bases: dict[str, int] = {}
    requests, bars, csv = Span(0, lookups), Span(0, 0), Span(0, 0)
    largest = 0.0
    of_market = _of_markets(units, known)
    for unit in units:
        market = unit.ticker.market
        asked = (market, unit.start, unit.end if until is None else min(unit.end, until))
        if asked not in calendar:
            calendar[asked] = sessions(*asked)
        count = calendar[asked].days.bit_count()
        by_market[market] = max(by_market.get(market, 0), count)
        density, basis = _density(unit, known, of_market)
        bases[basis] = bases.get(basis, 0) + 1
        found = Span(count * density.low, count * density.high)
        bars += found
        requests += _requests(found)
        own = Span(found.low * _CSV_BYTES[0], found.high * _CSV_BYTES[1])
        csv += own
        largest = max(largest, own.high)
    stored = Span(csv.low * _STORED_SHARE[0], csv.high * _STORED_SHARE[1])
    return Estimate(
        units=len(units),
        sessions=by_market,
        requests=requests,
        bars=bars,
        csv_bytes=csv,
        stored_bytes=stored,
        largest=largest,
        bases=bases,
    )


async def expect(
    units: Sequence[Unit], densities: Mapping[str, float], *, lookups: int, offload: Threads
) -> Estimate | None:
    """The estimate that a plan would have given from the ledger alone; None if the sessions are unknown."""
    known = {symbol: Density(bars=bars, basis="ledger") for symbol, bars in densities.items()}
    try:
        return await offload(estimate, units, known, lookups=lookups, until=today() - timedelta(days=1))
    except ValueError:
        return None


def _requests(bars: Span) -> Span:
    """By the bars of a page; windows may cost a tenth more plus one, and an empty range is requested twice."""
    low = max(1, math.ceil(bars.low / MOST_BARS))
    high = max(2, math.ceil(bars.high / MOST_BARS))
    return Span(low, high if high <= 2 else math.ceil(high * 1.1) + 1)


def _density(unit: Unit, known: Mapping[str, Density], of_market: Mapping[str, Span]) -> tuple[Span, str]:
    own = known.get(unit.ticker.symbol)
    if own is not None:
        return _around(own.bars, own.bars), own.basis
    if (others := of_market.get(unit.ticker.market)) is not None:
        return others, "others"
    return Span(*_MINUTES[unit.ticker.market]), "assumption"


def _of_markets(units: Iterable[Unit], known: Mapping[str, Density]) -> dict[str, Span]:
    """The thinnest to the densest known ticker of each market."""
    found: dict[str, list[float]] = {}
    for unit in units:
        if (density := known.get(unit.ticker.symbol)) is not None:
            found.setdefault(unit.ticker.market, []).append(density.bars)
    return {market: _around(min(bars), max(bars)) for market, bars in found.items()}


def _around(low: float, high: float) -> Span:
    return Span(low * (1 - _DRIFT), high * (1 + _DRIFT))
