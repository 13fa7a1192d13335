"""Frozen values that describe an object: what it should be, and what a store says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ObjectDescription", "StoredObject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDescription:
    """What an object should be, apart from its content."""

    key: str
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What a store says of an object; nothing is proven yet."""

    key: str
    size: int
    """Bytes."""
    metadata: Mapping[str, str]
    tags: Mapping[str, str] | None
    """None if they were not requested."""
    sha256: str | None
    """Base64, followed by `-N` if it is a digest of N parts' digests; None if the store has none."""
    tag_count: int | None = None
    """How many tags it has; None if the store does not say."""
    etag: str
    """Usually the MD5 in hex, or with `-N` that of N parts' MD5s; some stores use something else."""
