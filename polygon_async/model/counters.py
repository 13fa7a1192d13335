"""What a run has done so far: counters that the edges increase and the views read."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from polygon_async.model.states import OutcomeState

__all__ = ["ASKING", "Counters", "Down", "Latencies", "Measures", "Pace", "Series", "Watcher", "WorkerCounts"]

_STEP = math.log(1.05)
_MOST_SPANS = 240

ASKING = "requesting"
"""The stage of a ticker of which no page has arrived yet."""


@dataclass(slots=True)
class Latencies:
    """How long requests took, in buckets that are 5% wide."""

    counts: Counter[int] = field(default_factory=Counter)

    def note(self, seconds: float) -> None:
        """Record how long one request took."""
        self.counts[math.ceil(math.log(max(seconds, 1e-4)) / _STEP)] += 1

    def percentile(self, share: float) -> float | None:
        """Seconds within which this share (0 to 1) of the requests was answered; None without any request."""
        left = math.ceil(self.counts.total() * share)
        for number in sorted(self.counts):
            left -= self.counts[number]
            if left <= 0:
                return math.exp(number * _STEP)
        return None


@dataclass(slots=True)
class Span:
    """A few seconds of a run."""

    requests: int = 0
    refused: int = 0
    """Answers with 429."""
    failed: int = 0
    """Attempts without an answer, or with a 5xx."""
    allowed: float | None = None
    """The allowed requests a second at its end; None: unlimited."""


@dataclass(slots=True)
class Series:
    """Requests over time, in spans of a second each; when there are too many, of two, of four ..."""

    seconds: float = 1.0
    """Length of a span."""
    spans: dict[int, Span] = field(default_factory=dict)
    """By their number from the run's start; spans in which nothing happened are left out."""

    def at(self, moment: float) -> Span:
        """The span of a moment, which is in s since the run's start."""
        while (number := int(moment / self.seconds)) >= _MOST_SPANS:
            self._coarsen()
        return self.spans.setdefault(number, Span())

    def _coarsen(self) -> None:
        self.seconds *= 2
        old, self.spans = self.spans, {}
        for number, span in sorted(old.items()):
            into = self.spans.setdefault(number // 2, Span())
            into.requests += span.requests
            into.refused += span.refused
            into.failed += span.failed
            into.allowed = span.allowed


@dataclass(slots=True)
class Measures:
    """Where a run's time went; changed on the event loop only."""

    began: float = 0.0
    """The loop's time when the run began."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """All tickers together: waiting for tokens, on the network, reading pages, in lzop, uploading."""
    latencies: Latencies = field(default_factory=Latencies)
    series: Series = field(default_factory=Series)

    def sent(self, now: float, *, waited: float, allowed: float | None) -> Span:
        """Record that a request goes out after waiting for its token; returns its span."""
        self.seconds["tokens"] += waited
        span = self.series.at(max(0.0, now - self.began))
        span.requests += 1
        span.allowed = allowed
        return span

    def as_json(self) -> Mapping[str, object]:
        """Seconds by what they were spent on, and the latency's percentiles in ms."""
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        found = {name: self.latencies.percentile(share) for name, share in shares.items()}
        return {
            "seconds_in": {name: round(seconds, 3) for name, seconds in sorted(self.seconds.items())},
            "latency_ms": {name: seconds and round(seconds * 1000, 1) for name, seconds in found.items()},
        }


@dataclass(slots=True, repr=False)
class Counters:
    """Counters of one run; changed on the event loop only."""

    requests: int = 0
    """Requests sent, retries included."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status."""
    retries: Counter[str] = field(default_factory=Counter)
    """Retries by their reason."""
    answered: float = -math.inf
    """When the newest request was sent that brought what was asked for, by the loop's time."""
    pages: int = 0
    bars: int = 0
    """Bars written to files, whether or not their ticker succeeded."""
    duplicates: int = 0
    """Identical bars that the API sent twice and that were dropped."""
    csv_bytes: int = 0
    stored_bytes: int = 0
    """Bytes of the objects that were confirmed."""
    ended: Counter[OutcomeState] = field(default_factory=Counter)
    """Tickers that ended, by how."""
    measures: Measures = field(default_factory=Measures)
    queues: dict[str, Callable[[], int]] = field(default_factory=dict)
    """How long each of the run's queues is."""
    odd: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Bars with values that no bar can have, by ticker and by what is odd about them."""
    notes: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What a person should look at, by ticker: each a sentence about bars that were or were not there."""
    down: Down | None = None
    """The outage that the run waits for."""
    in_flight: dict[str, str] = field(default_factory=dict)
    """The tickers that are being worked on, and their stage."""
    workers: dict[str, WorkerCounts] = field(default_factory=dict)
    """What each worker has done, by its name, where there are several machines."""

    def __repr__(self) -> str:
        return f"<Counters: {self.requests:,} requests, {self.pages:,} pages, {self.bars:,} bars>"


@dataclass(slots=True)
class WorkerCounts:
    """What one worker of a cluster has done."""

    requests: int = 0
    pages: int = 0
    uploads: int = 0
    is_lost: bool = False
    """Whether it is gone."""

    def as_json(self, name: str) -> dict[str, object]:
        """For the summary and the report."""
        told = {"requests": self.requests, "pages": self.pages, "uploads": self.uploads}
        return {"worker": name, **told, "lost": self.is_lost}


@dataclass(frozen=True, slots=True)
class Down:
    """An outage of the API."""

    words: str
    """The newest failure."""
    until: float
    """When the run gives up, by the loop's time."""


class Pace(Protocol):
    """What a view needs to know of the pace that all requests share."""

    @property
    def per_second(self) -> float | None:
        """The requests a second that are allowed now; None: unlimited."""

    @property
    def paused_for(self) -> float:
        """Seconds until requests may be sent again; 0 without a pause."""

    @property
    def next_in(self) -> float:
        """Seconds until the next request may go out."""


class Watcher(Protocol):
    """Shows a run to a person while it goes on."""

    def watch(self, counters: Counters, pace: Pace, total: int) -> AbstractAsyncContextManager[object]:
        """A context that lasts as long as the run's work; `total` is the number of tickers."""
