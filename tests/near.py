"""The owner of a cluster's tokens in the test's own process, and calls of it that take as long as the test wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from polygon_async.run.cluster.calls import OwnerCalls
from polygon_async.run.cluster.owner import Owner
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.polygon.pace.lease import LeasePacer

__all__ = ["Near", "Streams", "register", "registered"]


async def registered(*, per_second: float | None, outage_patience: float = 600, auto: bool = False) -> Owner:
    """An owner that knows one run."""
    owner = Owner()
    await register(owner, per_second=per_second, outage_patience=outage_patience, auto=auto)
    return owner


async def register(owner: Owner, *, per_second: float | None, outage_patience: float = 600, auto: bool = False) -> None:
    await owner.register(
        "run",
        "us",
        b"",
        {},
        per_second=per_second,
        auto=auto,
        learned=None,
        outage_patience=outage_patience,
        host="api.example",
    )


class Near(OwnerCalls):
    """Calls of an owner that is in the same process.

    Args:
        owner: The owner.
        holder: The worker's name.
        delay: How long the next call's way there, and its answer's way back, takes, in s.
        secret: Not to be told.
    """

    def __init__(
        self, owner: Owner, *, holder: str | None = None, delay: Callable[[], float] = lambda: 0.0005, secret: str = "-"
    ) -> None:
        super().__init__("run", Redactor([secret]))
        self.owner = owner
        self.holder = holder
        self.calls: list[str] = []
        """The operations, in the order in which they came."""
        self._delay = delay

    async def _reach(self, operation: str, **values: Any) -> Any:
        name = operation.removeprefix("polygon_")
        await asyncio.sleep(self._delay())
        self.calls.append(name)
        result = await getattr(self.owner, name)(**values)
        await asyncio.sleep(self._delay())
        return result


class Streams:
    """What of Dask's scheduler the owner uses: the workers' names, and a way to tell them something."""

    def __init__(self, pacers: dict[str, LeasePacer]) -> None:
        self.workers: dict[str, None] = {}
        self.handlers: dict[str, Any] = {}
        self.stream_comms = pacers
        self.told: list[str] = []

    def worker_send(self, worker: str, message: dict[str, Any]) -> None:
        """Tell a worker's pacer."""
        self.told.append(worker)
        self.stream_comms[worker].learn(message["pace"])
