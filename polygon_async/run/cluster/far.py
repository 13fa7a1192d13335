"""What a unit needs of the ledger and of the reference data, in a worker: both are the coordinator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygon_async.errors import RunError
from polygon_async.run.cluster.messages import Describe, Happened, StoredDays, Superseded

if TYPE_CHECKING:
    from datetime import date

    from polygon_async.ledger.events import Event
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import Unit
    from polygon_async.run.cluster.link import Link
    from polygon_async.run.cluster.messages import Assignment

__all__ = ["FarRecorder", "FarTags", "OvertakenError"]


class OvertakenError(RunError):
    """The coordinator has given the unit to another worker."""


class FarRecorder:
    """What a unit needs of the ledger, which the coordinator alone writes."""

    def __init__(self, link: Link, assignment: Assignment) -> None:
        self.run = assignment.run
        self.source = assignment.settings.source
        self.attempts: dict[str, int] = {}
        """The number of the attempt at each unit that is under way."""
        self._link = link

    async def apply(self, event: Event) -> None:
        """Record what has happened to a unit, in its attempt.

        Raises:
            OvertakenError: another worker has it.
        """
        symbol = event.unit.ticker.symbol
        reply = await self._link.ask(Happened(self.attempts[symbol], event))
        if isinstance(reply, Superseded):
            raise OvertakenError("another worker has it")

    async def stored_days(self, unit: Unit) -> int:
        """The days (see `days`) of which a store holds the ticker's bars."""
        days: int = await self._link.ask(StoredDays(unit))
        return days


class FarTags:
    """The tickers' tags, which the coordinator looks up: once for all workers."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def described(self, ticker: Ticker, *, day: date) -> Ticker:
        """The ticker with all tags that are known."""
        found: Ticker = await self._link.ask(Describe(ticker, day))
        return found
