"""Units with how dense their bars are in; an order, the longest first, and batches of them out. Pure."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from polygon_async.model.units import Unit

__all__ = ["batch_size", "longest_first", "pages_of"]

_UNKNOWN = 390.0
"""Bars a session of a ticker of which nothing is known: one a minute, while the exchange is open."""
_SESSIONS_A_DAY = 5 / 7
_PAGE = 50_000
_MOST_SECONDS = 15.0
"""Of work in a batch: no straggler ends the run."""
_MOST_UNITS = 64
_SECONDS_A_UNIT = 0.05
_SECONDS_A_PAGE = 0.2
"""What a unit, and a full page of it, take of a worker that does one after another."""


def pages_of(unit: Unit, densities: Mapping[str, float]) -> float:
    """About how many pages a unit has; more than 0."""
    days = (unit.end - unit.start).days + 1
    return max(1e-3, densities.get(unit.ticker.symbol, _UNKNOWN) * days * _SESSIONS_A_DAY / _PAGE)


def longest_first(units: Sequence[Unit], densities: Mapping[str, float]) -> list[int]:
    """The numbers of the units in the order in which they should begin."""
    return sorted(range(len(units)), key=lambda number: -pages_of(units[number], densities))


def batch_size(pages: Iterator[float], *, concurrency: int, per_second: float | None, workers: int) -> int:
    """How many of the next units are a batch, given their pages.

    Args:
        pages: Of the next units, in order.
        concurrency: How many units a worker does at once.
        per_second: The rate that all workers share; None: unlimited.
        workers: How many there are.
    """
    each = math.inf if per_second is None else per_second / max(workers, 1)
    spent, count = 0.0, 0
    for many in islice(pages, _MOST_UNITS):
        spent += max((_SECONDS_A_UNIT + many * _SECONDS_A_PAGE) / concurrency, math.ceil(many) / each)
        if count and spent > _MOST_SECONDS:
            break
        count += 1
    return max(count, 1)
