"""How sizes, durations, moments and long lists are written for people."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from polygon_async.model.days import moment_day
from polygon_async.model.tickers import AssetType
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["counted", "day", "duration", "first_lines", "moment", "size"]


def moment(ms: int) -> str:
    """ms UTC as a moment in ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC).isoformat()


def day(ms: int, symbol: str) -> str:
    """The calendar day of a ticker's bar that starts at `ms` (UTC): New York's; UTC's for crypto and forex."""
    return moment_day(ms, AssetType.of(symbol)).isoformat()


def duration(seconds: float) -> str:
    """`3.7 s`, `2 min 05 s`, `16 h 40 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def size(count: float) -> str:
    """Bytes as `60.1 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def first_lines(lines: Iterable[str], total: int, *, most: int | None, rest: str) -> list[str]:
    """At most `most` of `total` lines, and one that says where the rest is; None: all of them."""
    if most is None or total <= most:
        return list(lines)
    return [*islice(lines, most), f"and {total - most:,} more: {rest}"]
