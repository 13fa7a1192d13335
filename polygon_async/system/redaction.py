"""Removes secrets from text, as the last step before a log, a file or the screen."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redactor"]

_MASK = "[redacted]"
_CUT = "…"
"""Marks where a text was shortened (errors.one_line)."""
_TELLING = 4
"""This many letters of a secret are too many."""


def _overlap(text: str, secret: str) -> int:
    """How many of the secret's first letters the text ends with."""
    return next((n for n in range(min(len(text), len(secret)), 0, -1) if text.endswith(secret[:n])), 0)


class Redactor:
    """Knows the secrets' values and removes them from any text, however they are quoted there."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        self._values: list[str] = []
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str | None) -> None:
        """Remove `secret`, too, from now on."""
        if not secret:
            return
        # A variable need not be text.
        quoted = {spell(secret, errors="surrogateescape") for spell in (quote, partial(quote, safe=""), quote_plus)}
        spellings = {secret, *quoted, json.dumps(secret)[1:-1]}
        # The longest first: where one spelling contains another, no rest of it may stay.
        self._values = sorted({*self._values, *spellings}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, _MASK)
        return self._without_cut_ones(text) if _CUT in text else text

    def _without_cut_ones(self, text: str) -> str:
        """Remove what a shortened text still contains of a secret's beginning."""
        parts = text.split(_CUT)
        for number, part in enumerate(parts[:-1]):
            left = max((_overlap(part, value) for value in self._values), default=0)
            if left >= _TELLING:
                parts[number] = part[: len(part) - left] + _MASK
        return _CUT.join(parts)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._values)} spellings>"
