"""The S3 edge: a file and its description in, a receipt for an object that was read back out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from polygon_async.errors import PolygonAsyncError, StorageUnusable, UploadFailed
from polygon_async.model.units import Receipt
from polygon_async.store.client import limit_attempts, open_client
from polygon_async.store.digests import FileDigests, is_verified
from polygon_async.store.errors import DENIED, RUN_STOPPERS, code_of, local_trouble, status_of, store_errors, words_of
from polygon_async.store.multipart import PARTS_IN_FLIGHT, PartSizes
from polygon_async.store.objects import ObjectDescription, StoredObject
from polygon_async.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from types_aiobotocore_s3 import S3Client

    from polygon_async.system.threads import Threads

__all__ = ["Bucket", "KeyTaken", "open_bucket"]

log = logging.getLogger(__name__)

_IDENTITY = ("from", "to", "adjusted")
"""The metadata that tells units apart that share a key's ticker."""
_CONTENT = "csv-sha256"
_PREFLIGHT_SECONDS = 30
_PREFLIGHT_ATTEMPTS = 2
_CHUNK = 2**20


class _Proof(NamedTuple):
    """By what an object was proven to be the one that was to be written, and its ETag then."""

    by: str
    etag: str


class KeyTaken(PolygonAsyncError):
    """Another unit's object has the key."""


@contextlib.asynccontextmanager
async def open_bucket(
    name: str,
    *,
    offload: Threads,
    connections: int,
    on_secret: Callable[[str | None], object] = lambda _: None,
    part_sizes: PartSizes = PartSizes(),  # noqa: B008 (frozen)
) -> AsyncIterator[Bucket]:
    """A bucket of whatever store botocore's own settings (environment, profiles, roles) point at.

    Args:
        name: The bucket's name.
        offload: Runs what reads files.
        connections: Most uploads at once.
        on_secret: Told the secrets that came from a profile or a role, so that no log shows them.
        part_sizes: Which files are sent in parts.

    Raises:
        StorageUnusable: the settings or credentials cannot be used.
    """
    async with open_client(on_secret, max_pool_connections=max(10, connections + PARTS_IN_FLIGHT)) as client:
        yield Bucket(client, name, offload=offload, part_sizes=part_sizes)


