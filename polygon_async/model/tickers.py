"""A ticker, what it is, and what is known of it."""

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
    """What a ticker is; the API tells it by the ticker's prefix."""

    STOCKS = "stocks"
    OPTIONS = "options"
    INDICES = "indices"
    FOREX = "forex"
    CRYPTO = "crypto"

    @classmethod
    def of(cls, symbol: str) -> AssetType:
        """The asset type that the prefix of `symbol` tells."""
        prefixes = {"X:": cls.CRYPTO, "C:": cls.FOREX, "I:": cls.INDICES, "O:": cls.OPTIONS}
        return prefixes.get(symbol[:2], cls.STOCKS)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the API's reference data tells of a ticker; None is what it does not."""

    exchange: str | None = None
    """By the name that people use."""
    currency: str | None = None
    """Its code, in capitals."""


@dataclass(frozen=True, slots=True)
class Ticker:
    """One ticker of the universe and what its tags say of it."""

    symbol: str
    """As the API spells it; case-sensitive and never changed."""
    asset_type: AssetType
    """As the tag and the key say it; a universe may have its own opinion."""
    exchange: str
    currency: str
    row: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The universe's other columns as they were, for the lists that can be fed back in."""

    def own(self, column: str) -> str:
        """What its row of the universe says in a column, whatever the case of its name; empty for nothing."""
        return next((value for name, value in self.row.items() if name.strip().lower() == column and value), "")

    @property
    def market(self) -> AssetType:
        """What it is to the API, whatever the tags say: its days and its bars' fields depend on it."""
        return AssetType.of(self.symbol)


def is_symbol(text: str) -> bool:
    """Whether `text` can be a ticker: it becomes part of paths, file names and keys."""
    return _SYMBOL.fullmatch(text) is not None and bool(text.strip("."))
