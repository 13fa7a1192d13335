"""A run's progress on standard error: a live view on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from polygon_async.model.counters import ASKING
from polygon_async.model.rate import spell_rate
from polygon_async.model.states import OutcomeState
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.console import Console, RenderableType
    from rich.live import Live

    from polygon_async.model.counters import Counters, Pace, Watcher
    from polygon_async.model.rate import Rate

__all__ = ["Speed", "show", "spell_requests"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30
_SECONDS_OF_PACE = 15
_MOST_IN_FLIGHT = 8
_ENOUGH = 3
"""Tickers that must have ended before their pace is a basis for an estimate."""
_STORING = frozenset({"lzop", "uploading", "waiting for the bucket"})
_SLOW = 1.0
"""From so many seconds between requests, the view shows when the next one is due."""


def show(rate: Rate, *, quiet: bool, plain: bool) -> tuple[logging.Handler, Watcher | None]:
    """The handler of log lines, and what shows the progress: a live view on a terminal, else (or if `plain`) lines.

    With `quiet` nothing shows it.
    """
    if quiet or plain or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return logging.StreamHandler(sys.stderr), None if quiet else _Lines(rate)
    from rich.console import Console

    console = Console(stderr=True)
    return _AboveTheView(console), _View(rate, console)


class Speed:
    """Requests a second over the last seconds, and the time left at the pace of the tickers so far."""

    def __init__(self, counters: Counters, total: int) -> None:
        self._counters = counters
        self._total = total
        self._began = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])

    @property
    def per_second(self) -> float:
        now = time.monotonic()
        self._samples.append((now, self._counters.requests))
        while len(self._samples) > 2 and self._samples[1][0] < now - _SECONDS_OF_PACE:
            self._samples.popleft()
        then, count = self._samples[0]
        return (self._counters.requests - count) / max(now - then, 1e-3)

    def left(self, pace: Pace) -> str:
        """The time left, judged by the requests (which the rate spaces) and the time that tickers took so far."""
        ended = self._counters.ended.total()
        if not ended or ended == self._total:
            return ""
        # A ticker that has some bars is taken to be half done.
        half = sum(doing != ASKING for doing in self._counters.in_flight.values()) / 2
        share = (self._total - ended - half) / (ended + half)
        by_rate = self._counters.requests * share / pace.per_second if pace.per_second else 0.0
        active = time.monotonic() - self._began - self._counters.measures.seconds["pauses"] + pace.paused_for
        by_time = active * share if ended >= _ENOUGH or not by_rate else 0.0
        minutes, rest = divmod(round(max(by_rate, by_time, 0.0) + pace.paused_for), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02} left"


def _counts(counters: Counters, total: int) -> str:
    ended = counters.ended
    parts = [f"{ended.total():,} of {counted(total, 'ticker')}"]
    parts += [f"{ended[state]:,} {state}" for state in (OutcomeState.FAILED, OutcomeState.NO_DATA) if ended[state]]
    if counters.workers:
        lost = sum(each.is_lost for each in counters.workers.values())
        gone = f" ({lost:,} lost)" if lost else ""
        parts.append(f"{counted(len(counters.workers) - lost, 'worker')}{gone}")
    return ", ".join(parts)


def spell_requests(speed: Speed, rate: Rate, pace: Pace, counters: Counters) -> str:
    """Requests a second or minute, of how many, and what holds them up: `0.0/min of 5/min, next request in 12 s`."""
    per_second = speed.per_second
    spelt = f"{per_second:.1f}/s" if per_second >= 1 else f"{per_second * 60:.1f}/min"
    now = f" (now {spell_rate(pace.per_second)})" if rate.is_auto and pace.per_second else ""
    return f"{spelt} of {rate.text}{now}{_waiting(pace, counters)}"


def _waiting(pace: Pace, counters: Counters) -> str:
    """What all workers are waiting for, if it is worth mentioning."""
    if pace.paused_for >= _SLOW:
        return f", paused by the API for {pace.paused_for:.0f} s"
    if pace.next_in >= _SLOW:
        return f", next request in {pace.next_in:.0f} s"
    uploading = sum(doing in _STORING for doing in counters.in_flight.values())
    if uploading and uploading == len(counters.in_flight):
        return ", waiting for the bucket"
    return ""


def _outage(counters: Counters) -> str:
    """What the run waits for while the API is down, and until when; empty if it is not."""
    if counters.down is None:
        return ""
    left = max(0.0, counters.down.until - asyncio.get_running_loop().time())
    until = datetime.now().astimezone() + timedelta(seconds=left)
    return f"the API is down; waiting until {until:%H:%M:%S} ({counters.down.words})"


class _Lines:
    """A log line now and then, for files and pipes."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    @contextlib.asynccontextmanager
    async def watch(self, counters: Counters, pace: Pace, total: int) -> AsyncIterator[None]:
        """Log a line every half minute."""
        task = asyncio.create_task(self._write(counters, pace, total))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _write(self, counters: Counters, pace: Pace, total: int) -> None:
        speed = Speed(counters, total)
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LINES)
            requests = spell_requests(speed, self._rate, pace, counters)
            still = speed.left(pace)
            left = f", {still}" if still else ""
            left += f"; {down}" if (down := _outage(counters)) else ""
            facts = {
                "bars": counters.bars,
                "requests": counters.requests,
                "tickers": total,
                "ended": counters.ended.total(),
            }
            extra = {"event": "progress", "facts": facts}
            log.info(
                "%s, %s bars, requests %s%s",
                _counts(counters, total),
                f"{counters.bars:,}",
                requests,
                left,
                extra=extra,
            )


class _AboveTheView(logging.Handler):
    """Prints log lines above the live view, which redraws itself below them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, unless it is a routine one, which the view counts anyway."""
        if getattr(record, "routine", False):
            return
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


class _View:
    """The live view of a run."""

    def __init__(self, rate: Rate, console: Console) -> None:
        self._rate = rate
        self._console = console

    @contextlib.asynccontextmanager
    async def watch(self, counters: Counters, pace: Pace, total: int) -> AsyncIterator[None]:
        """Show the view until the run ends; then it disappears, as the summary replaces it."""
        from rich.live import Live

        speed = Speed(counters, total)
        with Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
            task = asyncio.create_task(self._redraw(live, counters, pace, speed, total))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _redraw(self, live: Live, counters: Counters, pace: Pace, speed: Speed, total: int) -> None:
        while True:
            live.update(self._picture(counters, pace, speed, total), refresh=True)
            await asyncio.sleep(0.25)

    def _picture(self, counters: Counters, pace: Pace, speed: Speed, total: int) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total, counters.ended.total(), width=20)
        head.add_row(Text(_counts(counters, total)), bar, Text(speed.left(pace), style="dim"))
        requests = spell_requests(speed, self._rate, pace, counters)
        facts = Text(f"{counted(counters.bars, 'bar')}, requests {requests}", no_wrap=True, overflow="ellipsis")
        flights = list(counters.in_flight.items())
        lines = [
            Text(f"  {symbol:<12} {doing}", style="dim", no_wrap=True, overflow="ellipsis")
            for symbol, doing in flights[:_MOST_IN_FLIGHT]
        ]
        if len(flights) > _MOST_IN_FLIGHT:
            lines.append(Text(f"  and {len(flights) - _MOST_IN_FLIGHT} more in flight", style="dim"))
        if down := _outage(counters):
            lines.insert(0, Text(f"  {down}", style="yellow"))
        return Group(head, facts, *lines)
