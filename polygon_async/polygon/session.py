"""Settings in, the REST edge and the pace that its requests share out."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from polygon_async.polygon.client import Client
from polygon_async.polygon.pace.auto import open_auto_pacer
from polygon_async.polygon.pace.limiter import Pacer
from polygon_async.polygon.pace.memory import RateMemory, cache_file
from polygon_async.polygon.pace.outage import Outage
from polygon_async.system.processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from polygon_async.model.counters import Counters
    from polygon_async.settings.settings import Settings
    from polygon_async.system.threads import Threads

__all__ = ["open_polygon"]

log = logging.getLogger(__name__)
_LONG = 7
"""Days from which on pages are taken to be large: the processes that read them start before the first one comes."""


@contextlib.asynccontextmanager
async def open_polygon(
    settings: Settings, *, offload: Threads, counters: Counters
) -> AsyncIterator[tuple[Client, Pacer]]:
    """The REST edge as the settings want it, and the pacer that all its requests share."""
    async with (
        _open_pacer(settings, offload, counters) as pacer,
        Processes(settings.processes, offload=offload, preload="polygon_async.polygon.fast_pages") as readers,
        Client(
            base_url=settings.base_url,
            key=settings.api_key,
            pacer=pacer,
            outage=Outage(settings.outage_patience),
            offload=offload,
            readers=readers,
            counters=counters,
            patience=settings.patience,
            stall_timeout=settings.stall_timeout,
            connections=settings.concurrency,
        ) as client,
    ):
        if (settings.end - settings.start).days >= _LONG:
            readers.start()
        yield client, pacer


@contextlib.asynccontextmanager
async def _open_pacer(settings: Settings, offload: Threads, counters: Counters) -> AsyncIterator[Pacer]:
    def note_pause(seconds: float) -> None:
        counters.measures.seconds["pauses"] += seconds
        extra = {"event": "pause", "facts": {"seconds": round(seconds, 1)}}
        log.warning("the API asks for a pause: nobody sends anything for %.1f s", seconds, extra=extra)

    if not settings.rate.is_auto:
        yield Pacer(settings.rate.per_second, on_pause=note_pause)
        return
    memory = RateMemory(cache_file(), key=settings.api_key, base_url=settings.base_url)
    async with open_auto_pacer(memory, offload=offload, on_pause=note_pause) as pacer:
        yield pacer
