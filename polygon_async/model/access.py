"""How to reach the API, as plain values: address, key, rate, and patience."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from polygon_async.model.rate import Rate

__all__ = ["Access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the REST client needs to know; every value is checked."""

    base_url: str
    """Scheme, host and any path prefix, without a trailing slash."""
    api_key: str = field(repr=False)
    rate: Rate
    patience: float
    """How long to keep retrying a failing request, in s."""
    stall_timeout: float
    """How long an attempt may go without receiving a byte, in s."""
    outage_patience: float
    """How long the API may be down before the run ends, in s."""
    connections: int
    """Most connections at once."""
    processes: int = 0
    """Most processes that parse large pages; 0: threads do."""
    expects_large_pages: bool = False
    """Whether to start some of those processes with the first request rather than with the first large page."""

    @property
    def host(self) -> str:
        """The API's host, without user and password, for messages."""
        return urlsplit(self.base_url).hostname or ""
