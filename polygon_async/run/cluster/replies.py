"""What workers say in, with a way to find each message's reply; the replies out: together, what takes long later."""

from __future__ import annotations

import asyncio
import pickle
from itertools import count
from typing import TYPE_CHECKING, Any

from polygon_async.run.cluster.messages import Collect, Later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from polygon_async.run.cluster.messages import Message

__all__ = ["Replies"]

_SECONDS_TO_REPLY = 0.05
"""To messages that came together; whose reply takes longer is told to ask again."""


class Replies:
    """Replies to messages, so that one that takes long holds up no other.

    Args:
        reply_to: Finds the reply to a message of the worker of this name.
        send: Sends replies, by the numbers of what they reply to, when they cannot travel with others.
        tasks: Ends with the run, or ends it.
    """

    def __init__(
        self,
        reply_to: Callable[[Message, str], Coroutine[Any, Any, Any]],
        *,
        send: Callable[[Sequence[tuple[int, bytes]]], Awaitable[None]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._reply_to = reply_to
        self._send = send
        self._tasks = tasks
        self._numbers = count()
        self._late: dict[int, asyncio.Task[Any]] = {}
        """Those that take long, until whoever waits for one has asked again."""

    async def to(self, items: Sequence[tuple[int, str, bytes]]) -> list[tuple[int, bytes]]:
        """The replies to what has come: each item's number, its worker and its messages; soon, by number."""
        answers = []
        for number, worker, payload in items:
            match pickle.loads(payload):  # noqa: S301 (from this run's own workers)
                case [Collect() as late]:
                    self._tasks.create_task(self._collect(number, late, worker))
                case messages:
                    answers.append(self._answer(number, messages, worker))
        return await asyncio.gather(*answers)

    async def _answer(self, number: int, messages: Sequence[Message], worker: str) -> tuple[int, bytes]:
        """The replies to messages that came together."""
        doing = [self._tasks.create_task(self._reply_to(message, worker)) for message in messages]
        await asyncio.wait(doing, timeout=_SECONDS_TO_REPLY)
        return number, pickle.dumps([each.result() if each.done() else self._later(each) for each in doing])

    def _later(self, doing: asyncio.Task[Any]) -> Later:
        number = next(self._numbers)
        self._late[number] = doing
        return Later(number)

    async def _collect(self, number: int, late: Collect, worker: str) -> None:
        """Send the reply to a message, as soon as there is one."""
        doing = self._late.pop(late.number, None)
        reply = await (self._reply_to(late.message, worker) if doing is None else doing)
        await self._send([(number, pickle.dumps([reply]))])
