"""Upload a file as one object: write it, read it back, and prove that it is the right one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from polygon_async.errors import PolygonAsyncError, StorageUnusable, UploadFailed
from polygon_async.model.layout import CSV_SHA256, IDENTITY
from polygon_async.model.units import Receipt
from polygon_async.store.digests import FileDigests, is_verified
from polygon_async.store.errors import code_of, status_of
from polygon_async.store.multipart import PartSizes
from polygon_async.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from polygon_async.store.bucket import Bucket
    from polygon_async.store.objects import ObjectDescription, StoredObject
    from polygon_async.system.threads import Threads

__all__ = ["KeyTaken", "Uploader"]

log = logging.getLogger(__name__)

_ENOUGH = 5
"""Uploads refused alike, none in between that succeeds, that prove that all will be."""
_REFUSALS = {*range(400, 500), 501} - {408, 409, 412, 429}
"""HTTP statuses, without those that pass or concern one key."""
_PASSING = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_OWN = frozenset({"EntityTooLarge", "413", "InvalidTag", "KeyTooLongError", "MetadataTooLarge"})
"""Codes of what concerns some objects only, where others are stored."""


class _Proof(NamedTuple):
    """How an object was proven to be the right one, and its ETag at that time."""

    by: str
    etag: str


class KeyTaken(PolygonAsyncError):
    """Another unit's object has the key."""


