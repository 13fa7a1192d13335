"""Write a file as an object under a free key, or report that the key is taken."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from polygon_async.store.digests import in_base64
from polygon_async.store.errors import code_of, is_unknown_to_store, status_of
from polygon_async.store.multipart import PARTS_IN_FLIGHT, open_upload, send_parts

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from polygon_async.store.bucket import Bucket
    from polygon_async.store.digests import Algorithm, FileDigests
    from polygon_async.store.objects import ObjectDescription

__all__ = ["Writer"]

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""For writes that conflict with others under the same key."""


class _Taken(Exception):
    """The key is taken, or was a moment ago."""


class Writer:
    """Writes under free keys only, whether or not the store can ensure that itself."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._slots = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._conditional = True
        self._has_said = False

    async def write(self, content: FileDigests, description: ObjectDescription, *, replace: bool) -> bool:
        """Write the object; returns False if its key is taken.

        The object there may be this one: a retry after a lost answer looks like that.

        Raises:
            botocore's own errors.
        """
        from botocore.exceptions import ClientError

        only_once = {"IfNoneMatch": "*"} if self._conditional and not replace else {}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._write(content, description, only_once, replace=replace)
            except _Taken:
                return False
            except ClientError as error:
                if only_once and _is_refused(error):
                    return False
                if only_once and is_unknown_to_store(error):
                    return await self._write_without_condition(content, description)
                if code_of(error) != "ConditionalRequestConflict" or attempt == _ATTEMPTS:
                    raise
            else:
                return True
        raise AssertionError("the last attempt returns or raises")

    async def _write_without_condition(self, content: FileDigests, description: ObjectDescription) -> bool:
        """As `write`, for a store that does not know something: where this works, it was the condition."""
        try:
            await self._write(content, description, {}, replace=False)
        except _Taken:
            return False
        self._do_without()
        return True

    async def _write(
        self, content: FileDigests, description: ObjectDescription, only_once: dict[str, Any], *, replace: bool
    ) -> None:
        if content.part_size is not None:
            await self._put_parts(content, description, only_once, replace=replace)
            return
        if not only_once and not replace:
            await self._see_that_free(description.key)
        await self._put(content, description, only_once)

    async def _put(self, content: FileDigests, description: ObjectDescription, only_once: dict[str, Any]) -> None:
        # As a header, computed beforehand: stores without support for trailers accept it, too.
        field = {"md5": "ContentMD5", "sha256": "ChecksumSHA256"}[self._algorithm]
        checksum: dict[str, Any] = {field: in_base64(await content.digest(self._algorithm))}
        await content.verified()
        with await content.open() as body:
            await self._client.put_object(Body=body, **self._request(description), **checksum, **only_once)

    async def _put_parts(
        self, content: FileDigests, description: ObjectDescription, only_once: dict[str, Any], *, replace: bool
    ) -> None:
        """Send the parts and complete the upload; not every store obeys a condition there, so it checks first."""
        if not replace:
            self._say_that_it_looks()
            await self._see_that_free(description.key)
        kind = {"ChecksumAlgorithm": "SHA256"} if self._algorithm == "sha256" else {}
        async with open_upload(self._client, **self._request(description), **kind) as upload:
            parts = await send_parts(self._client, upload, content, algorithm=self._algorithm, slots=self._slots)
            await content.verified()
            if not replace:
                await self._see_that_free(description.key)
            try:
                await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **only_once)
            except self._client.exceptions.NoSuchUpload as error:
                # Most likely the answer to an earlier attempt was lost; the stored object will show.
                if not replace:
                    raise _Taken from error

    async def _see_that_free(self, key: str) -> None:
        if await self._bucket.look(key) is not None:
            raise _Taken

    def _say_that_it_looks(self) -> None:
        if not self._has_said:
            log.info("not every store writes large files conditionally; checking that a key is free before and after")
            self._has_said = True

    def _do_without(self) -> None:
        if self._conditional:
            log.info("the store does not support conditional writes; checking that a key is free before each write")
            self._conditional = False

    @property
    def _algorithm(self) -> Algorithm:
        """The digest that is sent; with checksums switched off, the store is taken to support MD5 only."""
        wanted = self._client.meta.config.request_checksum_calculation
        return "md5" if wanted == "when_required" else "sha256"

    def _request(self, description: ObjectDescription) -> dict[str, Any]:
        return {
            "Bucket": self._bucket.name,
            "Key": description.key,
            "Tagging": "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in description.tags.items()),
            "Metadata": dict(description.metadata),
            "ContentType": "application/x-lzop",
        }


def _is_refused(error: ClientError) -> bool:
    return status_of(error) == 412 or code_of(error) == "PreconditionFailed"
