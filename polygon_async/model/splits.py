"""Splits of a ticker's shares in; by what its prices and volumes of earlier days are adjusted, out. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from polygon_async.errors import TickerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

__all__ = ["Adjustment", "Split", "adjustments", "once_each"]


@dataclass(frozen=True, slots=True, order=True)
class Split:
    """One split, as the API lists it."""

    ticker: str
    day: date
    """The day on which it was executed: the first on the new basis, pre-market included."""
    split_from: str
    """Shares before, as the API spells the number: 1 in a 2-for-1."""
    split_to: str
    """Shares after: 2 in a 2-for-1."""

    @property
    def ratio(self) -> Fraction:
        """Shares after, for one share before.

        Raises:
            TickerError: the list has something else than numbers of shares.
        """
        try:
            ratio = Fraction(self.split_to) / Fraction(self.split_from)
        except (ValueError, ZeroDivisionError):
            ratio = Fraction(0)
        if ratio <= 0:
            raise TickerError(f"the API lists an impossible split: {self}; its bars cannot be adjusted")
        return ratio

    def __str__(self) -> str:
        return f"{self.split_to}-for-{self.split_from} of {self.day}"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What the bars before a day are adjusted by; those of earlier days by the next earlier one."""

    before: date
    ratio: Fraction
    """Prices are divided by it, volumes multiplied."""


def once_each(splits: Iterable[Split]) -> tuple[list[Split], int]:
    """The splits of one ticker by their days, each once, and how many the list had twice.

    Raises:
        TickerError: two different splits on one day, or one that cannot be one.
    """
    kept: list[Split] = []
    doubles = 0
    for split in sorted(splits):
        if split.ratio and (not kept or split.day != kept[-1].day):
            kept.append(split)
        elif split.ratio == kept[-1].ratio:
            doubles += 1
        else:
            raise TickerError(
                f"the API lists two different splits on one day: {kept[-1]}, and {split};"
                " its bars cannot be adjusted until the API has mended that"
            )
    return kept, doubles


def adjustments(splits: Sequence[Split], *, as_of: date) -> list[Adjustment]:
    """How bars are adjusted as of a day, the earliest first.

    Args:
        splits: Those of one ticker, by their days, each once.
        as_of: The last day whose splits count.
    """
    due = [split for split in splits if split.day <= as_of]
    ratios = list(itertools.accumulate((split.ratio for split in reversed(due)), lambda one, other: one * other))
    return [Adjustment(split.day, ratio) for split, ratio in zip(due, reversed(ratios), strict=True)]
