"""A rate of requests: its text in, its value out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ["Rate", "parse_rate", "spell_rate"]

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_SPELLINGS = {"sec": "s", "second": "s", "m": "min", "minute": "min", "hr": "h", "hour": "h"}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/([a-z]+)")


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests may be sent; without bursts, so `5/min` is one every 12 seconds."""

    text: str
    """As the user wrote it: `5/min`, `100/s`, `unlimited`, `auto`."""
    per_second: float | None
    """None without a limit, and for `auto`, which finds the limit."""

    @property
    def is_auto(self) -> bool:
        """Whether the rate is found during the run; the pacer knows the current one."""
        return self.text == "auto"


def spell_rate(per_second: float) -> str:
    """A rate for people, to two digits: `8/s`, `5/min`."""
    count, unit = (per_second, "s") if per_second >= 1 else (per_second * 60, "min")
    return f"{float(f'{count:.2g}'):g}/{unit}"


def parse_rate(text: str) -> Rate:
    """`5/min`, `100/s`, `3000/h`, `unlimited` or `auto` as a Rate; other spellings of the units are understood.

    Raises:
        ValueError: the text is none of these.
    """
    if text in {"unlimited", "auto"}:
        return Rate(text, None)
    match = _RATE.fullmatch(text.lower())
    unit = "" if match is None else _SPELLINGS.get(match[2], match[2])
    if match is None or unit not in _UNITS:
        raise ValueError("must be N/s, N/min or N/h (such as 5/min), unlimited or auto")
    count = float(match[1])
    if not (0 < count < math.inf):
        raise ValueError("must be more than 0, or unlimited")
    return Rate(f"{match[1]}/{unit}", count / _UNITS[unit])
