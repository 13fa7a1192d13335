"""The coordinator of a run on a cluster: batches of units out to the workers, events and outcomes back.

It alone writes the ledger and decides who does which unit. Every attempt at a unit has a number; what an earlier
attempt says is not believed. Dask's futures only tell when to send more: what counts is what the workers report, and
what has not ended is sent again, wherever its task was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from polygon_async.errors import RunError, first_of
from polygon_async.model.counters import Down, WorkerCounts
from polygon_async.model.states import OutcomeState
from polygon_async.polygon.pace.outage import tell_back, tell_down
from polygon_async.run.cluster.batches import batch_size, longest_first, pages_of
from polygon_async.run.cluster.counts import absorb
from polygon_async.run.cluster.messages import (
    LOST,
    Begin,
    Counts,
    Describe,
    Ended,
    Happened,
    Order,
    Said,
    Stop,
    StoredDays,
    Superseded,
    Unfit,
    batch_prefix,
)
from polygon_async.run.cluster.presence import Presence
from polygon_async.run.cluster.replies import Replies
from polygon_async.run.tags import TagLookup
from polygon_async.run.workers import judge_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from polygon_async.run.cluster.messages import Message
    from polygon_async.run.common_trouble import CommonTrouble
    from polygon_async.run.failure_limit import FailureLimit
    from polygon_async.run.work import Work

__all__ = ["Coordination", "Post"]

log = logging.getLogger(__name__)

_BATCHES_A_WORKER = 2
_SECONDS_TO_STOP = 5.0
"""A worker that was cut off writes nothing more by then."""
_MOST_ATTEMPTS = 6
"""At one unit: what kills its worker each time must not go on for ever."""


class Post(Protocol):
    """How the coordinator reaches the workers."""

    async def poll(self, replies: Sequence[tuple[int, bytes]]) -> Mapping[str, Any]:
        """What has come from them; with the replies to what came before, by its numbers."""

    async def reply(self, replies: Sequence[tuple[int, bytes]]) -> None:
        """Answer what took long, or what no call for more will follow."""

    def submit(self, batch: str, orders: bytes, *, workers: Sequence[str] | None) -> Any:
        """Send a batch to one of these workers, None: of all; returns Dask's future."""

    async def cancel(self, futures: Sequence[Any]) -> None:
        """Take back what has been sent."""

    @property
    def has_files(self) -> bool:
        """Whether the workers share a directory."""

    @property
    def key(self) -> str:
        """The run's name on the cluster."""

    @property
    def per_second(self) -> float | None:
        """The rate that was asked for; None if it is unlimited, or to be found."""


@dataclass(slots=True)
class _Attempt:
    number: int
    worker: str
    batch: str


@dataclass(slots=True)
class _Sent:
    """A batch that Dask has."""

    numbers: list[int]
    future: Any
    workers: frozenset[str] | None
    """Those that may do it; None: all."""

    def is_over(self, there: frozenset[str]) -> bool:
        """Whether its task has ended, or can never begin: those that may do it are gone."""
        return self.future.done() or (self.workers is not None and self.workers.isdisjoint(there))


@dataclass(slots=True)
class _Left:
    """The units that have not ended, in the order in which they are sent."""

    fresh: Iterator[int]
    again: list[int] = field(default_factory=list)

    def take(self, count: int) -> list[int]:
        """The next ones."""
        again, self.again = self.again[:count], self.again[count:]
        return [*again, *islice(self.fresh, count - len(again))]


