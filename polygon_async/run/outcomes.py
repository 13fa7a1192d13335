"""How units end: an error in, an outcome out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from polygon_async.errors import TickerError
from polygon_async.model.states import OutcomeState
from polygon_async.model.units import Outcome
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from polygon_async.ledger.events import Event, Failed, NotUploaded
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import CsvFile, Unit
    from polygon_async.system.redaction import Redactor

__all__ = ["Outcomes", "failed"]

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Outcomes:
    """One outcome for every unit that ended, in order of ending."""

    redact: Redactor
    counters: Counters
    all: list[Outcome] = field(default_factory=list)
    """It grows during the run."""
    _began: dict[str, float] = field(init=False, default_factory=dict)
    """When fetching each ticker began, by the loop's time."""

    def begin(self, unit: Unit) -> None:
        """Work on a unit begins."""
        self._began[unit.ticker.symbol] = asyncio.get_running_loop().time()

    @contextlib.asynccontextmanager
    async def ending(
        self,
        unit: Unit,
        csv: CsvFile | None = None,
        *,
        failure: type[Failed | NotUploaded],
        apply: Callable[[Event], Awaitable[None]],
        told: Callable[[TickerError], None] = lambda _: None,
    ) -> AsyncIterator[None]:
        """Turn a ticker's own error into its outcome, and the event that `apply` writes down; the others go on.

        At last `told` learns of the error, and may raise a RunError if it was not the ticker's own after all.
        """
        try:
            yield
        except TickerError as error:
            self.end(await failed(unit, csv, error, failure=failure, apply=apply, redact=self.redact))
            told(error)

    def end(self, outcome: Outcome) -> None:
        """Keep an outcome, count it and log it."""
        symbol = outcome.unit.ticker.symbol
        if (began := self._began.pop(symbol, None)) is not None:
            outcome = replace(outcome, seconds=asyncio.get_running_loop().time() - began)
        self.all.append(outcome)
        self.counters.ended[outcome.state] += 1
        self.counters.in_flight.pop(symbol, None)
        facts = _facts(outcome)
        if outcome.state is OutcomeState.FAILED:
            log.error("%s failed: %s", symbol, outcome.error, extra={"event": "ticker_failed", "facts": facts})
            return
        bars = f", {counted(outcome.csv.bars, 'bar')}" if outcome.csv else ""
        key = f", {outcome.receipt.key}" if outcome.receipt else ""
        before = " in an earlier run" if outcome.earlier else ""
        extra = {"routine": True, "event": "ticker_done", "facts": facts}
        log.info("%s %s%s%s%s", symbol, outcome.state, before, bars, key, extra=extra)


async def failed(
    unit: Unit,
    csv: CsvFile | None,
    error: TickerError,
    *,
    failure: type[Failed | NotUploaded],
    apply: Callable[[Event], Awaitable[None]],
    redact: Redactor,
) -> Outcome:
    """The outcome of a unit that failed, which `apply` has written down as an event; without secrets."""
    text = redact(str(error))
    await apply(failure(unit=unit, error=text))
    return Outcome(unit=unit, state=OutcomeState.FAILED, csv=csv, error=text)


def _facts(outcome: Outcome) -> dict[str, object]:
    """The facts of an outcome's log line."""
    facts: dict[str, object] = {"ticker": outcome.unit.ticker.symbol, "state": str(outcome.state)}
    if outcome.seconds is not None:
        facts["seconds"] = round(outcome.seconds, 3)
    if outcome.csv is not None:
        facts["bars"] = outcome.csv.bars
    if outcome.receipt is not None:
        facts["key"] = outcome.receipt.key
    if outcome.error is not None:
        facts["error"] = outcome.error
    return facts
