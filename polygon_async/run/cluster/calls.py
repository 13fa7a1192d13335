"""A run's calls of its owner in the scheduler (`owner`): from the coordinator's loop, or from a worker's pipeline."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from polygon_async.system.redaction import Redactor

__all__ = ["OwnerCalls", "dask_errors"]


@contextlib.contextmanager
def dask_errors() -> Iterator[None]:
    """Turn whatever a call of the scheduler raises into an OSError: it cannot be reached, or not yet."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # of many kinds: no scheduler at the moment, no such handler, half an answer
        raise OSError(f"{type(error).__name__}: {error}") from error


class OwnerCalls(ABC):
    """The calls that everybody makes; it is how a `LeasePacer` asks for slots.

    Args:
        key: The run's name on the cluster.
        redact: Removes secrets from what the API has said, before it travels.
    """

    holder: str | None = None
    """The worker that is given slots, and is told when those become void; None: the coordinator, which polls."""

    def __init__(self, key: str, redact: Redactor) -> None:
        self.key = key
        self._redact = redact

    @abstractmethod
    async def _reach(self, operation: str, **values: Any) -> Any:
        """What the scheduler's handler of this name returns."""

    async def called(self, name: str, **values: Any) -> Any:
        """What the owner's method of this name returns.

        Raises:
            OSError: the scheduler cannot be reached, or does not know the owner (yet).
        """
        with dask_errors():
            return await self._reach(f"polygon_{name}", run=self.key, **values)

    async def lease(self, want: int, succeeded: list[float], *, answered: bool) -> Mapping[str, Any] | None:
        """Slots to send in (see `polygon.pace.lease`)."""
        found: Mapping[str, Any] | None = await self.called(
            "lease", holder=self.holder, want=want, succeeded=succeeded, answered=answered
        )
        return found

    async def failing(self, ticker: str, words: str, unreachable: bool) -> None:
        """A request that failed."""
        await self.called("failing", ticker=ticker, words=self._redact(words), unreachable=unreachable)

    async def news(self, succeeded: list[float], *, answered: bool) -> None:
        """Answers, for which others may wait."""
        await self.called("news", succeeded=succeeded, answered=answered)

    async def refused(self, sent: float, retry_after: float | None, said: str) -> None:
        """A 429."""
        await self.called("refused", sent=sent, retry_after=retry_after, said=self._redact(said))

    async def pause(self, seconds: float) -> None:
        """A pause for everybody."""
        await self.called("pause", seconds=seconds)
