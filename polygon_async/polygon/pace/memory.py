"""What earlier runs learned about a key's rate, in the user's cache directory under a digest of the key."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from polygon_async.system.files import cache_directory, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["LearnedRate", "RateMemory", "cache_file", "has_usable"]

log = logging.getLogger(__name__)

_LIFE = 7 * 86_400.0
"""Seconds after which a lesson is forgotten: plans change."""
_MOST_BYTES = 1 << 20
_MOST_ENTRIES = 100
_SALT = b"polygon_async rates 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRate:
    """What is known about a plan's limit."""

    per_second: float
    """The highest rate that held, in requests a second, or what a refusal taught."""
    ceiling: float | None
    """The lowest rate that was refused; None if none was."""


class _Entry(msgspec.Struct, kw_only=True):
    per_second: float
    ceiling: float | None
    learned: float
    """When it was learned; seconds since 1970."""


class _File(msgspec.Struct, kw_only=True):
    rates: dict[str, _Entry]


class RateMemory:
    """What was learned about one key at one host, in a file that has those of other keys, too.

    A file that is missing, damaged, or cannot be read or written is no error: the next run learns again.
    All methods wait for the disk, and belong in a thread.

    Args:
        path: The file; None for no memory at all.
        key: The API key, of which only a digest is kept.
        base_url: The API's address; its host and port count.
        clock: Seconds since 1970.
    """

    def __init__(self, path: Path | None, *, key: str, base_url: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        host = urlsplit(base_url).netloc.lower()
        self._name = hashlib.sha256(b"\0".join((_SALT, host.encode(), key.encode()))).hexdigest()[:24]

    def recall(self) -> LearnedRate | None:
        """The lesson, if there is one that has not expired."""
        if self._path is None or (entry := self._entries(self._path).get(self._name)) is None:
            return None
        return LearnedRate(per_second=entry.per_second, ceiling=entry.ceiling)

    def keep(self, lesson: LearnedRate) -> None:
        """Write the lesson; the file is replaced as a whole, and other keys' lessons stay."""
        if self._path is None:
            return
        entries = self._entries(self._path)
        entries[self._name] = _Entry(per_second=lesson.per_second, ceiling=lesson.ceiling, learned=self._clock())
        newest = sorted(entries.items(), key=lambda item: item[1].learned)[-_MOST_ENTRIES:]
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = msgspec.json.encode(_File(rates=dict(newest)))
            replace_file(self._path, content, mode=0o600, shared=True)
        except OSError as error:
            log.debug("cannot remember the learned rate: %s", error)

    def _entries(self, path: Path) -> dict[str, _Entry]:
        return _usable(path, self._clock())


def has_usable(path: Path) -> bool:
    """Whether a file of lessons has any, of whatever key, that has not expired."""
    return bool(_usable(path, time.time()))


def _usable(path: Path, now: float) -> dict[str, _Entry]:
    """The file's entries that can still be used."""
    try:
        with path.open("rb") as file:
            found = msgspec.json.decode(file.read(_MOST_BYTES), type=_File).rates
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.debug("no rates are remembered: %s", error)
        return {}
    return {
        name: entry
        for name, entry in found.items()
        if entry.per_second > 0 and (entry.ceiling is None or entry.ceiling > 0) and 0 <= now - entry.learned < _LIFE
    }


def cache_file(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """Where the lessons are kept; None if the user has no home."""
    directory = cache_directory(environment, platform)
    return None if directory is None else directory / "rates.json"
