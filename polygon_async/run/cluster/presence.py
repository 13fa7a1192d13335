"""The workers that the scheduler names in; those that can be given work out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from polygon_async.errors import RunError
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Presence"]

log = logging.getLogger(__name__)

_SECONDS_UNTIL_TOLD = 10.0
_MINUTES_WITHOUT = 10
_SECONDS_UNTIL_ASKED_AGAIN = 60.0
"""So long a worker that said that it lacks something gets no work: what it lacks may have come by then."""


class Presence:
    """Which workers there are, and which of them said that they can do nothing.

    Args:
        now: The loop's time.
    """

    def __init__(self, now: float) -> None:
        self._there: list[str] = []
        self._unfit: dict[str, float] = {}
        """When they are asked again."""
        self._troubles: set[str] = set()
        self._seen = now
        """When there was last one that could do something."""
        self._is_told = False

    def update(self, there: Iterable[str]) -> None:
        """The scheduler says which workers there are."""
        self._there = list(there)

    def lost(self, worker: str) -> None:
        """A worker is gone."""
        self._there = [name for name in self._there if name != worker]
        self._unfit.pop(worker, None)

    def works(self, worker: str) -> None:
        """A worker has begun a unit."""
        self._unfit.pop(worker, None)

    def lacks(self, worker: str, trouble: str, now: float) -> None:
        """A worker that came late said why it can do nothing; each trouble of each is told once."""
        self._unfit[worker] = now + _SECONDS_UNTIL_ASKED_AGAIN
        text = f"worker {worker}: {trouble}"
        if text not in self._troubles:
            self._troubles.add(text)
            log.warning("%s; it gets no tickers", text)

    def usable(self, now: float) -> list[str]:
        """The workers that can be given work now.

        Raises:
            RunError: there has been none for minutes.
        """
        if not self._there or all(name in self._unfit for name in self._there):
            self._wait(now)
        else:
            self._seen, self._is_told = now, False
        return [name for name in self._there if self._unfit.get(name, now) <= now]

    @property
    def there(self) -> frozenset[str]:
        """All workers, as the scheduler last named them."""
        return frozenset(self._there)

    def are_all_fit(self) -> bool:
        """Whether a batch may go to whichever worker is free."""
        return self._unfit.keys().isdisjoint(self._there)

    def _wait(self, now: float) -> None:
        without = now - self._seen
        if without > _MINUTES_WITHOUT * 60:
            raise RunError(
                f"no worker has been there for {counted(_MINUTES_WITHOUT, 'minute')}; start some (dask worker"
                " ADDRESS) and run the same command again"
            )
        if without > _SECONDS_UNTIL_TOLD and not self._is_told:
            self._is_told = True
            log.warning("no worker can do anything; waiting %s for one", counted(_MINUTES_WITHOUT, "minute"))