class Uploader:
    """Stores objects once, and reports only those that it has read back.

    Use one for each bucket: it remembers what the store does not support, and bounds the parts in flight of
    all files together.

    Args:
        bucket: Where the objects go.
        offload: Runs the reading of files.
        part_sizes: Which files are sent in parts.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        offload: Threads,
        part_sizes: PartSizes = PartSizes(),  # noqa: B008 (frozen)
    ) -> None:
        self.bucket = bucket
        self._offload = offload
        self._part_sizes = part_sizes
        self._writer = Writer(bucket)
        self._refused: list[str] = []
        """The codes of what the store has refused since it last took something, all the same."""

    async def store(
        self,
        source: Path | bytes,
        description: ObjectDescription,
        *,
        replace: bool,
        deadline: float,
        verified: Callable[[], Awaitable[object]] = is_verified,
    ) -> Receipt:
        """Store a file under the description's key, with tags and metadata, and read it back.

        An existing object counts if it has the same content. A large file is sent in parts; however this
        ends, no such upload stays open, as long as the store can be reached.

        Args:
            source: The file, which must not change meanwhile, or the content of a small one.
            description: Key, tags and metadata.
            replace: Overwrite an existing object.
            deadline: Seconds that everything may take, including botocore's retries.
            verified: Returns when the file has been found good, or raises; called as late as possible, but
                before the object exists.

        Raises:
            KeyTaken: another unit's object is there.
            UploadFailed: this file is not stored, or not confirmed.
            StorageUnusable: no file can be stored.
        """
        try:
            async with asyncio.timeout(deadline):
                receipt = await self._store(source, description, replace=replace, verified=verified)
        except TimeoutError as error:
            where = self.bucket.where(description.key)
            raise UploadFailed(f"{where} was not confirmed within {deadline:.0f} s") from error
        except UploadFailed as error:
            self._note_refusal(error)
            raise
        self.bucket.has_stored = True
        self._refused.clear()
        return receipt

    def _note_refusal(self, error: UploadFailed) -> None:
        """Stop the run where the store has refused a few uploads in a row alike: it would refuse all others, too.

        What may pass (a lost connection, a server's own error, too many requests) is no refusal.
        """
        from botocore.exceptions import ClientError

        refusal, has_stored = error.__cause__, self.bucket.has_stored
        if not isinstance(refusal, ClientError) or status_of(refusal) not in _REFUSALS:
            return
        code = code_of(refusal)
        if code in _PASSING or (has_stored and code in _OWN):
            return
        self._refused = [*(each for each in self._refused if each == code), code]
        if len(self._refused) >= _ENOUGH:
            which = "last" if has_stored else "first"
            raise StorageUnusable(f"{error}; the {which} {_ENOUGH} uploads were all refused like this") from error

    async def _store(
        self,
        source: Path | bytes,
        description: ObjectDescription,
        *,
        replace: bool,
        verified: Callable[[], Awaitable[object]],
    ) -> Receipt:
        bucket, where = self.bucket, self.bucket.where(description.key)
        if isinstance(source, bytes):
            size, part_size = len(source), None
        else:
            with bucket.errors(f"reading {source.name}"):
                size = (await self._offload(source.stat)).st_size
            part_size = self._part_sizes.of(size)
        content = FileDigests(source, size=size, part_size=part_size, offload=self._offload, verified=verified)
        if replace:
            with bucket.errors(f"inspecting {where}"):
                stored = await bucket.look(description.key)
                if stored and any(name in stored.metadata for name in IDENTITY):
                    self._check_owner(stored, description)
        with bucket.errors(f"writing {where}"):
            written = await self._writer.write(content, description, replace=replace)
        proof = None if written else await self._reconcile(content, description)
        existed, counted = proof is not None, None
        if proof is None:
            with bucket.errors(f"reading back {where}"):
                stored = await bucket.head(description.key)
                proof = await self._prove(stored, content, description)
            counted = stored and stored.tag_count
        # Tags that were sent with this content and are all there are those that were sent.
        if counted != len(description.tags):
            with bucket.errors(f"reading back the tags of {where}"):
                await self._confirm_tags(description)
        return Receipt(
            bucket=bucket.name,
            key=description.key,
            size=size,
            confirmed_by=proof.by,
            existed=existed,
            checksum=proof.etag,
        )

    async def _reconcile(self, content: FileDigests, description: ObjectDescription) -> _Proof | None:
        """If an object already exists: how it is proven to be this one; None if it was replaced.

        The same CSV compressed at another time, or by another lzop, gives other bytes, which are replaced.
        """
        where = self.bucket.where(description.key)
        with self.bucket.errors(f"inspecting {where}"):
            stored = await self.bucket.head(description.key)
            self._check_owner(stored, description)
            if stored and stored.metadata.get(CSV_SHA256) != description.metadata[CSV_SHA256]:
                raise UploadFailed(f"{where} exists with other content; --force replaces it")
            if stored:
                with contextlib.suppress(UploadFailed):
                    return await self._prove(stored, content, description)
        with self.bucket.errors(f"writing {where}"):
            await self._writer.write(content, description, replace=stored is not None)
        return None

    def _check_owner(self, stored: StoredObject | None, description: ObjectDescription) -> None:
        """Check that an existing object belongs to this unit."""
        if stored and any(stored.metadata.get(name) != description.metadata[name] for name in IDENTITY):
            raise KeyTaken(f"{self.bucket.where(description.key)} belongs to another download")

    async def _prove(self, stored: StoredObject | None, content: FileDigests, description: ObjectDescription) -> _Proof:
        """How an object is proven to be the right one.

        Raises:
            UploadFailed: it is another one, or missing.
        """
        where = self.bucket.where(description.key)
        if stored is None:
            raise UploadFailed(f"{where} is missing after it was written")
        if stored.size != content.size:
            raise UploadFailed(f"{where} has {stored.size} bytes, expected {content.size}")
        if any(stored.metadata.get(name) != value for name, value in description.metadata.items()):
            raise UploadFailed(f"{where} does not have the metadata that it was written with")
        if (proof := await content.told_by(stored)) is not None:
            return _Proof(proof, stored.etag)
        if await self._sha256_of(description.key) != await content.digest("sha256"):
            raise UploadFailed(f"{where} does not contain the bytes that were written; --force replaces it")
        return _Proof("bytes", stored.etag)

    async def _confirm_tags(self, description: ObjectDescription) -> None:
        """Read the tags back; set them again if the store has lost them."""
        if await self.bucket.tags(description.key) != dict(description.tags):
            log.info("the tags of %s are wrong; setting them again", description.key)
            await self.bucket.put_tags(description.key, description.tags)

    async def _sha256_of(self, key: str) -> bytes:
        digest = hashlib.sha256()
        async for chunk in self.bucket.read(key):
            await self._offload(digest.update, chunk)
        return digest.digest()
