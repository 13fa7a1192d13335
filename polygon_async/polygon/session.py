"""How the API is reached in; a client of it out, open for as long as a context lasts."""

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

    from polygon_async.model.access import Access
    from polygon_async.model.counters import Counters
    from polygon_async.system.threads import Threads

__all__ = ["open_polygon"]

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_polygon(access: Access, *, offload: Threads, counters: Counters) -> AsyncIterator[tuple[Client, Pacer]]:
    """A client of the API that `access` describes, and the pacer that all its requests share."""
    async with (
        _open_pacer(access, offload, counters) as pacer,
        Processes(access.processes, offload=offload, preload="polygon_async.polygon.fast_pages") as readers,
        Client(
            base_url=access.base_url,
            key=access.api_key,
            pacer=pacer,
            outage=Outage(access.outage_patience),
            offload=offload,
            readers=readers,
            counters=counters,
            patience=access.patience,
            stall_timeout=access.stall_timeout,
            connections=access.connections,
        ) as client,
    ):
        if access.expects_large_pages:
            readers.start()
        yield client, pacer


@contextlib.asynccontextmanager
async def _open_pacer(access: Access, offload: Threads, counters: Counters) -> AsyncIterator[Pacer]:
    def note_pause(seconds: float) -> None:
        counters.measures.seconds["pauses"] += seconds
        extra = {"event": "pause", "facts": {"seconds": round(seconds, 1)}}
        log.warning("the API asks for a pause: nobody sends anything for %.1f s", seconds, extra=extra)

    if not access.rate.is_auto:
        yield Pacer(access.rate.per_second, on_pause=note_pause)
        return
    memory = RateMemory(cache_file(), key=access.api_key, base_url=access.base_url)
    async with open_auto_pacer(memory, offload=offload, on_pause=note_pause) as pacer:
        yield pacer
