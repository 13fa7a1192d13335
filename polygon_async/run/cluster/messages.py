"""Plain values that travel between the coordinator and the workers; none of them contains a secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections import Counter
    from datetime import date
    from pathlib import Path

    from polygon_async.errors import RunError, TickerError
    from polygon_async.ledger.entries import Run
    from polygon_async.ledger.events import Event
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Outcome, Unit
    from polygon_async.run.cluster.sharing import Mark
    from polygon_async.run.todo import Pending
    from polygon_async.settings.settings import Settings

__all__ = [
    "LOST",
    "PACE",
    "Assignment",
    "Begin",
    "Collect",
    "Counts",
    "Describe",
    "Ended",
    "Happened",
    "Later",
    "Message",
    "Order",
    "Said",
    "Stop",
    "StoredDays",
    "Superseded",
    "Unfit",
    "batch_prefix",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker needs to know of a run before its first unit."""

    run_key: str
    """The run's name on the cluster."""
    run: Run
    settings: Settings
    """Without the key, which each worker has of its own, and without the tickers."""
    directory: Path | None
    """Where CSVs and parts go, if all machines share it; None: each worker has a directory of its own."""
    mark: Mark
    """In the coordinator's output directory."""


@dataclass(frozen=True, slots=True)
class Order:
    """A unit to do."""

    pending: Pending
    priority: int


@dataclass(frozen=True, slots=True)
class Begin:
    """A worker asks for leave to do a unit; the reply is the attempt's number, or None: it is not to be done."""

    symbol: str
    batch: str


@dataclass(frozen=True, slots=True)
class Happened:
    """An event for the ledger; the reply comes when it has been written."""

    attempt: int
    event: Event


@dataclass(frozen=True, slots=True)
class Ended:
    """How a unit ended, and of what it failed: `fetched` says whether its bars had been complete."""

    attempt: int
    outcome: Outcome
    error: TickerError | None = None
    fetched: bool = True


@dataclass(frozen=True, slots=True)
class Describe:
    """A worker asks for a ticker's tags."""

    ticker: Ticker
    day: date


@dataclass(frozen=True, slots=True)
class StoredDays:
    """A worker asks which days of a ticker's bars are in a store."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class Stop:
    """A worker met what ends the run."""

    error: RunError


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a worker has counted since it last told; empty where there is nothing new."""

    numbers: dict[str, int] = field(default_factory=dict)
    """Requests, pages, bars and others, by the counter's name."""
    answers: Counter[int] | None = None
    retries: Counter[str] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    latencies: Counter[int] | None = None
    odd: dict[str, Counter[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    answered_before: float | None = None
    """How long ago the newest request was sent that was answered, in s."""
    uploads: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """Lines for the log, without secrets: level, text, and what the line's own fields are."""

    lines: list[tuple[int, str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker that came late lacks something, which is named: it can do nothing of what it was sent."""

    trouble: str


Message: TypeAlias = Begin | Happened | Ended | Describe | StoredDays | Stop | Counts | Said | Unfit


@dataclass(frozen=True, slots=True)
class Superseded:
    """The reply to a message of an earlier attempt: another worker has the unit."""


@dataclass(frozen=True, slots=True)
class Collect:
    """A worker asks for a reply that was not ready when the others of its message's group were."""

    number: int
    message: Message
    """It is as good as new, should nobody know the number."""


@dataclass(frozen=True, slots=True)
class Later:
    """The reply to a message whose own takes longer; a worker collects it by this number."""

    number: int


LOST = b""
"""What the scheduler itself says in a worker's place: it is gone."""
PACE = "polygon_pace"
"""The name under which a worker is told the pace, when what it was given is void."""


def batch_prefix(run_key: str) -> str:
    """How the names of a run's tasks begin; a number follows."""
    return f"polygon-{run_key}-"