class Coordination:
    """One run's work on the cluster."""

    def __init__(self, cluster: Post, work: Work, densities: Mapping[str, float]) -> None:
        self._cluster = cluster
        self._work = work
        settings, todo = work.settings, work.todo
        order = longest_first([pending.unit for pending in todo.pending], densities)
        self._pending = [todo.pending[number] for number in order]
        self._numbers = {pending.unit.ticker.symbol: number for number, pending in enumerate(self._pending)}
        self._pages = [pages_of(pending.unit, densities) for pending in self._pending]
        self._judge: CommonTrouble | FailureLimit = judge_of(
            [pending.unit for pending in self._pending],
            counters=work.counters,
            some_done=bool(todo.done),
            most_failures=settings.most_failures,
        )
        self._left = _Left(iter(self._judge.in_order()))
        self._open = set(self._numbers)
        """Tickers that have not ended."""
        self._attempts: dict[str, _Attempt] = {}
        self._admitted: set[str] = set()
        self._tried: Counter[str] = Counter()
        self._free_at: dict[str, float] = {}
        """When a ticker may begin again, whose files a worker that was cut off may still be writing."""
        self._batches: dict[str, _Sent] = {}
        """By the name of its task."""
        self._sent = self._batch = 0
        self._presence = Presence(asyncio.get_running_loop().time())
        self._changed = asyncio.Event()
        tagged = [pending.unit.ticker for pending in self._pending] if work.deliver and settings.reference else []
        self._tags = TagLookup(tagged, day=settings.end, client=work.client, recorder=work.recorder)

    async def run(self) -> None:
        """Do all units.

        Raises:
            RunError: the run cannot go on.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(tasks))
                while self._open:
                    self._take_back()
                    self._send_more()
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._changed.wait()
        except* RunError as group:
            raise first_of(group) from None
        finally:
            futures = [sent.future for sent in self._batches.values()]
            self._batches.clear()
            if futures:
                await self._cluster.cancel(futures)

    def _take_back(self) -> None:
        """What came back unfinished is among what is left again."""
        there = self._presence.there
        for batch in [batch for batch, sent in self._batches.items() if sent.is_over(there)]:
            self._give_up(batch)

    def _give_up(self, batch: str) -> None:
        """Expect nothing more of a batch; what it was to do, and is nobody else's, is left to be done."""
        sent = self._batches.pop(batch)
        sent.future.release()
        for number in sent.numbers:
            symbol = self._pending[number].unit.ticker.symbol
            attempt = self._attempts.get(symbol)
            if symbol in self._open and (attempt is None or attempt.batch == batch):
                # Its task is over, and it is not: its worker died, or was cut off.
                self._attempts.pop(symbol, None)
                self._left.again.append(number)

    def _send_more(self) -> None:
        """As many batches as keep all workers busy.

        Raises:
            RunError: there have been no workers for too long.
        """
        usable = self._presence.usable(asyncio.get_running_loop().time())
        workers, pace = len(usable), self._cluster.per_second
        while len(self._batches) < workers * _BATCHES_A_WORKER:
            likely = self._left.again or range(min(self._sent, len(self._pages)), len(self._pages))
            size = batch_size(
                (self._pages[number] for number in likely),
                concurrency=self._work.settings.concurrency,
                per_second=pace,
                workers=workers,
            )
            # At the end, every worker gets some of what is left.
            size = min(size, max(1, -(-len(likely) // (workers * _BATCHES_A_WORKER))))
            numbers = self._left.take(size)
            if not numbers:
                return
            # Dask would send it to an idle worker that can do nothing as soon as to any other.
            self._send(numbers, workers=None if self._presence.are_all_fit() else usable)

    def _send(self, numbers: list[int], *, workers: list[str] | None) -> None:
        self._sent += len(numbers)
        self._batch += 1
        batch = f"{batch_prefix(self._cluster.key)}{self._batch}"
        orders = pickle.dumps([Order(self._pending[number], priority=number) for number in numbers])
        future = self._cluster.submit(batch, orders, workers=workers)
        self._batches[batch] = _Sent(numbers, future, None if workers is None else frozenset(workers))
        future.add_done_callback(lambda _: self._changed.set())

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        """Take what the workers say, and answer it; what takes long holds up nothing else."""
        replies = Replies(self._reply, send=self._cluster.reply, tasks=tasks)
        sent: list[tuple[int, bytes]] = []
        while self._open:
            found = await self._cluster.poll(sent)
            if found.get("joined"):
                # The scheduler has forgotten everything: all that has not ended is sent again.
                self._forget_all()
            if (there := found.get("workers")) is not None:
                self._meet(there)
            if "outage" in found:
                self._see_outage(found["outage"]["down"])
            said = []
            for number, worker, payload in found["items"]:
                if payload == LOST:
                    self._lose(worker)
                else:
                    said.append((number, worker, payload))
            # They travel together, with the call for more.
            sent = await replies.to(said)
        await self._cluster.reply(sent)

    async def _reply(self, message: Message, worker: str) -> Any:
        work = self._work
        match message:
            case Begin():
                return await self._begun(message, worker)
            case Happened():
                if not self._is_current(message.event.unit.ticker.symbol, message.attempt):
                    return Superseded()
                await work.recorder.apply(message.event)
            case Describe():
                return await self._tags.described(message.ticker, day=message.day)
            case StoredDays():
                return await work.recorder.stored_days(message.unit)
            case Stop():
                raise message.error
            case _:
                self._note(message, worker)
        return None

    def _note(self, message: Ended | Counts | Said | Unfit, worker: str) -> None:
        match message:
            case Ended():
                self._end(message)
            case Counts():
                absorb(message, self._work.counters, worker=worker, allowed=self._cluster.per_second)
            case Said():
                for level, text, fields in message.lines:
                    log.log(level, "%s", text, extra=fields)
            case Unfit():
                self._presence.lacks(worker, message.trouble, asyncio.get_running_loop().time())
            case _:
                assert_never(message)

    async def _begun(self, asked: Begin, worker: str) -> int | None:
        """Let a worker begin a unit, unless it has ended, or another worker has it."""
        symbol = asked.symbol
        if asked.batch not in self._batches or symbol not in self._open or symbol in self._attempts:
            return None
        self._presence.works(worker)
        self._tried[symbol] += 1
        attempt = self._attempts[symbol] = _Attempt(self._tried[symbol], worker, asked.batch)
        unit = self._pending[self._numbers[symbol]].unit
        if attempt.number > _MOST_ATTEMPTS:
            raise RunError(f"{symbol} was begun {_MOST_ATTEMPTS} times, and each time its worker died; see its logs")
        if symbol not in self._admitted:
            self._admitted.add(symbol)
            await self._judge.admit(unit)
        await asyncio.sleep(self._free_at.pop(symbol, 0.0) - asyncio.get_running_loop().time())
        if self._attempts.get(symbol) is not attempt:
            return None
        work = self._work
        work.outcomes.begin(unit)
        work.counters.in_flight[symbol] = f"on {worker.rpartition('/')[2]}"
        return attempt.number

    def _is_current(self, symbol: str, attempt: int) -> bool:
        current = self._attempts.get(symbol)
        return symbol in self._open and current is not None and current.number == attempt

    def _end(self, ended: Ended) -> None:
        unit = ended.outcome.unit
        symbol = unit.ticker.symbol
        if not self._is_current(symbol, ended.attempt):
            return
        self._open.discard(symbol)
        self._attempts.pop(symbol)
        self._work.outcomes.end(ended.outcome)
        self._changed.set()
        if ended.outcome.state is not OutcomeState.FAILED or ended.fetched:
            self._judge.done()
        if ended.error is not None:
            (self._judge.not_stored if ended.fetched else self._judge.failed)(unit, ended.error)

    def _see_outage(self, down: tuple[str, float] | None) -> None:
        """Tell, once for all workers, that the API is down, or is back."""
        counters, now = self._work.counters, asyncio.get_running_loop().time()
        patience = self._work.settings.outage_patience
        if down is not None:
            words, left = down
            if counters.down is None:
                tell_down(words, patience)
            counters.down = Down(words, until=now + left)
        elif counters.down is not None:
            tell_back(now + patience - counters.down.until)
            counters.down = None

    def _meet(self, there: Sequence[str]) -> None:
        """The workers that there are now."""
        self._presence.update(there)
        for name in there:
            self._work.counters.workers.setdefault(name, WorkerCounts())
        self._changed.set()

    def _lose(self, worker: str) -> None:
        """A worker is gone: what it had begun may be begun by another one."""
        had = [symbol for symbol, attempt in self._attempts.items() if attempt.worker == worker]
        self._release(had)
        for symbol in had:
            self._work.counters.in_flight.pop(symbol, None)
        self._presence.lost(worker)
        known = self._work.counters.workers.setdefault(worker, WorkerCounts())
        if not known.is_lost:
            known.is_lost = True
            others = f"; its tickers are done by others: {', '.join(had[:5])}" if had else ""
            log.warning("worker %s is gone%s", worker, others)
        self._changed.set()

    def _release(self, symbols: Sequence[str]) -> None:
        """Tickers' attempts count no longer: another worker may begin them, if need be a little later."""
        free_at = asyncio.get_running_loop().time() + _SECONDS_TO_STOP if self._cluster.has_files else 0.0
        for symbol in symbols:
            del self._attempts[symbol]
            self._free_at[symbol] = free_at

    def _forget_all(self) -> None:
        """Nothing that was sent counts any longer."""
        self._release([*self._attempts])
        self._work.counters.down = None
        for batch in [*self._batches]:
            self._give_up(batch)
        log.warning(
            "the Dask scheduler has lost this run (it restarted, or was cut off); what is not done is sent again"
        )
        self._changed.set()
