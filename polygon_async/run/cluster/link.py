"""A worker's messages in, the coordinator's replies out; what is told at the same time travels together."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from concurrent.futures import Future

    from distributed import Worker

    from polygon_async.run.cluster.messages import Message

__all__ = ["Link", "dask_loop"]

_T = TypeVar("_T")

_SECONDS_TO_RETRY = 0.5
_ATTEMPTS = 120


class Link:
    """The way from a worker's pipeline, which has a loop of its own, over Dask's to the scheduler.

    Args:
        worker: Dask's worker.
        run_key: The run's name on the cluster.
    """

    def __init__(self, worker: Worker, run_key: str) -> None:
        self._worker = worker
        self._run_key = run_key
        self._outbox: list[tuple[Message, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, message: Message) -> Any:
        """The reply to one message.

        Raises:
            RunError: the coordinator cannot be reached, or has ended the run.
        """
        reply = asyncio.get_running_loop().create_future()
        # Who asked may be gone when it comes, and asyncio would print an error that nobody has seen.
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._outbox.append((message, reply))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await asyncio.shield(reply)

    async def apart(self, message: Message) -> Any:
        """The reply to a message that takes long, and holds up no other."""
        (reply,) = await self._sent([message])
        return reply

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

    async def _sent(self, messages: list[Message]) -> list[Any]:
        payload = pickle.dumps(messages)
        for _ in range(_ATTEMPTS):
            try:
                found = await self._called("send", worker=self._worker.address, payload=payload)
            except OSError:
                # The scheduler may be restarting; until it is back, and knows the run, nothing can be recorded.
                await asyncio.sleep(_SECONDS_TO_RETRY)
                continue
            if found is None:
                break
            replies: list[Any] = pickle.loads(found)  # noqa: S301 (from this run's own coordinator)
            return replies
        raise RunError("the run's coordinator is gone")

    async def lease(self, succeeded: list[float]) -> Mapping[str, Any] | None:
        """The next token (see `polygon.pace.lease`)."""
        token: Mapping[str, Any] | None = await self._called("lease", succeeded=succeeded)
        return token

    async def refused(self, sent: float, retry_after: float | None, said: str) -> None:
        """A 429."""
        await self._called("refused", sent=sent, retry_after=retry_after, said=said)

    async def pause(self, seconds: float) -> None:
        """A pause for everybody."""
        await self._called("pause", seconds=seconds)

    async def _called(self, name: str, **values: Any) -> Any:
        """What the scheduler's handler returns.

        Raises:
            OSError: the scheduler cannot be reached, or does not know the handler (yet).
        """

        async def call() -> Any:
            return await getattr(self._worker.scheduler, f"polygon_{name}")(run=self._run_key, **values)

        return await on_loop(dask_loop(self._worker), call)


def dask_loop(worker: Worker) -> asyncio.AbstractEventLoop:
    """The loop in which Dask's worker lives."""
    loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop
    return loop


async def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[_T]]) -> _T:
    """The result of a call in another thread's loop.

    Raises:
        OSError: the other end cannot be reached, or does not know what is asked.
    """

    async def called() -> _T:
        return await call()

    future: Future[_T] = asyncio.run_coroutine_threadsafe(called(), loop)
    try:
        return await asyncio.wrap_future(future)
    except (OSError, RunError, asyncio.CancelledError):
        raise
    except Exception as error:
        # What Dask raises where a handler is not known, or a connection ends in the middle.
        raise OSError(f"{type(error).__name__}: {error}") from error