class Bucket:
    """Stores objects once, and says so only of those that it has read back."""

    def __init__(self, client: S3Client, name: str, *, offload: Threads, part_sizes: PartSizes) -> None:
        self._client = client
        self._offload = offload
        self._part_sizes = part_sizes
        self._writer = Writer(client, name, look=self._look, offload=offload)
        self._has_stored = False
        self.name = name

    @property
    def destination(self) -> str:
        """The bucket and whose it is: other stores may have buckets of the same name."""
        parts = urlsplit(self._client.meta.endpoint_url)
        own = (parts.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return f"s3://{self.name}" if own else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self.name}"

    async def check(self) -> None:
        """Ask once whether the bucket answers and the credentials are right.

        A bucket that may be written but not listed is no error: policies for uploaders are like that.
        A listing is asked for and no HEAD, whose errors carry no code.

        Raises:
            StorageUnusable: what is wrong, and what to do.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_PREFLIGHT_SECONDS):
                with limit_attempts(self._client, "ListObjectsV2", attempts=_PREFLIGHT_ATTEMPTS):
                    await self._client.list_objects_v2(Bucket=self.name, MaxKeys=1)
        except TimeoutError as error:
            raise StorageUnusable(
                f"the bucket {self.name} did not answer within {_PREFLIGHT_SECONDS} s;"
                " check AWS_ENDPOINT_URL_S3 and the network"
            ) from error
        except ClientError as error:
            if code_of(error) in DENIED:
                log.debug("the bucket %s may not be listed, which uploads don't need", self.name)
                return
            advice = RUN_STOPPERS.get(
                code_of(error), "check AWS_ENDPOINT_URL_S3, the bucket's name and the credentials"
            )
            raise StorageUnusable(f"the bucket {self.name} cannot be used: {advice} ({words_of(error)})") from error
        except (BotoCoreError, OSError, ValueError) as error:
            raise StorageUnusable(f"the bucket {self.name} cannot be reached: {local_trouble(error)}") from error

    async def store(
        self,
        path: Path,
        description: ObjectDescription,
        *,
        replace: bool,
        deadline: float,
        verified: Callable[[], Awaitable[object]] = is_verified,
    ) -> Receipt:
        """Store the file `path` under the description's key, with tags and metadata, and read it back.

        An object that is there already counts when it has the same content. A large file is sent in
        parts; however this ends, no upload of parts stays open, as long as the store can be asked.

        Args:
            path: The file; it must not change meanwhile.
            description: Key, tags and metadata.
            replace: Overwrite what is there.
            deadline: Seconds that all of it may take, botocore's retries included.
            sound: Comes back when the file has been found good, or raises; called as late as possible, and
                before there is an object.

        Raises:
            KeyTaken: another unit's object is there.
            UploadFailed: this file is not stored, or not confirmed.
            StorageUnusable: no file can be stored.
        """
        try:
            async with asyncio.timeout(deadline):
                receipt = await self._store(path, description, replace=replace, verified=verified)
        except TimeoutError as error:
            raise UploadFailed(f"{self._where(description.key)} was not confirmed within {deadline:.0f} s") from error
        self._has_stored = True
        return receipt

    async def inspect(self, key: str) -> StoredObject | None:
        """What the store says of an object, its tags included; None when there is none.

        Raises:
            UploadFailed, StorageUnusable: it cannot be asked.
        """
        # Who may not list is refused where there is nothing: that is one object's matter, and no reason to stop.
        with store_errors(f"looking at {self._where(key)}", has_stored=True):
            stored = await self._head(key)
            return stored and dataclasses.replace(stored, tags=await self._tags(key))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Key and size in bytes of every object whose key begins with `prefix`, in the order of the keys.

        Raises:
            UploadFailed, StorageUnusable: the bucket cannot be listed.
        """
        with self._errors(f"listing {self._where(prefix)}"):
            async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["Size"]

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """An object's content, in chunks of at most 1 MiB.

        Raises:
            UploadFailed, StorageUnusable: it is not there, or its reading broke off.
        """
        with self._errors(f"reading {self._where(key)}"):
            answer = await self._client.get_object(Bucket=self.name, Key=key)
            body = answer["Body"]
            try:
                async for chunk in body.iter_chunks(_CHUNK):
                    yield chunk
            finally:
                # Who stops in the middle must not leave the rest of it in the connection.
                body.close()

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Give an object these tags instead of those that it has, and read them back.

        Raises:
            UploadFailed: it does not keep them, or is not there.
            StorageUnusable: nothing can be tagged.
        """
        with self._errors(f"tagging {self._where(key)}"):
            await self._client.put_object_tagging(
                Bucket=self.name,
                Key=key,
                Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]},
            )
            if await self._tags(key) != dict(tags):
                raise UploadFailed(f"{self._where(key)} does not keep its tags")

    async def _store(
        self, path: Path, description: ObjectDescription, *, replace: bool, verified: Callable[[], Awaitable[object]]
    ) -> Receipt:
        where = self._where(description.key)
        with self._errors(f"reading {path.name}"):
            size = (await self._offload(path.stat)).st_size
        part_size = self._part_sizes.of(size)
        content = FileDigests(path, size=size, part_size=part_size, offload=self._offload, verified=verified)
        if replace:
            with self._errors(f"looking at {where}"):
                stored = await self._look(description.key)
                if stored and any(name in stored.metadata for name in _IDENTITY):
                    self._check_owner(stored, description)
        with self._errors(f"writing {where}"):
            written = await self._writer.write(content, description, replace=replace)
        proof = None if written else await self._reconcile(content, description)
        existed = proof is not None
        if proof is None:
            with self._errors(f"reading back {where}"):
                proof = await self._prove(await self._head(description.key), content, description)
        with self._errors(f"reading back the tags of {where}"):
            await self._confirm_tags(description)
        return Receipt(
            bucket=self.name,
            key=description.key,
            size=size,
            confirmed_by=proof.by,
            existed=existed,
            checksum=proof.etag,
        )

    async def _reconcile(self, content: FileDigests, description: ObjectDescription) -> _Proof | None:
        """Where something stands in the way: by what it is proven to be this object; None when it was replaced.

        The same CSV compressed at another time, or by another lzop, gives other bytes, which are replaced.
        """
        where = self._where(description.key)
        with self._errors(f"looking at {where}"):
            stored = await self._head(description.key)
            self._check_owner(stored, description)
            if stored and stored.metadata.get(_CONTENT) != description.metadata[_CONTENT]:
                raise UploadFailed(f"{where} exists with other content; --force replaces it")
            if stored:
                with contextlib.suppress(UploadFailed):
                    return await self._prove(stored, content, description)
        with self._errors(f"writing {where}"):
            await self._writer.write(content, description, replace=stored is not None)
        return None

    async def _look(self, key: str) -> StoredObject | None:
        """What is there before anything is written; who may not list is told 403 where there is nothing."""
        from botocore.exceptions import ClientError

        try:
            return await self._head(key)
        except ClientError as error:
            if code_of(error) in DENIED:
                return None
            raise

    def _check_owner(self, stored: StoredObject | None, description: ObjectDescription) -> None:
        """Whether what is there, if anything, is this unit's."""
        if stored and any(stored.metadata.get(name) != description.metadata[name] for name in _IDENTITY):
            raise KeyTaken(f"{self._where(description.key)} is another download's")

    async def _prove(self, stored: StoredObject | None, content: FileDigests, description: ObjectDescription) -> _Proof:
        """By what an object is proven to be the one that was to be written.

        Raises:
            UploadFailed: it is another, or there is none.
        """
        where = self._where(description.key)
        if stored is None:
            raise UploadFailed(f"{where} is not there after it was written")
        if stored.size != content.size:
            raise UploadFailed(f"{where} has {stored.size} bytes and not {content.size}")
        if any(stored.metadata.get(name) != value for name, value in description.metadata.items()):
            raise UploadFailed(f"{where} does not have the metadata that it was written with")
        if (proof := await content.told_by(stored)) is not None:
            return _Proof(proof, stored.etag)
        if await self._sha256_of(description.key) != await content.digest("sha256"):
            raise UploadFailed(f"{where} does not hold the bytes that were written; --force replaces it")
        return _Proof("bytes", stored.etag)

    async def _confirm_tags(self, description: ObjectDescription) -> None:
        """Read the tags back; put them again where the store has lost them."""
        if await self._tags(description.key) != dict(description.tags):
            log.info("the tags of %s are not as they should be; they are put again", description.key)
            await self.put_tags(description.key, description.tags)

    async def _tags(self, key: str) -> dict[str, str]:
        answer = await self._client.get_object_tagging(Bucket=self.name, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}

    async def _head(self, key: str) -> StoredObject | None:
        """What the store says of an object, but for its tags; None when there is none."""
        from botocore.exceptions import ClientError

        try:
            head = await self._client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise
        return StoredObject(
            key=key,
            size=head["ContentLength"],
            metadata=head["Metadata"],
            tags=None,
            sha256=head.get("ChecksumSHA256"),
            etag=head["ETag"].strip('"'),
        )

    async def _sha256_of(self, key: str) -> bytes:
        digest = hashlib.sha256()
        async for chunk in self.read(key):
            await self._offload(digest.update, chunk)
        return digest.digest()

    def _where(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def _errors(self, act: str) -> AbstractContextManager[None]:
        return store_errors(act, has_stored=self._has_stored)
