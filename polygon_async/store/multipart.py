"""Send a large file in parts, and abort the upload if that fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polygon_async.errors import StorageUnusable, one_line
from polygon_async.store.digests import in_base64

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from types_aiobotocore_s3 import S3Client

    from polygon_async.store.digests import Algorithm, FileDigests

__all__ = ["PARTS_IN_FLIGHT", "PartSizes", "open_upload", "send_parts"]

PARTS_IN_FLIGHT = 4
"""For all files together."""

log = logging.getLogger(__name__)

_MIB = 2**20
_MOST_PARTS = 10_000
_PARTS_OF_ONE_FILE = 4
_SECONDS_TO_ABORT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSizes:
    """Which files are sent in parts, and how large the parts are, in bytes. S3 requires 5 MiB, except for the last."""

    threshold: int = 64 * _MIB
    least: int = 16 * _MIB

    def of(self, size: int) -> int | None:
        """The size of the parts of a file of `size`; None if it is sent in one piece."""
        if size < self.threshold:
            return None
        return max(self.least, -(-size // (_MOST_PARTS * _MIB)) * _MIB)


@contextlib.asynccontextmanager
async def open_upload(client: S3Client, **request: Any) -> AsyncIterator[dict[str, Any]]:
    """A multipart upload, as the arguments that name it; whatever ends the block early aborts it."""
    name = {"Bucket": request["Bucket"], "Key": request["Key"]}
    opening = asyncio.ensure_future(client.create_multipart_upload(**request))
    try:
        # Shielded: an upload whose id never arrived here could not be aborted.
        opened = await asyncio.shield(opening)
        yield {**name, "UploadId": opened["UploadId"]}
    except BaseException:
        await _to_its_end(asyncio.ensure_future(_abort(client, opening, name)))
        raise


async def send_parts(
    client: S3Client, upload: dict[str, Any], content: FileDigests, *, algorithm: Algorithm, slots: asyncio.Semaphore
) -> list[Any]:
    """Send all parts of a file, several at once; returns what completes the upload.

    `slots` bounds the parts in flight, including those of other files.

    Raises:
        botocore's own errors: a part could not be sent; the others are given up.
    """
    field = {"md5": "ContentMD5", "sha256": "ChecksumSHA256"}[algorithm]
    digests = await content.part_digests(algorithm)
    sent: list[dict[str, Any]] = [{} for _ in digests]
    waiting = iter(range(len(digests)))

    async def send() -> None:
        for index in waiting:
            async with slots:
                checksum: dict[str, Any] = {field: in_base64(digests[index])}
                with await content.open_part(index) as body:
                    answer = await client.upload_part(**upload, PartNumber=index + 1, Body=body, **checksum)
            sent[index] = {"PartNumber": index + 1, "ETag": answer["ETag"]}
            if algorithm == "sha256":
                sent[index] |= checksum

    await _together([send() for _ in range(min(_PARTS_OF_ONE_FILE, len(digests)))])
    return sent


async def _abort(client: S3Client, opening: asyncio.Future[Any], name: dict[str, Any]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        async with asyncio.timeout(_SECONDS_TO_ABORT):
            with contextlib.suppress(BotoCoreError, ClientError, StorageUnusable):
                opened = await opening
                await _abort_one(client, {**name, "UploadId": opened["UploadId"]})
                return
    except TimeoutError:
        log.warning("the store did not answer; an unfinished upload of %s may stay open there", name["Key"])


async def _abort_one(client: S3Client, upload: dict[str, Any]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        await client.abort_multipart_upload(**upload)
    except client.exceptions.NoSuchUpload:
        pass  # completed, or gone already
    except (BotoCoreError, ClientError, StorageUnusable) as error:
        log.warning("an unfinished upload of %s is left open in the store (%s)", upload["Key"], one_line(error))


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of them; the first error ends the others, and is raised when they have ended.

    No TaskGroup: Python 3.11's leaves its owner marked as cancelled after an error, and then a
    deadline around it raises CancelledError.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await _to_its_end(asyncio.gather(*tasks, return_exceptions=True))


async def _to_its_end(work: asyncio.Future[Any]) -> None:
    """Wait for `work`, which limits its own time, however often the wait is cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
