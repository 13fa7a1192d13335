"""Failed outcomes in; what they failed of, and how many did, out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polygon_async.model.units import Outcome

__all__ = ["Cause", "causes"]

_MOST_NAMED = 5
_REQUEST = re.compile(r" (\[GET [^\]]*\]|\(request_id [^)]*\))")
_OWN_TO_ONE = re.compile(r"[0-9a-fA-F]{8,}|\d+")
"""What differs between two messages that say the same."""


@dataclass(slots=True)
class Cause:
    """What some tickers failed of."""

    text: str
    """As the first of them has it: whole if it is the only one, else without its request."""
    tickers: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if len(self.tickers) == 1:
            return f"{self.tickers[0]}: {self.text}"
        more = f" and {len(self.tickers) - _MOST_NAMED:,} more" if len(self.tickers) > _MOST_NAMED else ""
        return (
            f"{counted(len(self.tickers), 'ticker')}: {self.text}: {', '.join(islice(self.tickers, _MOST_NAMED))}{more}"
        )

    def as_json(self) -> dict[str, object]:
        """The cause, how many tickers it failed, and the first of them."""
        return {
            "cause": self.text,
            "tickers": len(self.tickers),
            "first": self.tickers[:_MOST_NAMED],
        }


def causes(failed: Iterable[Outcome]) -> list[Cause]:
    """What the tickers failed of, the most common cause first."""
    found: dict[str, Cause] = {}
    for outcome in failed:
        symbol, text = outcome.unit.ticker.symbol, outcome.error or ""
        plain = _REQUEST.sub("", text)
        own = rf"(?<![A-Za-z0-9]){re.escape(symbol)}(?![A-Za-z0-9])"
        cause = found.setdefault(_OWN_TO_ONE.sub("#", re.sub(own, "*", plain)), Cause(text))
        if cause.tickers:
            cause.text = _REQUEST.sub("", cause.text)
        cause.tickers.append(symbol)
    return sorted(found.values(), key=lambda each: -len(each.tickers))
