"""Removes secrets from text, as the last step before a log, a file or the screen."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Redactor"]

_MASK = "[redacted]"
_CUT = "…"
"""Marks where a text was shortened (errors.one_line)."""
_TELLING = 4
"""This many letters of a secret are too many."""
_SHORT = 8
"""A shorter secret is also part of ordinary words and paths (`test`, `b`): it is one only where it stands alone."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
_PATH = "/-."
"""What joins words to a path or a compound."""


def _overlap(text: str, secret: str) -> int:
    """How many of the secret's first letters the text ends with."""
    found = next((n for n in range(min(len(text), len(secret)), 0, -1) if text.endswith(secret[:n])), 0)
    begin = len(text) - found
    return found if len(secret) >= _SHORT or (found and _stands_alone(text, begin, len(text))) else 0


def _places(text: str, value: str) -> Iterator[tuple[int, int]]:
    """Where the text has this value: begin and end."""
    begin = text.find(value)
    while begin >= 0:
        end = begin + len(value)
        if len(value) >= _SHORT or _stands_alone(text, begin, end):
            yield begin, end
        begin = text.find(value, begin + 1)


def _stands_alone(text: str, begin: int, end: int) -> bool:
    """Whether this part of a text is a word of its own, a value that is assigned, or a part of a URL."""
    before, after = text[begin - 1 : begin], text[end : end + 1]
    # A secret may begin or end with a sign, which is the end of a word by itself.
    if _is_in_word(before, text[begin]) or _is_in_word(after, text[end - 1]):
        return False
    if before in {"=", ":", "@"} or any(url.start() < begin < url.end() for url in _URL.finditer(text)):
        return True
    # A dot ends a sentence, too.
    return not (before and before in _PATH) and not (after and after in _PATH and text[end + 1 : end + 2].strip())


def _is_in_word(neighbour: str, edge: str) -> bool:
    """Whether the letter beside a text's edge belongs to the same word."""
    return (neighbour.isalnum() or neighbour == "_") and (edge.isalnum() or edge == "_")


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
        self._values = sorted({*self._values, *spellings})

    def __call__(self, text: str) -> str:
        text = self._without_whole_ones(text)
        return self._without_cut_ones(text) if _CUT in text else text

    def _without_whole_ones(self, text: str) -> str:
        """Remove all places of all spellings at once: where two overlap, no rest of either may stay."""
        places = sorted(place for value in self._values if value in text for place in _places(text, value))
        parts, done = [], 0
        for begin, end in places:
            if begin >= done:
                parts += [text[done:begin], _MASK]
            done = max(done, end)
        return "".join(parts) + text[done:]

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
