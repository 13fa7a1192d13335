"""A run's counters in; what a person sees while it goes on, out, on standard error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from polygon_async.models import State, spell_rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.console import Console, RenderableType
    from rich.live import Live

    from polygon_async.models import Rate
    from polygon_async.pacing import Pacer
    from polygon_async.pipeline import Watcher
    from polygon_async.tally import Tally

__all__ = ["show"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30
_SECONDS_OF_PACE = 15
_MOST_IN_FLIGHT = 8


def show(rate: Rate, *, quiet: bool, plain: bool) -> tuple[logging.Handler, Watcher | None]:
    """Where log lines go, and who watches the run: one live view on a terminal, else, or where asked for, plain lines.

    Nobody does where it is to be quiet.
    """
    if quiet or plain or not sys.stderr.isatty():
        return logging.StreamHandler(sys.stderr), None if quiet else _Lines(rate)
    from rich.console import Console

    console = Console(stderr=True)
    return _AboveTheView(console), _View(rate, console)


class _Pace:
    """Requests a second over the last while, and the time that is left at the pace of tickers so far."""

    def __init__(self, tally: Tally, total: int) -> None:
        self._tally = tally
        self._total = total
        self._began = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])

    @property
    def per_second(self) -> float:
        now = time.monotonic()
        self._samples.append((now, self._tally.requests))
        while len(self._samples) > 2 and self._samples[1][0] < now - _SECONDS_OF_PACE:
            self._samples.popleft()
        then, count = self._samples[0]
        return (self._tally.requests - count) / max(now - then, 1e-3)

    @property
    def left(self) -> str:
        ended = self._tally.ended.total()
        if not ended or ended == self._total:
            return ""
        seconds = (time.monotonic() - self._began) / ended * (self._total - ended)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02} left"


def _counts(tally: Tally, total: int) -> str:
    ended = tally.ended
    parts = [f"{ended.total():,} of {total:,} tickers"]
    parts += [f"{ended[state]:,} {state}" for state in (State.FAILED, State.NO_DATA) if ended[state]]
    return ", ".join(parts)


def _requests(pace: _Pace, rate: Rate, pacer: Pacer) -> str:
    per_second = pace.per_second
    spelt = f"{per_second:.1f}/s" if per_second >= 1 else f"{per_second * 60:.1f}/min"
    pause = f", paused for {pacer.paused_for:.0f} s" if pacer.paused_for else ""
    now = f" (now {spell_rate(pacer.per_second)})" if rate.is_auto and pacer.per_second else ""
    return f"{spelt} of {rate.text}{now}{pause}"


class _Lines:
    """A line now and then, for files and pipes."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    @contextlib.asynccontextmanager
    async def watch(self, tally: Tally, pacer: Pacer, total: int) -> AsyncIterator[None]:
        """Log a line every half minute."""
        task = asyncio.create_task(self._write(tally, pacer, total))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _write(self, tally: Tally, pacer: Pacer, total: int) -> None:
        pace = _Pace(tally, total)
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LINES)
            requests = _requests(pace, self._rate, pacer)
            left = f", {pace.left}" if pace.left else ""
            facts = {"bars": tally.bars, "requests": tally.requests, "tickers": total, "ended": tally.ended.total()}
            extra = {"event": "progress", "facts": facts}
            log.info(
                "%s, %s bars, requests %s%s", _counts(tally, total), f"{tally.bars:,}", requests, left, extra=extra
            )


class _AboveTheView(logging.Handler):
    """Log lines above the live view, which redraws itself below them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, but for the routine ones that the view counts anyway."""
        if getattr(record, "routine", False):
            return
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


class _View:
    """One live view of the whole run."""

    def __init__(self, rate: Rate, console: Console) -> None:
        self._rate = rate
        self._console = console

    @contextlib.asynccontextmanager
    async def watch(self, tally: Tally, pacer: Pacer, total: int) -> AsyncIterator[None]:
        """Keep the view on the screen; it goes when the run ends, as the summary says it all."""
        from rich.live import Live

        pace = _Pace(tally, total)
        with Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
            task = asyncio.create_task(self._redraw(live, tally, pacer, pace, total))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _redraw(self, live: Live, tally: Tally, pacer: Pacer, pace: _Pace, total: int) -> None:
        while True:
            live.update(self._picture(tally, pacer, pace, total), refresh=True)
            await asyncio.sleep(0.25)

    def _picture(self, tally: Tally, pacer: Pacer, pace: _Pace, total: int) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(_counts(tally, total)), ProgressBar(total, tally.ended.total(), width=20), Text(pace.left, style="dim")
        )
        facts = Text(
            f"{tally.bars:,} bars, requests {_requests(pace, self._rate, pacer)}", no_wrap=True, overflow="ellipsis"
        )
        flights = list(tally.in_flight.items())
        lines = [
            Text(f"  {symbol:<12} {doing}", style="dim", no_wrap=True, overflow="ellipsis")
            for symbol, doing in flights[:_MOST_IN_FLIGHT]
        ]
        if len(flights) > _MOST_IN_FLIGHT:
            lines.append(Text(f"  and {len(flights) - _MOST_IN_FLIGHT} more in flight", style="dim"))
        return Group(head, facts, *lines)
