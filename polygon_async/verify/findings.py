"""Frozen values that describe what an object should be, and what is wrong with one, or with a local file."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.ledger.inventory import RecordedUnit
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Unit

__all__ = ["Checked", "CheckedFile", "Expected", "Finding", "Kind"]


class Kind(enum.StrEnum):
    """What is wrong with an object, or a local file."""

    KEY = "key"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """It could not be inspected, or not be read to its end."""
    SIZE = "size"
    CHECKSUM = "checksum"
    METADATA = "metadata"
    TAGS = "tags"
    LZOP = "lzop"
    """lzop cannot decompress it."""
    SHA256 = "sha256"
    HEADER = "header"
    ROWS = "rows"
    """Some lines are not bars."""
    BARS = "bars"
    """The number of bars differs."""
    ENDS = "ends"
    """The first or the last bar differs."""
    ORDER = "order"
    RANGE = "range"
    CHANGED = "changed"
    """A local file is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an object should be: by the ledger, or by the object itself."""

    ticker: Ticker
    key: str
    collected: datetime
    """The time in the key, UTC."""
    unit: Unit | None = None
    """None if the range is unknown."""
    size: int | None = None
    """Bytes; None without a ledger."""
    checksum: str | None = None
    """The ETag; None without a ledger."""
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    """As much of it as is known."""
    recorded: RecordedUnit | None = None
    """The ledger's entry; None without a ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with an object, or a local file."""

    kind: Kind
    ticker: str
    """Empty if the key names none."""
    key: str
    """The object's; empty for a local file."""
    text: str
    """What is wrong."""
    remedy: str
    """What to do about it."""
    file: str = ""
    """The path of a local file; empty for an object."""

    def as_line(self) -> str:
        """The finding in one line."""
        return f"{self.ticker or '-'}  {self.key or self.file}: {self.text}; {self.remedy}"

    def as_json(self) -> dict[str, str]:
        """The finding for programs."""
        return {
            "kind": str(self.kind),
            "ticker": self.ticker,
            "key": self.key,
            "file": self.file,
            "finding": self.text,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One object that was checked."""

    key: str
    expected: Expected | None
    """None if its key has another layout."""
    findings: tuple[Finding, ...]
    size: int = 0
    """Bytes in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One local history that was looked for."""

    ticker: str
    is_there: bool
    expected: LocalHistory | None = None
    """What it should hold; not told of one that is right."""
    finding: Finding | None = None
