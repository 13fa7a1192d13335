"""Opens a client of the API."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from polygon_async.polygon.client import Client
from polygon_async.polygon.pace.auto import open_auto_pacer
from polygon_async.polygon.pace.gate import Gate
from polygon_async.polygon.pace.limiter import Pacer
from polygon_async.polygon.pace.memory import RateMemory, cache_file
from polygon_async.polygon.pace.outage import Outage
from polygon_async.system.processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from polygon_async.model.access import Access
    from polygon_async.model.counters import Counters
    from polygon_async.polygon.pace.lease import LeasePacer
    from polygon_async.system.threads import Threads

__all__ = ["open_client", "open_client_at", "open_gate", "open_polygon"]

log = logging.getLogger(__name__)

_AT_FIRST = 2
"""Processes that start with the first request where large pages are expected; the others when one has come."""


@contextlib.asynccontextmanager
async def open_polygon(access: Access, *, offload: Threads, counters: Counters) -> AsyncIterator[Client]:
    """A client of the API that `access` describes, with its own gate."""
    async with (
        open_gate(access, offload=offload, counters=counters) as gate,
        open_client(access, gate=gate, offload=offload) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def open_client_at(
    pacer: LeasePacer, access: Access, *, offload: Threads, counters: Counters
) -> AsyncIterator[Client]:
    """A client whose tokens come from elsewhere, where outages are judged, too."""
    gate = Gate(tokens=pacer, outage=pacer.outage, counters=counters, patience=access.patience)
    try:
        async with open_client(access, gate=gate, offload=offload) as client:
            yield client
    finally:
        gate.retries.end()


@contextlib.asynccontextmanager
async def open_client(access: Access, *, gate: Gate, offload: Threads) -> AsyncIterator[Client]:
    """A client of the API that `access` describes, whose requests pass `gate`."""
    async with (
        Processes(
            access.processes,
            offload=offload,
            preload="polygon_async.polygon.fast_pages",
            at_first=_AT_FIRST if access.expects_large_pages else 0,
        ) as readers,
        Client(access, gate=gate, offload=offload, readers=readers) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def open_gate(access: Access, *, offload: Threads, counters: Counters) -> AsyncIterator[Gate]:
    """A gate with tokens of this process's own."""

    def note_pause(seconds: float) -> None:
        counters.measures.seconds["pauses"] += seconds
        extra = {"event": "pause", "facts": {"seconds": round(seconds, 1)}}
        # The line about the requests that were refused says it, too.
        log.debug("pausing all requests for %.1f s", seconds, extra=extra)

    async with _open_pacer(access, offload, note_pause) as pacer:
        outage = Outage(access.outage_patience, host=access.host, counters=counters)
        gate = Gate(tokens=pacer, outage=outage, counters=counters, patience=access.patience)
        try:
            yield gate
        finally:
            gate.retries.end()


@contextlib.asynccontextmanager
async def _open_pacer(access: Access, offload: Threads, on_pause: Callable[[float], object]) -> AsyncIterator[Pacer]:
    if not access.rate.is_auto:
        yield Pacer(access.rate.per_second, on_pause=on_pause)
        return
    memory = RateMemory(cache_file(), key=access.api_key, base_url=access.base_url)
    async with open_auto_pacer(memory, offload=offload, on_pause=on_pause) as pacer:
        yield pacer
