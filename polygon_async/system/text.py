"""A number and its noun in, words out."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """`1 object`, `2,000 objects`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
