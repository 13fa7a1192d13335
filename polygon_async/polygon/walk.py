"""A unit and where to start in, its pages in order out: the chain, and the windows side by side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars.page import BEGINNING, Border, spell_moment
from polygon_async.errors import WrongAnswer, said_by
from polygon_async.model.units import MINUTE_MS
from polygon_async.polygon.bar_pages import read_page
from polygon_async.polygon.bar_requests import first_request, later_request, next_request
from polygon_async.polygon.reading import place_page
from polygon_async.polygon.windows import Cutter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from polygon_async.bars.page import Page, Start
    from polygon_async.bars.part import Part
    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Unit
    from polygon_async.polygon.bar_requests import PageRequest
    from polygon_async.polygon.client import Client
    from polygon_async.polygon.windows import Slots

__all__ = ["RestSource", "Step", "next_minute"]

log = logging.getLogger(__name__)

_MOST_EMPTY_PAGES = 10_000
"""In a row; more than twenty years of empty days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSource:
    """The REST API as a source of pages, for all units of a run."""

    client: Client
    counters: Counters
    """Counts pages and duplicates."""
    slots: Slots | None = None
    """While they have room, the rest of a long range is fetched in windows side by side; None: page after page."""
    cutter: type[Cutter] = Cutter
    """Decides where windows end."""

    async def pages(self, unit: Unit, start: Start = BEGINNING, *, priority: int = 0) -> AsyncGenerator[Page]:
        """The unit's pages that have bars, in order, each checked against those before.

        An answer without bars is requested once more before it is believed: under load the API has given
        empty answers where there were bars. Bars that a next_url promised and that did not come are noted by name.

        Args:
            unit: What to fetch.
            start: Where to begin. While one page follows another, the process that reads a page also appends its
                rows to the part file; a window's rows, whose place in it is not known yet, come with the page.
            priority: Of bodies that wait to be read, those with the lowest priority come first.

        Raises:
            TickerError, RunError: as `Client.get`.
        """
        # A unit that resumes may have spent before what cutting may cost.
        walk = _Walk(unit, source=self, priority=priority, spare=1.0 if start.moment is None else 0.0)
        request = first_request(unit) if start.moment is None else later_request(unit, start.moment)
        step = Step(unit, request, start.border, start.part, is_promised=start.is_promised)
        async with contextlib.aclosing(walk.pages(step)) as chain:
            async for page in chain:
                yield page


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a chain, and what its page must follow."""

    unit: Unit
    request: PageRequest
    border: Border
    part: Part | None = None
    """Where its rows go; None where that is not known yet, or nowhere."""
    empty_pages: int = 0
    """How many pages right before it had no bars."""
    is_promised: bool = False
    """Whether a next_url said that there are bars."""


class _Walk:
    """The walk through one unit's range."""

    def __init__(self, unit: Unit, *, source: RestSource, priority: int, spare: float) -> None:
        self._unit = unit
        self._source = source
        self._client = source.client
        self._priority = priority
        self._spare = spare
        self._lacking: int | None = None
        """From when on (ms UTC) a next_url promised bars that have not come."""

    async def pages(self, first: Step) -> AsyncGenerator[Page]:
        """One page after another, until there is room for more at once."""
        slots = self._source.slots
        step: Step | None = first
        while step is not None:
            page = await self._page(step)
            following = self._next(step, page)
            self._weigh(step, page, is_last=following is None)
            if page.bars:
                yield page if following is None else replace(page, resume_at=next_minute(following), is_promised=True)
            if slots is not None and following is not None and page.bars and self._is_divisible(slots):
                span = following.request.start - (page.first or 0)
                cut = self._source.cutter(page.bars, span, spare=self._spare)
                async with contextlib.aclosing(self._side_by_side(following, slots, cut)) as rest:
                    async for page in rest:
                        yield page
                return
            step = following

    def _is_divisible(self, slots: Slots) -> bool:
        """Whether the rest may be cut: if there is room, and the range's end is unambiguous."""
        return len(self._unit.last_minutes()) == 1 and slots.has_room(self._client.parallel)

    async def _side_by_side(self, step: Step, slots: Slots, cut: Cutter) -> AsyncGenerator[Page]:
        """The pages from `step` on, in order, requested in windows as far as there is room.

        Each window in flight is one page, so memory is bounded by the slots; if a window needs a second
        page, that is requested when its turn comes.
        """
        begin, last = next_minute(step), self._unit.bounds()[1]
        border, promised = step.border, begin if step.is_promised else None
        flights: deque[tuple[Step, asyncio.Task[Page]]] = deque()
        arrived: Page | None = None
        with slots.windows() as count:
            try:
                while begin <= last or flights:
                    while begin <= last and (not flights or self._may_cut(slots, cut)):
                        # If no other window may be in flight, the rest is one chain: the fewest requests possible.
                        end = cut.end(begin, last) if self._may_cut(slots, cut) else last
                        window = replace(self._unit, window=(begin, end))
                        flights.append(self._fly(Step(window, first_request(window), border)))
                        count(len(flights))
                        begin, border = end + 1, Border()
                    if arrived is not None and arrived.bars:
                        yield arrived
                    step, task = flights.popleft()
                    arrived = await task
                    promised = None if arrived.bars else promised
                    following = self._next(step, arrived)
                    self._weigh(step, arrived, is_last=following is None)
                    resume_at = step.unit.bounds()[1] + 1 if following is None else next_minute(following)
                    arrived = replace(
                        arrived,
                        resume_at=resume_at if resume_at <= last else None,
                        is_promised=following is not None,
                    )
                    until = step.unit.bounds()[1] + 1 if following is None else following.request.start
                    cut.learn(arrived.bars, until - step.request.start)
                    if following is not None and arrived.bars and not flights and begin > last:
                        # No other window is in flight: the rest may be cut again.
                        begin, border = next_minute(following), following.border
                        promised = begin
                    elif following is not None:
                        flights.appendleft(self._fly(following))
                    count(len(flights))
                if promised is not None:
                    self._tell_of_nothing(promised)
                if arrived is not None and arrived.bars:
                    yield arrived
            finally:
                for _, task in flights:
                    task.cancel()
                await asyncio.gather(*(task for _, task in flights), return_exceptions=True)

    def _may_cut(self, slots: Slots, cut: Cutter) -> bool:
        return cut.can_afford and slots.has_room(self._client.parallel)

    def _fly(self, step: Step) -> tuple[Step, asyncio.Task[Page]]:
        # A task group cannot span the yields of a generator; the caller ends the tasks.
        return step, asyncio.create_task(self._page(step))

    async def _page(self, step: Step) -> Page:
        """The step's page; one without bars was requested twice."""
        page = await self._answer(step)
        return await self._answer(step) if page.is_empty else page

    def _weigh(self, step: Step, page: Page, *, is_last: bool) -> None:
        """Compare a page, in the order of the bars, with what the next_url before it promised."""
        if page.is_empty:
            if step.is_promised and self._lacking is None:
                self._lacking = step.request.start
            if not is_last:
                return
        lacking, self._lacking = self._lacking, None
        if lacking is None:
            return
        if page.is_empty:
            self._tell_of_nothing(lacking)
        elif page.first is not None and page.first - lacking >= MINUTE_MS:
            self._tell_of_nothing(lacking, until=page.first)

    def _tell_of_nothing(self, promised: int, until: int | None = None) -> None:
        """Name the bars that a next_url promised from a moment on, and that have not come before others, or at all."""
        symbol, moment = self._unit.ticker.symbol, spell_moment(promised)
        before = "" if until is None else f" before {spell_moment(until)}"
        note = f"a next_url promised bars from {moment} on, and two requests found none{before}"
        log.warning("%s: %s", symbol, note, extra={"event": "promise", "facts": {"ticker": symbol}})
        self._source.counters.notes[symbol].append(note)

    async def _answer(self, step: Step) -> Page:
        read = partial(read_page, unit=step.unit, border=step.border)
        if step.part is not None:
            read = partial(place_page, unit=step.unit, border=step.border, part=step.part)
        page = await self._client.get(step.request, read=read, priority=self._priority)
        self._source.counters.pages += 1
        self._source.counters.duplicates += page.duplicates
        return page

    def _next(self, done: Step, page: Page) -> Step | None:
        """The step after `done`; errors name its request and its answer."""
        if page.next_url is None:
            return None
        empty_pages = 0 if page.bars else done.empty_pages + 1
        try:
            _check_emptiness(empty_pages)
            request = next_request(
                done.unit,
                done.request,
                next_url=page.next_url,
                border=page.border,
                empty=not page.bars,
                base_path=self._client.base_path,
            )
        except WrongAnswer as error:
            raise WrongAnswer(f"{error}{said_by(page.request_id)}", request=done.request.path) from error.__cause__
        if request is None:
            return None
        if request.is_first:
            moment = spell_moment(request.start)
            log.info("%s: the next_url skips minutes; requesting them from %s", self._unit.ticker.symbol, moment)
        return Step(done.unit, request, page.border, page.part, empty_pages, is_promised=True)


def next_minute(step: Step) -> int:
    """The first whole minute that a step requests: a window never starts within a minute that is done."""
    start = step.request.start
    done = step.border.last is not None and start // MINUTE_MS == step.border.last // MINUTE_MS
    return (start // MINUTE_MS + done) * MINUTE_MS


def _check_emptiness(empty_pages: int) -> None:
    if empty_pages > _MOST_EMPTY_PAGES:
        raise WrongAnswer(f"{empty_pages} empty pages in a row, and there is still a next_url")
