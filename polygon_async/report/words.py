"""Sizes, spans and moments in; the words that a person reads, out."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["day", "duration", "moment", "size"]


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
