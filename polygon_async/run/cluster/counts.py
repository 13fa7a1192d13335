"""A worker's counters in; what is new since the last time out, and into the counters of the run."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polygon_async.model.counters import WorkerCounts
from polygon_async.run.cluster.messages import Counts

if TYPE_CHECKING:
    from polygon_async.model.counters import Counters

__all__ = ["Snapshot", "absorb"]

_NUMBERS = ("requests", "pages", "bars", "duplicates", "csv_bytes", "stored_bytes")


@dataclass(slots=True)
class Snapshot:
    """What has been told of the counters."""

    numbers: dict[str, int] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    latencies: Counter[int] = field(default_factory=Counter)
    odd: dict[str, Counter[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    uploads: int = 0
    uploads_told: int = 0

    def news(self, counters: Counters) -> Counts | None:
        """What is new since the last time; None if nothing is."""
        numbers = {name: getattr(counters, name) for name in _NUMBERS}
        if numbers == self.numbers and self.uploads == self.uploads_told:
            return None
        measures, now = counters.measures, asyncio.get_running_loop().time()
        counts = Counts(
            numbers={name: count - self.numbers.get(name, 0) for name, count in numbers.items()},
            answers=counters.answers - self.answers,
            retries=counters.retries - self.retries,
            seconds={name: spent - self.seconds.get(name, 0.0) for name, spent in measures.seconds.items()},
            latencies=measures.latencies.counts - self.latencies,
            odd={
                symbol: found.copy()
                for symbol, found in counters.odd.items()
                if found and found != self.odd.get(symbol)
            },
            notes={
                symbol: notes[self.notes.get(symbol, 0) :]
                for symbol, notes in counters.notes.items()
                if len(notes) > self.notes.get(symbol, 0)
            },
            answered_before=now - counters.answered if counters.answered > 0 else None,
            uploads=self.uploads - self.uploads_told,
        )
        self.numbers, self.uploads_told = numbers, self.uploads
        self.answers, self.retries = counters.answers.copy(), counters.retries.copy()
        self.seconds, self.latencies = dict(measures.seconds), measures.latencies.counts.copy()
        self.odd |= counts.odd
        self.notes |= {symbol: len(counters.notes[symbol]) for symbol in counts.notes}
        return counts

    def forget(self, symbol: str, counters: Counters) -> None:
        """A ticker has ended, and all about it was told: what is looked through each time stays as small as what is
        under way."""
        for known in (counters.odd, counters.notes, self.odd, self.notes):
            known.pop(symbol, None)


def absorb(counts: Counts, counters: Counters, *, worker: str, allowed: float | None) -> None:
    """Add what a worker has counted to the run's counters.

    Args:
        counts: What is new there.
        counters: The run's.
        worker: Its name.
        allowed: The rate that was asked for, requests a second.
    """
    for name, number in counts.numbers.items():
        setattr(counters, name, getattr(counters, name) + number)
    counters.answers.update(counts.answers or {})
    counters.retries.update(counts.retries or {})
    counters.measures.latencies.counts.update(counts.latencies or {})
    for name, seconds in counts.seconds.items():
        counters.measures.seconds[name] += seconds
    counters.odd.update(counts.odd)
    for symbol, notes in counts.notes.items():
        counters.notes[symbol] += notes
    now = asyncio.get_running_loop().time()
    if counts.answered_before is not None:
        counters.answered = max(counters.answered, now - counts.answered_before)
    requests = counts.numbers.get("requests", 0)
    if requests:
        span = counters.measures.series.at(max(0.0, now - counters.measures.began))
        span.requests += requests
        span.refused += (counts.answers or Counter())[429]
        span.allowed = allowed
    own = counters.workers.setdefault(worker, WorkerCounts())
    own.requests += requests
    own.pages += counts.numbers.get("pages", 0)
    own.uploads += counts.uploads
