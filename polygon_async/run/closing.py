"""The end of a run: its outcomes compared with the sessions, its lists and its report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async.model.days import since, up_to
from polygon_async.model.sessions import told_life
from polygon_async.report.coverage import cover
from polygon_async.report.estimate import expect
from polygon_async.report.lists import write_lists
from polygon_async.report.run_report import coverage_report, redacted, report_of, write_report
from polygon_async.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from polygon_async.ledger.recorder import Recorder
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Outcome, Unit
    from polygon_async.report.coverage import Covered
    from polygon_async.report.estimate import Estimate
    from polygon_async.report.summary import Summary
    from polygon_async.settings.settings import Settings
    from polygon_async.system.redaction import Redactor
    from polygon_async.system.threads import Threads

__all__ = ["look_over", "no_look", "tell_other_lives", "write_down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What comparing a run's outcomes with the sessions has found."""

    covered: Sequence[Covered]
    coverage: Mapping[str, Any]
    """For the report."""
    expected: Estimate | None
    """The estimate that a plan would have given before the run."""


async def no_look(*, offload: Threads) -> Findings:
    """The findings if nothing was compared."""
    return Findings(covered=(), coverage=await coverage_report((), offload=offload), expected=None)


async def look_over(
    outcomes: Sequence[Outcome],
    todo: Sequence[Unit],
    *,
    adjusted: bool,
    look_back: int,
    lookups: int,
    densities: Awaitable[Mapping[str, float]],
    recorder: Recorder,
    offload: Threads,
) -> Findings:
    """Compare every outcome with the sessions of its range, and record that in the ledger.

    With thousands of tickers this takes a while. It ends soon when it is cancelled.

    Args:
        outcomes: The run's.
        todo: What the run had to do, which a plan would have estimated.
        adjusted: Whether its prices are.
        look_back: So many sessions before a ticker's first bar may be late ones.
        lookups: Requests that the tags of these may have cost.
        densities: How dense the ledger knew their bars to be.
        recorder: Writes it into the ledger.
        offload: Threads.
    """
    lives = await recorder.lives(adjusted=adjusted)
    covered = await cover(outcomes, lives, look_back=look_back, offload=offload)
    coverage = await coverage_report(covered, offload=offload)
    await recorder.covered([(each.outcome.unit, each.found) for each in covered])
    expected = await expect(todo, await densities, lookups=lookups, offload=offload)
    return Findings(covered=covered, coverage=coverage, expected=expected)


def tell_other_lives(outcomes: Iterable[Outcome], counters: Counters) -> None:
    """Note the bars of each ticker from before it was listed, or from after it was delisted, by its universe.

    A ticker that was given up is given to another company at some time: its bars are not this one's.
    """
    for outcome in outcomes:
        ticker, csv = outcome.unit.ticker, outcome.csv
        if csv is None or not csv.days or outcome.earlier or not ticker.row:
            continue
        listed, last = told_life(ticker)
        own = csv.days if listed is None else since(csv.days, listed)
        own = own if last is None else up_to(own, last)
        if other := csv.days & ~own:
            count = counted(other.bit_count(), "session")
            note = f"bars of {count} outside list_date to delist_date, perhaps another company's"
            counters.notes[ticker.symbol].append(note)


async def write_down(
    summary: Summary,
    settings: Settings,
    findings: Findings,
    *,
    recorder: Recorder,
    offload: Threads,
    redact: Redactor,
) -> None:
    """Write a run's lists and its report, which is small however many tickers there were.

    Raises:
        DiskUnusable: they cannot be written.
    """
    at = f"writing the lists and the report in {settings.output_dir}"
    await offload.watched(partial(write_lists, summary), subject=at)
    report = await offload(lambda: redacted(report_of(summary, settings.as_json(), findings.coverage), redact))
    await recorder.reported(report)
    await offload.watched(partial(write_report, report, settings.output_dir), subject=at)
