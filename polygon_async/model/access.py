"""How the API is reached, as plain values: whom to ask, as whom, how fast and with how much patience."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polygon_async.model.rate import Rate

__all__ = ["Access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the REST API's client has to be told; every value checked."""

    base_url: str
    """Scheme, host and, where there is one, path prefix, without a slash at its end."""
    api_key: str = field(repr=False)
    rate: Rate
    patience: float
    """Seconds for which a failing request is retried."""
    stall_timeout: float
    """Seconds without a byte after which an attempt has failed."""
    outage_patience: float
    """Seconds for which the API may be down for everyone before the run ends."""
    connections: int
    """Most connections at once."""
    processes: int = 0
    """Most processes that parse large pages; 0: threads do."""
    expects_large_pages: bool = False
    """Whether to start some of those processes with the first request rather than with the first large page."""
