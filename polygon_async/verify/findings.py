"""Nothing in, the frozen values of a verification out: what an object must be, and what is wrong with one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from polygon_async.ledger.inventory import RecordedUnit
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Unit

__all__ = ["Checked", "Expected", "Finding", "Kind"]


class Kind(enum.StrEnum):
    """What is wrong with an object."""

    KEY = "key"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """It could not be looked at, or not be read to its end."""
    SIZE = "size"
    CHECKSUM = "checksum"
    METADATA = "metadata"
    TAGS = "tags"
    LZOP = "lzop"
    """lzop cannot decompress it."""
    SHA256 = "sha256"
    HEADER = "header"
    ROWS = "rows"
    """There are lines that are no bars."""
    BARS = "bars"
    """Another number of them."""
    ENDS = "ends"
    """Another first or last bar."""
    ORDER = "order"
    RANGE = "range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an object must be: as the ledger has it, or as the object itself says."""

    ticker: Ticker
    key: str
    collected: datetime
    """The time in the key, UTC."""
    unit: Unit | None = None
    """None where nothing tells the range."""
    size: int | None = None
    """Bytes; None where only the object itself tells."""
    checksum: str | None = None
    """The ETag; likewise."""
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    """As much of it as is known."""
    recorded: RecordedUnit | None = None
    """What the ledger has of it, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with an object."""

    kind: Kind
    ticker: str
    """Empty where the key names none."""
    key: str
    text: str
    """What is wrong."""
    remedy: str
    """What helps."""

    def as_line(self) -> str:
        """It in one line."""
        return f"{self.ticker or '-'}  {self.key}: {self.text}; {self.remedy}"

    def as_json(self) -> dict[str, str]:
        """It for programs."""
        return {
            "kind": str(self.kind),
            "ticker": self.ticker,
            "key": self.key,
            "finding": self.text,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One object that was looked at."""

    key: str
    expected: Expected | None
    """None where its key is none of ours."""
    findings: tuple[Finding, ...]
    size: int = 0
    """Bytes in the store."""
