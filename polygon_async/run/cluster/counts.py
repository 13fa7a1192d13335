"""A worker's counters in; what is new since the last time out."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polygon_async.run.cluster.messages import Counts

if TYPE_CHECKING:
    from polygon_async.model.counters import Counters

__all__ = ["Snapshot"]

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
