"""The seam between a run and what does its units: the coordinator hands over work, and each unit's end comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.counters import Counters
    from polygon_async.polygon.client import Client
    from polygon_async.run.outcomes import Outcomes
    from polygon_async.run.todo import Todo
    from polygon_async.settings.settings import Settings
    from polygon_async.store.delivery import Delivery
    from polygon_async.system.threads import Threads

__all__ = ["Engine", "Work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is left of a run, and what its coordinator has open."""

    todo: Todo
    settings: Settings
    outcomes: Outcomes
    """Gets one outcome for each unit, in order of ending."""
    client: Client
    recorder: Recorder
    """The only one that writes the ledger."""
    deliver: Delivery | None
    """None: the CSVs are all that is wanted."""
    offload: Threads
    counters: Counters


class Engine(Protocol):
    """Does units: on this machine, or on many."""

    async def __call__(self, work: Work) -> None:
        """Do all of the work.

        Raises:
            RunError: the run cannot go on.
        """
