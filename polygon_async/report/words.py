"""Sizes, spans, moments and long lists in; the words that a person reads, out."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["day", "duration", "first_lines", "moment", "size"]


def moment(ms: int) -> str:
    """Of ms UTC, in ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC).isoformat()


def day(ms: int) -> str:
    """UTC's calendar day of ms UTC."""
    return moment(ms)[:10]


def duration(seconds: float) -> str:
    """`3.7 s`, `2 min 05 s`, `16 h 40 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def size(count: float) -> str:
    """`60.1 MB`, of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def first_lines(lines: Iterable[str], total: int, *, most: int | None, rest: str) -> list[str]:
    """At most so many of `total` lines, and one that says where the rest is; None: all of them."""
    if most is None or total <= most:
        return list(lines)
    return [*islice(lines, most), f"and {total - most:,} more: {rest}"]
