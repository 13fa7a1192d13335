"""A worker's messages in, the coordinator's replies out; what is told at the same time travels together."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

from polygon_async.errors import RunError
from polygon_async.run.cluster.calls import OwnerCalls
from polygon_async.run.cluster.messages import Collect, Later

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Worker

    from polygon_async.run.cluster.messages import Message
    from polygon_async.system.redaction import Redactor

__all__ = ["Link", "to_scheduler"]

_SECONDS_TO_RETRY = 0.5
_ATTEMPTS = 120
_OVER = ("closing", "closed", "failed")


class Link(OwnerCalls):
    """The way from a worker's pipeline, which has a loop of its own, over Dask's to the scheduler.

    Args:
        worker: Dask's worker.
        key: The run's name on the cluster.
        redact: Removes secrets.
    """

    def __init__(self, worker: Worker, key: str, redact: Redactor) -> None:
        super().__init__(key, redact)
        self.holder = worker.address
        self._worker = worker
        self._outbox: list[tuple[Message, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether Dask has given this worker up: once cut off from the scheduler, it never comes back."""
        return self._worker.status.name in _OVER

    async def ask(self, message: Message) -> Any:
        """The reply to one message; one that takes long holds up no other.

        Raises:
            RunError: the coordinator cannot be reached, or has ended the run.
        """
        reply = asyncio.get_running_loop().create_future()
        # Who asked may be gone when it comes, and asyncio would print an error that nobody has seen.
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._outbox.append((message, reply))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        found = await asyncio.shield(reply)
        if isinstance(found, Later):
            (found,) = await self._sent([Collect(found.number, message)])
        return found

    async def _send_all(self) -> None:
        try:
            while self._outbox:
                some, self._outbox = self._outbox, []
                try:
                    replies = await self._sent([message for message, _ in some])
                except BaseException as error:
                    for _, waiting in (*some, *self._outbox):
                        if not waiting.done():
                            waiting.set_exception(error)
                    self._outbox = []
                    if not isinstance(error, Exception):
                        raise
                else:
                    for (_, waiting), reply in zip(some, replies, strict=True):
                        if not waiting.done():
                            waiting.set_result(reply)
        finally:
            self._sending = None

    async def _sent(self, messages: list[Message] | list[Collect]) -> list[Any]:
        payload = pickle.dumps(messages)
        for _ in range(_ATTEMPTS):
            try:
                found = await self.called("send", worker=self._worker.address, payload=payload)
            except OSError:
                if self.is_over:
                    break
                # The scheduler may be restarting; until it is back, and knows the run, nothing can be recorded.
                await asyncio.sleep(_SECONDS_TO_RETRY)
                continue
            if found is None:
                break
            replies: list[Any] = pickle.loads(found)  # noqa: S301 (from this run's own coordinator)
            return replies
        raise RunError("the run's coordinator is gone")

    async def _reach(self, operation: str, **values: Any) -> Any:
        return await asyncio.wrap_future(to_scheduler(self._worker, operation, **values))


def to_scheduler(worker: Worker, operation: str, /, **values: Any) -> Future[Any]:
    """A call of the scheduler's handler of this name, from any thread, in the loop in which Dask's worker lives."""
    return asyncio.run_coroutine_threadsafe(getattr(worker.scheduler, operation)(**values), worker.loop.asyncio_loop)
