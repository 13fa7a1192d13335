"""Tickers and what the ledger holds of them in; the units of a run, and those that need nothing more, out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from polygon_async.model.states import FetchState, OutcomeState
from polygon_async.model.units import Outcome, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polygon_async.ledger.entries import Held, UnitRecord
    from polygon_async.model.tickers import Ticker
    from polygon_async.settings.settings import Settings

__all__ = ["counts", "ended_before", "units_of"]


def units_of(
    tickers: Iterable[Ticker], settings: Settings, held: Mapping[str, Held]
) -> tuple[list[Unit], list[Outcome]]:
    """One unit for each ticker; and how those ended that have everything already.

    Args:
        tickers: The universe.
        settings: What is asked for.
        held: Where only what is new counts, the newest bars that are held of each ticker, by its symbol.
    """
    units, done = [], []
    for ticker in tickers:
        before = held.get(ticker.symbol)
        start = settings.start if before is None else before.until + timedelta(days=1)
        if before is None or start <= settings.end:
            units.append(Unit(ticker=ticker, start=start, end=settings.end, adjusted=settings.adjusted))
            continue
        unit = Unit(ticker=ticker, start=before.first_day, end=before.last_day, adjusted=settings.adjusted)
        state = OutcomeState.UPLOADED if settings.upload else OutcomeState.SAVED
        done.append(Outcome(unit=unit, state=state, csv=before.csv, receipt=before.receipt, earlier=True))
    return units, done


def counts(unit: Unit, standing: UnitRecord, *, run: int | None) -> bool:
    """Whether the range was over when it was fetched; what was not yet counts for the run that fetched it."""
    return standing.run == run or unit.end < standing.day


def ended_before(unit: Unit, standing: UnitRecord | None, *, run: int | None, upload: bool) -> Outcome | None:
    """How the unit ended in an earlier run, where nothing is left to do."""
    if standing is None or not counts(unit, standing, run=run):
        return None
    if standing.state is FetchState.NO_DATA:
        return Outcome(unit=unit, state=OutcomeState.NO_DATA, earlier=True)
    if upload and standing.receipt is not None:
        return Outcome(unit=unit, state=OutcomeState.UPLOADED, csv=standing.csv, receipt=standing.receipt, earlier=True)
    return None
