"""Failed tickers in; an end to the run, where there are as many as its user allows, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygon_async.errors import RunError
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polygon_async.errors import TickerError
    from polygon_async.model.units import Unit

__all__ = ["FailureLimit"]


class FailureLimit:
    """Counts the tickers that fail in a run, for whatever reason.

    Args:
        units: What is left to do.
        most: With so many failures the run ends; infinity: it never does.
    """

    def __init__(self, units: Sequence[Unit], most: float) -> None:
        self._units = units
        self._most = most
        self._count = 0

    def in_order(self) -> Iterable[int]:
        """The numbers of the units in the order in which they are to begin: their own."""
        return range(len(self._units))

    async def admit(self, unit: Unit) -> None:
        """Let a ticker begin."""

    def done(self) -> None:
        """A ticker has been fetched."""

    def failed(self, unit: Unit, error: TickerError) -> None:
        """A ticker has failed.

        Raises:
            RunError: there are as many as the run may have.
        """
        self._count += 1
        if self._count < self._most:
            return
        last = f"{unit.ticker.symbol}: {error}"
        if self._most == 1:
            raise RunError(f"stopped at the first ticker that failed (--max-failures 1): {last}") from error
        raise RunError(
            f"stopped after {counted(self._count, 'ticker')} failed (--max-failures); the last: {last}"
        ) from error

    not_stored = failed
