"""Checks many objects of a bucket side by side: what is wrong with each of them?"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from polygon_async.bars.check import CsvCheck
from polygon_async.errors import CompressionFailed, UploadFailed
from polygon_async.store.errors import DENIED, code_of
from polygon_async.store.lzop import decompress
from polygon_async.system.limits import seconds_for
from polygon_async.verify import checks
from polygon_async.verify.expected import as_it_says
from polygon_async.verify.findings import Checked, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from polygon_async.store.bucket import Bucket
    from polygon_async.store.objects import StoredObject
    from polygon_async.system.threads import Threads
    from polygon_async.verify.findings import Expected, Finding

__all__ = ["Count", "Verifier"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Count:
    """How far the verification has got; changed on the event loop only."""

    objects: int = 0
    findings: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Checks objects, and on request their content."""

    bucket: Bucket
    offload: Threads
    lzop: str | None
    """None: the objects' content is not checked."""
    concurrency: int
    patience: float
    """The least time that reading an object may take, in s."""
    count: Count

    async def recorded(self, expected: AsyncIterator[Expected]) -> list[Checked]:
        """Check each of these objects by what the ledger says.

        Raises:
            StorageUnusable: the bucket or the credentials cannot be used.
        """
        return await self._all(expected, self._recorded)

    async def alone(self, prefix: str) -> list[Checked]:
        """Check each object whose key starts with `prefix` by its own key and metadata.

        Raises:
            UploadFailed, StorageUnusable: the bucket cannot be listed, or the credentials cannot be used.
        """
        return await self._all((key async for key, _ in self.bucket.list(prefix)), self._alone)

    async def _all(
        self, subjects: AsyncIterator[_T], check: Callable[[_T], Awaitable[Checked | None]]
    ) -> list[Checked]:
        """In no particular order; the queue is bounded, so that the listing does not run ahead."""
        queue: asyncio.Queue[_T | None] = asyncio.Queue(self.concurrency)
        done: list[Checked] = []

        async def work() -> None:
            while (subject := await queue.get()) is not None:
                if (checked := await check(subject)) is not None:
                    done.append(checked)
                    self.count.objects += 1
                    self.count.findings += len(checked.findings)

        async with asyncio.TaskGroup() as workers:
            for _ in range(self.concurrency):
                workers.create_task(work())
            async for subject in subjects:
                await queue.put(subject)
            for _ in range(self.concurrency):
                await queue.put(None)
        return done

    async def _recorded(self, expected: Expected) -> Checked:
        try:
            stored = await self.bucket.inspect(expected.key)
        except UploadFailed as error:
            return _unreadable(expected, error)
        found = checks.of_object(expected, stored)
        if stored is not None:
            found += await self._inside(expected, stored)
        return Checked(key=expected.key, expected=expected, findings=tuple(found), size=stored.size if stored else 0)

    async def _alone(self, key: str) -> Checked | None:
        if as_it_says(key, None) is None:
            wrong = checks.of_key(key)
            return Checked(key=key, expected=None, findings=(wrong,)) if wrong else None
        try:
            stored = await self.bucket.inspect(key)
        except UploadFailed as error:
            return _unreadable(as_it_says(key, None), error)
        expected = as_it_says(key, stored)
        if stored is None or expected is None:
            return None  # it has gone since the bucket was listed
        found = checks.of_own_words(expected, stored)
        found += await self._inside(expected, stored)
        return Checked(key=key, expected=expected, findings=tuple(found), size=stored.size)

    async def _inside(self, expected: Expected, stored: StoredObject) -> list[Finding]:
        """What is wrong inside the object; checked only on request."""
        if self.lzop is None:
            return []
        csv, deadline = CsvCheck(), seconds_for(stored.size, at_least=self.patience)
        try:
            async with asyncio.timeout(deadline), contextlib.aclosing(self._chunks(expected.key)) as chunks:
                await decompress(self.lzop, chunks, lambda block: self.offload(csv.feed, block))
        except TimeoutError:
            return [checks.finding(expected, Kind.UNREADABLE, f"it could not be read within {deadline:.0f} s")]
        except UploadFailed as error:
            return [checks.finding(expected, Kind.UNREADABLE, str(error))]
        except CompressionFailed as error:
            return [checks.finding(expected, Kind.LZOP, f"lzop cannot decompress it ({error})")]
        csv.end()
        return checks.of_content(expected, csv)

    async def _chunks(self, key: str) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self.bucket.read(key)) as chunks:
            async for chunk in chunks:
                self.count.bytes_read += len(chunk)
                yield chunk


def _unreadable(expected: Expected | None, error: UploadFailed) -> Checked:
    assert expected is not None  # noqa: S101 (for the type checker; only such keys get here)
    if code_of(error.__cause__) in DENIED:
        text = "it is missing, or access is denied (403; a store says which only with s3:ListBucket)"
        found = checks.finding(expected, Kind.MISSING, text)
    else:
        found = checks.finding(expected, Kind.UNREADABLE, str(error))
    return Checked(key=expected.key, expected=expected, findings=(found,))
