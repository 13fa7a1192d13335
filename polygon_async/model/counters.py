"""What a run has done so far: the counters that the edges raise and the views read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polygon_async.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.model.units import State

__all__ = ["ASKING", "Tally"]

ASKING = "asking"
"""What is done for a ticker of which no page has come yet."""


@dataclass(slots=True)
class Tally:
    """Counters of one run; raised on the event loop only."""

    requests: int = 0
    """Requests sent, retries included."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status."""
    retries: Counter[str] = field(default_factory=Counter)
    """Retries by their reason."""
    pages: int = 0
    bars: int = 0
    """Bars written to files, whether or not their ticker ended well."""
    doubles: int = 0
    """Identical bars that the API sent twice and that were dropped."""
    csv_bytes: int = 0
    stored_bytes: int = 0
    """Bytes of the objects that were confirmed."""
    ended: Counter[State] = field(default_factory=Counter)
    """Tickers that ended, by how."""
    measures: Measures = field(default_factory=Measures)
    queues: dict[str, Callable[[], int]] = field(default_factory=dict)
    """How long each of the run's queues is."""
    in_flight: dict[str, str] = field(default_factory=dict)
    """Tickers that somebody works on, and at what."""
