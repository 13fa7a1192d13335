"""How to reach the API in; a gate out, whose pace all who use the same key on this event loop share.

The key's limit is one, however many callers there are. The first of them opens the gate, the last one closes it; in
between others find it by their loop. Nothing stays behind: neither a gate without callers, nor one of a loop that has
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from polygon_async.model.counters import Counters
from polygon_async.polygon.session import open_gate
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from polygon_async.model.access import Access
    from polygon_async.model.rate import Rate
    from polygon_async.polygon.pace.gate import Gate

__all__ = ["shared_gate"]


@dataclass(slots=True, eq=False)
class _Shared:
    """A gate and those who use it."""

    users: int = 0
    gate: Gate | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    """What is closed after the last of them."""


_Key: TypeAlias = tuple[str, str, "Rate"]
_OPEN: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Shared]] = WeakKeyDictionary()
"""Callers have nothing in common but their loop, so it is the one place where they can meet."""


@contextlib.asynccontextmanager
async def shared_gate(access: Access) -> AsyncIterator[Gate]:
    """A gate with the patience of `access`; its tokens are those of all with the same address, key and rate."""
    loop = asyncio.get_running_loop()
    gates = _OPEN.setdefault(loop, {})
    key = (access.base_url, access.api_key, access.rate)
    shared = gates.setdefault(key, _Shared())
    shared.users += 1
    try:
        # Whoever comes while it is being opened waits; if the opener is cancelled, the next one opens it.
        async with shared.opening:
            if shared.gate is None:
                offload = await shared.stack.enter_async_context(Threads(1))
                opened = open_gate(access, offload=offload, counters=Counters())
                shared.gate = await shared.stack.enter_async_context(opened)
        yield replace(shared.gate, patience=access.patience)
    finally:
        shared.users -= 1
        if not shared.users:
            # Whoever comes from now on opens another.
            del gates[key]
            if not gates:
                del _OPEN[loop]
            await shared.stack.aclose()
