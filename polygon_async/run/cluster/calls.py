"""A run's calls of its owner in the scheduler (`owner`): from the coordinator's loop, or from a worker's pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OwnerCalls"]


class OwnerCalls(ABC):
    """The calls that everybody makes; it is how a `LeasePacer` asks for tokens.

    Args:
        key: The run's name on the cluster.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    @abstractmethod
    async def _reach(self, operation: str, **values: Any) -> Any:
        """What the scheduler's handler of this name returns."""

    async def called(self, name: str, **values: Any) -> Any:
        """What the owner's method of this name returns.

        Raises:
            OSError: the scheduler cannot be reached, or does not know the owner (yet).
        """
        try:
            return await self._reach(f"polygon_{name}", run=self.key, **values)
        except OSError:
            raise
        except Exception as error:  # what Dask raises where a handler is not known, or a connection ends in the middle
            raise OSError(f"{type(error).__name__}: {error}") from error

    async def lease(self, succeeded: list[float]) -> Mapping[str, Any] | None:
        """The next token (see `polygon.pace.lease`)."""
        token: Mapping[str, Any] | None = await self.called("lease", succeeded=succeeded)
        return token

    async def refused(self, sent: float, retry_after: float | None, said: str) -> None:
        """A 429."""
        await self.called("refused", sent=sent, retry_after=retry_after, said=said)

    async def pause(self, seconds: float) -> None:
        """A pause for everybody."""
        await self.called("pause", seconds=seconds)
