"""A ticker, its market, and what is known about it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AssetType", "Listing", "Ticker", "is_symbol"]

_SYMBOL = re.compile(r"[A-Za-z0-9.:_=+-]{1,64}")


class AssetType(enum.StrEnum):
    """A ticker's kind; in the API, the ticker's prefix shows it."""

    STOCKS = "stocks"
    OPTIONS = "options"
    INDICES = "indices"
    FOREX = "forex"
    CRYPTO = "crypto"

    @classmethod
    def of(cls, symbol: str) -> AssetType:
        """The asset type by the prefix of `symbol`."""
        prefixes = {"X:": cls.CRYPTO, "C:": cls.FOREX, "I:": cls.INDICES, "O:": cls.OPTIONS}
        return prefixes.get(symbol[:2], cls.STOCKS)


@dataclass(frozen=True, slots=True)
class Listing:
    """A ticker's entry in the API's reference data; None: not given there."""

    exchange: str | None = None
    """Under the name that people use."""
    currency: str | None = None
    """The code, in capitals."""


@dataclass(frozen=True, slots=True)
class Ticker:
    """One ticker of the universe, with its tags."""

    symbol: str
    """As the API spells it; case-sensitive and never changed."""
    asset_type: AssetType
    """For the tag and the key; a universe may override what the prefix says."""
    exchange: str
    currency: str
    row: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    """The universe's other columns as they were, for the lists that can be fed back in."""

    def own(self, column: str) -> str:
        """The cell of its universe row in a column (in any case); empty if there is none."""
        return next((value for name, value in self.row.items() if name.strip().lower() == column and value), "")

    @property
    def market(self) -> AssetType:
        """The API's asset type, whatever the tags say: days and the fields of bars depend on it."""
        return AssetType.of(self.symbol)


def is_symbol(text: str) -> bool:
    """Whether `text` can be a ticker, which becomes part of paths, file names and keys."""
    return _SYMBOL.fullmatch(text) is not None and bool(text.strip("."))
