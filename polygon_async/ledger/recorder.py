"""Makes a run's entries in the ledger from a thread of its own, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, Interrupted
from polygon_async.ledger.ledger import open_ledger
from polygon_async.ledger.splits import SECONDS_KEPT
from polygon_async.model.states import RunState
from polygon_async.system.threads import Threads, ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from polygon_async.ledger.entries import Held, Life, LocalHistory, Run, RunRequest, UnitRecord
    from polygon_async.ledger.events import Event
    from polygon_async.ledger.held import Fetch
    from polygon_async.ledger.ledger import Ledger
    from polygon_async.ledger.splits import KnownSplits
    from polygon_async.model.sessions import Coverage
    from polygon_async.model.splits import Split
    from polygon_async.model.tickers import Listing
    from polygon_async.model.units import Unit

__all__ = ["Recorder", "open_recorder"]

_AT_ONCE = 2000
"""Units in one transaction: a run that is interrupted meanwhile does not wait for all of them."""


@contextlib.asynccontextmanager
async def open_recorder(
    directory: Path, order: RunRequest, *, destination: str | None, now: datetime, force: bool
) -> AsyncIterator[Recorder]:
    """The recorder of a run that starts, or is resumed, in the ledger of an output directory.

    Args:
        directory: Where the ledger is, or will be.
        order: What the run is asked to do.
        destination: Where its objects go; None for nowhere.
        now: The collection time of a new run, UTC.
        force: Resume no earlier run.

    Raises:
        DiskUnusable: the ledger cannot be used.
    """
    async with Threads(1) as thread, contextlib.AsyncExitStack() as stack:
        opened = open_ledger(directory)
        ledger = await thread(opened.__enter__)
        stack.push_async_callback(thread.surely, partial(opened.__exit__, None, None, None))
        run = await thread(ledger.begin, order, now=now, force=force)
        recorder = Recorder(ledger, thread, source=order.source, run=run, destination=destination)
        ended: RunState | None = RunState.STOPPED
        try:
            yield recorder
            ended = recorder.ended
        except ConfigError:
            # Refused: nothing was begun.
            ended = RunState.INTERRUPTED if run.resumed else None
            raise
        except Interrupted:
            ended = RunState.INTERRUPTED
            raise
        finally:
            await thread.surely(partial(ledger.forget, run) if ended is None else partial(ledger.end, run, ended))


class Recorder:
    """Makes one run's entries in the ledger.

    An entry is made even if the caller is cancelled meanwhile: it records what has already happened.
    """

    def __init__(self, ledger: Ledger, thread: Threads, *, source: str, run: Run, destination: str | None) -> None:
        self._ledger = ledger
        self._thread = thread
        self._source = source
        self._destination = destination or ""
        self.run = run
        self._waiting: list[tuple[Event, asyncio.Future[None]]] = []
        """Entries for the next transaction."""
        self._writing: asyncio.Task[None] | None = None
        self.ended = RunState.DONE
        """How the run has ended, when it has."""

    async def standings(self, units: Sequence[Unit]) -> dict[str, UnitRecord]:
        """The records of units that differ only in their ticker, by its symbol."""
        return await self._thread(self._ledger.standings, units, source=self._source, destination=self._destination)

    async def held(self, *, adjusted: bool, back: int) -> dict[str, Held]:
        """What is held of each ticker where this run's bars are to go, by symbol; its days for `back` days back."""
        destination = self._destination or None
        ask = partial(self._ledger.held, source=self._source, destination=destination, adjusted=adjusted, back=back)
        return await self._thread(ask)

    async def fetches(self, *, adjusted: bool) -> dict[str, list[Fetch]]:
        """When what is held of each ticker where this run's bars are to go was fetched, by symbol."""
        ask = partial(self._ledger.fetches, source=self._source, destination=self._destination or None)
        return await self._thread(ask, adjusted=adjusted)

    async def known(self, tickers: Sequence[str], *, since: date, until: date) -> KnownSplits:
        """What is known of tickers' splits, as far as it was asked within a day."""
        ask = partial(self._ledger.known_splits, source=self._source, since=since, until=until)
        return await self._thread(ask, tickers, asked_since=time.time() - SECONDS_KEPT)

    async def keep(self, found: Sequence[Split], *, asked: str, since: date, until: date) -> None:
        """Record an answer about splits."""
        keep = partial(self._ledger.keep_splits, found, asked=asked, source=self._source, since=since, until=until)
        await self._thread.surely(keep)

    async def lives(self, *, adjusted: bool) -> dict[str, Life]:
        """What is known of each ticker's life, by symbol."""
        return await self._thread(partial(self._ledger.lives, source=self._source, adjusted=adjusted))

    async def histories(self) -> dict[str, list[LocalHistory]]:
        """What files under the tickers' names are known to hold, by symbol."""
        return await self._thread(self._ledger.histories)

    async def stored_days(self, unit: Unit) -> int:
        """The days (see `days`) of which a store holds the ticker's bars, of these prices."""
        return await self._thread(self._ledger.stored_days, unit, source=self._source)

    @property
    def source(self) -> str:
        """Where the run's bars come from."""
        return self._source

    async def densities(self) -> dict[str, float]:
        """How many bars each ticker has in a session, as far as that is known, by symbol."""
        return await self._thread(self._ledger.densities, source=self._source)

    async def apply(self, event: Event) -> None:
        """Record what has happened to a unit in this run; what comes meanwhile shares the next transaction."""
        recorded = asyncio.get_running_loop().create_future()
        self._waiting.append((event, recorded))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        try:
            await asyncio.shield(recorded)
        except asyncio.CancelledError:
            await ended(recorded)
            raise

    async def _write_all(self) -> None:
        """Write what is waiting, until nothing is."""
        try:
            while self._waiting:
                some, self._waiting = self._waiting, []
                try:
                    await self._write([event for event, _ in some])
                except BaseException as error:
                    for _, recorded in (*some, *self._waiting):
                        recorded.set_exception(error)
                    self._waiting = []
                    if not isinstance(error, Exception):
                        raise
                else:
                    for _, recorded in some:
                        recorded.set_result(None)
        finally:
            self._writing = None

    async def _write(self, events: Sequence[Event]) -> None:
        act = partial(self._ledger.apply, events, run=self.run, source=self._source, destination=self._destination)
        await self._thread.surely(act, subject=f"the ledger's entry of {events[0].unit.ticker.symbol}")

    async def listings(self, *, since: float) -> dict[str, Listing]:
        """What reference data has been looked up of tickers since a moment (s UTC), by symbol."""
        return await self._thread(self._ledger.listings, source=self._source, since=since)

    async def listed(self, listings: Mapping[str, Listing]) -> None:
        """Record what the reference data says of tickers."""
        await self._thread.surely(partial(self._ledger.listed, listings, source=self._source))

    async def covered(self, coverages: Sequence[tuple[Unit, Coverage]]) -> None:
        """Record which sessions units' bars cover."""
        for start in range(0, len(coverages), _AT_ONCE):
            some = coverages[start : start + _AT_ONCE]
            await self._thread.surely(partial(self._ledger.covered, some, source=self._source))

    async def reported(self, report: Mapping[str, object]) -> None:
        """Record the run's report."""
        await self._thread.surely(partial(self._ledger.reported, self.run, report))
