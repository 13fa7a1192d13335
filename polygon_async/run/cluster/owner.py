"""In the scheduler: the owner of a run's budget of requests, and the post office between workers and coordinator.

A run's tokens come from one pacer, first come, first served, for as long as its coordinator asks for its messages. They
are given as slots to send in, a few at a time, and of a generation: what pauses everybody begins a new one, and the
workers that hold slots are told that those are void.
What a worker sends waits here until the coordinator has answered it. Only plain values and bytes pass; no secret does.
"""

from __future__ import annotations

import asyncio
import pickle
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

from polygon_async.errors import RunError, one_line
from polygon_async.polygon.pace.auto import AutoPacer, Search
from polygon_async.polygon.pace.limiter import Pacer
from polygon_async.polygon.pace.memory import LearnedRate
from polygon_async.polygon.pace.outage import Outage
from polygon_async.run.cluster.messages import LOST, PACE, Unfit, batch_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Scheduler

__all__ = ["Owner", "spaced"]

_SECONDS_TO_LISTEN = 2.0
_SECONDS_ALIVE = 30.0
"""So long after its last word a coordinator is taken to be gone: its run ends here, and whatever waits for it."""
_JITTER = 0.025
"""Seconds by which tokens may come closer together on their way than they were given."""
_SHARE = 0.03
"""At most this share of the rate is given up for that."""
_OFFERED = (
    "register",
    "assignment",
    "knows",
    "lease",
    "failing",
    "news",
    "refused",
    "pause",
    "send",
    "poll",
    "reply",
    "end",
)


def spaced(per_second: float) -> float:
    """The rate at which tokens are given so that no second at the API has more than the rate allows.

    On their way, tokens bunch: so they are a little further apart than the rate says.
    """
    interval = 1 / per_second
    return 1 / (interval + min(_JITTER, _SHARE * interval))


