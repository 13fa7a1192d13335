"""How tickers fail in; an end to the run, where it is every ticker's trouble, out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING

from polygon_async.errors import Refused, RunError, TickerError, WrongAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polygon_async.model.counters import Counters
    from polygon_async.model.units import Unit

__all__ = ["CommonTrouble"]

log = logging.getLogger(__name__)

_PROOF = 20
"""So many tickers in a row, or all of them, must have failed in the same way; and as many elsewhere in the universe."""
_LEAST = 5
"""Fewer tickers prove nothing: they fail one by one."""
_SECONDS_BETWEEN_LOOKS = 0.5
_OWN_TO_ONE = re.compile(r" \(request_id [^)]*\)|[0-9a-fA-F]{8,}|\d+")
"""What differs between two answers that say the same."""


class CommonTrouble:
    """Tells every ticker's trouble from a ticker's own, so that no universe is failed one by one.

    It is everybody's when the first tickers all failed in the same way and no page of any has come. Then no more
    begin until those under way have ended; a page, or another failure, ends the suspicion.

    What the API itself refuses, it may refuse for some tickers only: a plan without indices, or one that does not
    reach back so far. So tickers from all over the universe must fail in that way, too, and none may have
    been done by an earlier run. A redirect or a gateway's page knows no such differences, and may begin at any time:
    there, what counts is that no request that was sent since then has been answered.

    Args:
        units: What is left to do.
        counters: Know of every page and of the newest answer.
        some_done: Whether earlier runs have done others of the same run.
    """

    def __init__(self, units: Sequence[Unit], *, counters: Counters, some_done: bool) -> None:
        self._units = units
        self._counters = counters
        self._some_done = some_done
        self._under_way = 0
        self._ended = 0
        self._changed = asyncio.Event()
        self._way: object = None
        """How the last tickers failed, all in this way."""
        self._failed = 0
        """How many did."""
        self._since = 0.0
        """When the first of them had, by the loop's time."""
        self._last: TickerError | None = None
        self._samples: set[str] | None = None
        """Tickers from elsewhere in the universe that have not begun yet; None until they are needed."""

    def in_order(self) -> Iterator[int]:
        """The numbers of the units in the order in which they are to begin: their own, but for samples."""
        taken: set[int] = set()
        for number in range(len(self._units)):
            if self._wants_samples():
                chosen = self._sample([each for each in range(number, len(self._units)) if each not in taken])
                self._samples = {self._units[each].ticker.symbol for each in chosen}
                taken.update(chosen)
                yield from chosen
            if number not in taken:
                yield number

    async def admit(self, unit: Unit) -> None:
        """Let a ticker begin, as soon as nothing is suspected."""
        while self._under_way and self._is_suspected():
            self._changed.clear()
            # Not wait_for, which may lose a cancellation that comes together with the event (before Python 3.12).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_BETWEEN_LOOKS):
                    await self._changed.wait()
        self._under_way += 1
        if self._samples is not None:
            self._samples.discard(unit.ticker.symbol)

    def done(self) -> None:
        """A ticker that was admitted has ended well; if no page of it has come, an earlier run had all of them."""
        self._some_done = True
        self._leave()

    def failed(self, unit: Unit, error: TickerError) -> None:
        """A ticker that was admitted has failed.

        Raises:
            RunError: as every other one has and would.
        """
        self._leave()
        if (way := _way(unit, error)) is not None:
            if way != self._way or self._counters.answered > self._since:
                self._way, self._failed, self._samples = way, 0, None
                self._since = asyncio.get_running_loop().time()
            self._failed += 1
            self._last = error
        if not self._is_suspected():
            self._hint(unit)
        elif not self._under_way and self._last is not None:
            which, when = ("last", " since") if self._counters.pages else ("first", "")
            raise RunError(
                f"the {which} {self._failed} tickers all failed in the same way, with none answered{when}:"
                f" {self._last}; {_advice(unit, self._last)}"
            ) from self._last

    def not_stored(self, unit: Unit, error: TickerError) -> None:
        """A ticker that was fetched could not be stored: what is every upload's trouble stops the run by itself."""

    def _leave(self) -> None:
        self._under_way -= 1
        self._ended += 1
        self._changed.set()

    def _is_suspected(self) -> bool:
        if not self._have_failed() or not self._may_differ():
            return self._have_failed()
        return not self._some_done and (self._failed == len(self._units) or self._samples == set())

    def _wants_samples(self) -> bool:
        return self._have_failed() and self._may_differ() and not self._some_done and self._samples is None

    def _have_failed(self) -> bool:
        """Whether enough tickers have failed in one way, and nothing else was seen."""
        answered = self._counters.pages if self._may_differ() else self._counters.answered > self._since
        enough = _PROOF if self._counters.pages else max(_LEAST, min(_PROOF, len(self._units)))
        return self._failed >= enough and not answered

    def _may_differ(self) -> bool:
        """Whether other tickers may fare better."""
        return self._last is None or self._last.by_api

    def _sample(self, left: Sequence[int]) -> list[int]:
        """Some of the units that are left: one of each kind that a plan may tell apart, and some from all over."""
        kinds = {_kind(self._units[number]): number for number in left}
        spread = left[:: -max(1, len(left) // _PROOF)]
        return list(dict.fromkeys([*kinds.values(), *spread]))[:_PROOF]

    def _hint(self, unit: Unit) -> None:
        """Say early what refusals by the plan mean, where there was nothing else so far."""
        is_plans = isinstance(self._last, Refused) and self._last.is_plan and not self._counters.pages
        if is_plans and self._failed == self._ended == min(_LEAST, len(self._units)):
            log.warning("so far every ticker was refused with 403: %s", _about_the_plan(unit))


def _kind(unit: Unit) -> object:
    return unit.ticker.market, unit.ticker.exchange, unit.start


def _way(unit: Unit, error: TickerError) -> object:
    """How a ticker failed, the same for all that failed so; None for what may pass by itself."""
    if not isinstance(error, Refused | WrongAnswer):
        return None
    if not error.by_api:
        # A gateway's page has a number of its own, in whatever letters.
        return type(error), error.status if isinstance(error, Refused) else None
    symbol = rf"(?<![A-Za-z0-9]){re.escape(unit.ticker.symbol)}(?![A-Za-z0-9])"
    return type(error), _OWN_TO_ONE.sub("#", re.sub(symbol, "*", str(error.args[0])))


def _advice(unit: Unit, error: TickerError) -> str:
    """What to do about it."""
    if isinstance(error, Refused) and error.is_plan:
        return _about_the_plan(unit)
    if isinstance(error, Refused) and error.status == 403 and not error.by_api:
        return "a firewall or a gateway blocks this machine regardless of key: check VPN, proxies and POLYGON_BASE_URL"
    return "check POLYGON_BASE_URL, then start again"


def _about_the_plan(unit: Unit) -> str:
    return (
        f"the plan behind the key does not include this market or reach back to {unit.start}; choose a later --from,"
        " or check the plan"
    )
