"""Work that can be stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async.errors import Interrupted, RunError, first_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["unless"]

_T = TypeVar("_T")


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when `stop` is set.

    Raises:
        Interrupted: `stop` was set first.
        RunError: from any task of `work`.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            alarm = tasks.create_task(_raise_when(stop))
            result = await work
            alarm.cancel()
    except* (Interrupted, RunError) as group:
        ended_by = first_of(group)
    else:
        return result
    raise ended_by


async def _raise_when(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Interrupted("interrupted before anything was fetched")