@dataclass(slots=True)
class _Run:
    """One run's budget and mail."""

    client: str
    """The coordinator's name in Dask."""
    assignment: bytes
    versions: Mapping[str, str | None]
    """The coordinator's."""
    outage: Outage
    pacer: Pacer
    search: Search | None
    heard: float
    """When its coordinator was last heard of."""
    inbox: deque[tuple[int, str, bytes]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[int, asyncio.Future[bytes]] = field(default_factory=dict)
    number: int = 0
    budget: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Its name: a run that is registered again has another one, whose generations begin anew."""
    generation: int = 0
    """Of the slots that are given."""
    holders: set[str] = field(default_factory=set)
    """Workers that have been given slots."""
    over: str | None = None
    """Why the run must end."""

    @property
    def is_alive(self) -> bool:
        """Whether its coordinator is there."""
        return time.monotonic() - self.heard < _SECONDS_ALIVE

    def end(self, error: RunError) -> None:
        """The API has not been there for too long: the coordinator is told."""
        self.over = str(error)
        self.news.set()

    def pace(self) -> dict[str, Any]:
        """What views and workers need to know of the pace, and of an outage."""
        outage = self.outage
        return {
            "outage": {"down": outage.down, "reached": outage.was_reached, "ended_ago": outage.ended_ago},
            "budget": self.budget,
            "generation": self.generation,
            "per_second": self.pacer.per_second,
            "paused_for": self.pacer.paused_for,
            "next_in": self.pacer.next_in,
        }


class Owner(SchedulerPlugin):  # type: ignore[misc] # distributed is untyped
    """Owns the tokens of all runs of a cluster."""

    name = "polygon-async"
    idempotent = True

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._scheduler: Scheduler | None = None
        self._workers: Mapping[str, Any] = {}
        self._changes = 0
        """How often a worker came or went."""

    async def start(self, scheduler: Scheduler) -> None:
        """Offer what workers and coordinators call."""
        self._scheduler = scheduler
        self._workers = scheduler.workers
        for name in _OFFERED:
            scheduler.handlers[f"polygon_{name}"] = getattr(self, name)

    async def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002 (Dask's own)
        """Tell all coordinators that there is another worker."""
        self._changes += 1
        for run in self._runs.values():
            run.news.set()

    async def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002 (Dask's own)
        """Tell all coordinators that a worker is gone."""
        self._changes += 1
        for run in self._runs.values():
            run.holders.discard(worker)
            run.inbox.append((-1, worker, LOST))
            run.news.set()

    def transition(self, key: Any, start: str, finish: str, *_: Any, stimulus_id: str, **rest: Any) -> None:  # noqa: ARG002 (Dask's own)
        """Tell a coordinator that a batch failed as a whole, where, and of what."""
        if finish == "erred" and rest.get("worker") and isinstance(key, str):
            for name, run in self._runs.items():
                if key.startswith(batch_prefix(name)):
                    text = f"{one_line(rest.get('exception_text') or 'failed')}; see its log"
                    run.inbox.append((-1, rest["worker"], pickle.dumps([Unfit(text)])))
                    run.news.set()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 (Dask's own)
        """A coordinator that was killed, or cut off: with its tasks, which Dask drops, its runs are over."""
        for name in [name for name, run in self._runs.items() if run.client == client]:
            self._end(name)

    async def register(
        self,
        run: str,
        client: str,
        assignment: bytes,
        versions: Mapping[str, str | None],
        per_second: float | None,
        auto: bool,
        learned: list[Any] | None,
        outage_patience: float,
        host: str,
    ) -> bool:
        """A coordinator begins a run, or comes back to it; returns whether it was not known."""
        if run in self._runs:
            self._runs[run].heard = time.monotonic()
            return False
        search = None
        if auto:
            search = Search(LearnedRate(per_second=learned[0], ceiling=learned[1]) if learned else None)
            pacer: Pacer = AutoPacer(search)
        else:
            pacer = Pacer(spaced(per_second) if per_second else None)
        # The coordinator, who has the user's log, says when it begins and ends.
        outage = Outage(outage_patience, host=host)
        self._runs[run] = _Run(client, assignment, versions, outage, pacer, search, heard=time.monotonic())
        return True

    async def assignment(self, run: str) -> tuple[bytes, Mapping[str, str | None]] | None:
        """What a worker that joins needs to know, and the versions that read it; None: there is no such run."""
        found = self._alive(run)
        return None if found is None else (found.assignment, found.versions)

    async def knows(self, run: str) -> bool:
        """Whether the run is there, and its coordinator: each worker asks now and then."""
        return self._alive(run) is not None

    async def lease(
        self, run: str, holder: str | None, want: int, succeeded: list[float], answered: bool
    ) -> Mapping[str, Any] | None:
        """Slots for at most `want` requests, when the first is due; during an outage, for its probes only."""
        found = self._alive(run)
        if found is None:
            return None
        self._note_answers(found, succeeded, answered=answered)
        try:
            waited = await found.outage.admit()
        except RunError as error:
            found.end(error)
            return None
        first, slots = await found.pacer.acquire_some(1 if found.outage.is_on else want)
        if self._alive(run) is not found:
            return None
        if holder is not None:
            found.holders.add(holder)
        rate = found.pacer.per_second
        return {"waited": waited + first, "slots": slots, "every": 1 / rate if rate else 0.0, **found.pace()}

    async def failing(self, run: str, ticker: str, words: str, unreachable: bool) -> None:
        """A request that failed, and may be retried."""
        if (found := self._runs.get(run)) is not None:
            was_on = found.outage.is_on
            try:
                found.outage.failing(ticker, words, unreachable=unreachable)
            except RunError as error:
                found.end(error)
            if found.outage.is_on and not was_on:
                self._begin_generation(run, found)

    async def news(self, run: str, succeeded: list[float], answered: bool) -> None:
        """Answers, for which others may wait."""
        if (found := self._runs.get(run)) is not None:
            self._note_answers(found, succeeded, answered=answered)

    async def refused(self, run: str, sent: float, retry_after: float | None, said: str) -> None:
        """A 429, which pauses everybody."""
        if (found := self._runs.get(run)) is not None:
            found.pacer.refused(sent=asyncio.get_running_loop().time() - sent, retry_after=retry_after, said=said)
            self._begin_generation(run, found)

    async def pause(self, run: str, seconds: float) -> None:
        """A pause that the API asked for."""
        if (found := self._runs.get(run)) is not None:
            found.pacer.pause(seconds)
            self._begin_generation(run, found)

    async def send(self, run: str, worker: str, payload: bytes) -> bytes | None:
        """A worker's messages; the coordinator's replies. None: there is no such run any more."""
        found = self._alive(run)
        if found is None:
            return None
        found.number += 1
        number = found.number
        waiting = found.waiting[number] = asyncio.get_running_loop().create_future()
        found.inbox.append((number, worker, payload))
        found.news.set()
        try:
            replies: bytes = await waiting
        except asyncio.CancelledError:
            if self._runs.get(run) is found:
                raise
            return None
        else:
            return replies
        finally:
            found.waiting.pop(number, None)

    async def poll(self, run: str, changes: int, replies: list[tuple[int, bytes]]) -> Mapping[str, Any] | None:
        """What has come for the coordinator, as soon as there is something; None: the run is not registered.

        Args:
            run: Its name.
            changes: The last that the coordinator heard: it is told which workers there are when they are others.
            replies: To what came before, as for `reply`.
        """
        found = self._runs.get(run)
        if found is None:
            return None
        self._reply(found, replies)
        found.heard = time.monotonic()
        if not found.inbox and changes == self._changes and found.over is None:
            found.news.clear()
            try:
                async with asyncio.timeout(_SECONDS_TO_LISTEN):
                    await found.news.wait()
            except TimeoutError:
                pass
        items = [list(found.inbox.popleft()) for _ in range(len(found.inbox))]
        found.heard = time.monotonic()
        lesson = found.search and found.search.lesson
        learned = [lesson.per_second, lesson.ceiling] if lesson else None
        workers = None if changes == self._changes else list(self._workers)
        news = {"learned": learned, "workers": workers, "changes": self._changes, "over": found.over}
        return {"items": items, **news, **found.pace()}

    async def reply(self, run: str, replies: list[tuple[int, bytes]]) -> None:
        """The coordinator's replies, by the number of what they reply to."""
        if (found := self._runs.get(run)) is not None:
            self._reply(found, replies)

    async def end(self, run: str) -> None:
        """The run is over: nothing waits any longer, and no token is given."""
        self._end(run)

    @staticmethod
    def _reply(found: _Run, replies: list[tuple[int, bytes]]) -> None:
        for number, payload in replies:
            waiting = found.waiting.get(number)
            if waiting is not None and not waiting.done():
                waiting.set_result(payload)

    @staticmethod
    def _note_answers(found: _Run, succeeded: list[float], *, answered: bool) -> None:
        now = asyncio.get_running_loop().time()
        for ago in succeeded:
            found.pacer.succeeded(sent=now - ago)
        if answered:
            found.outage.answered()

    def _begin_generation(self, run: str, found: _Run) -> None:
        """What was given before is void: all who hold some of it are told at once."""
        found.generation += 1
        found.news.set()
        if (scheduler := self._scheduler) is not None:
            for holder in found.holders & scheduler.stream_comms.keys():
                scheduler.worker_send(holder, {"op": PACE, "run": run, "pace": found.pace()})
        found.holders.clear()

    def _alive(self, run: str) -> _Run | None:
        """The run, if its coordinator is there; one that is gone cannot end its run itself."""
        found = self._runs.get(run)
        if found is not None and not found.is_alive:
            self._end(run)
            return None
        return found

    def _end(self, run: str) -> None:
        if (found := self._runs.pop(run, None)) is not None:
            for waiting in found.waiting.values():
                waiting.cancel()
