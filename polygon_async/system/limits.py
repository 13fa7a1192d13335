"""Time limits for steps that might never end by themselves: parsing a page, compressing a file, testing it."""

from __future__ import annotations

__all__ = ["seconds_for"]

_LEAST_SECONDS = 60
"""Even for a tiny step: the machine may be busy with a hundred others."""
_BYTES_PER_SECOND = 1_000_000
"""The speed of the slowest step on the slowest machine; usually it is a hundred times as fast."""


def seconds_for(size: int, *, at_least: float = 0.0) -> float:
    """How long a step over this many bytes may take, but `at_least` that many seconds; longer means that it hangs."""
    return max(at_least, _LEAST_SECONDS) + size / _BYTES_PER_SECOND
