"""One bucket of an S3 store: check it, list it, and inspect, read and tag its objects."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from polygon_async.errors import StorageUnusable, UploadFailed
from polygon_async.store.client import limit_attempts, open_client
from polygon_async.store.errors import (
    DENIED,
    NO_TAGS,
    advice_on,
    code_of,
    local_trouble,
    status_of,
    store_errors,
    words_of,
)
from polygon_async.store.multipart import PARTS_IN_FLIGHT
from polygon_async.store.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from contextlib import AbstractContextManager

    from types_aiobotocore_s3 import S3Client

__all__ = ["Bucket", "open_bucket"]

log = logging.getLogger(__name__)

_PREFLIGHT_SECONDS = 30
_PREFLIGHT_ATTEMPTS = 2
_CHUNK = 2**20


@contextlib.asynccontextmanager
async def open_bucket(
    name: str,
    *,
    prefix: str = "",
    connections: int,
    on_secret: Callable[[str | None], object] = lambda _: None,
    may_ask: bool = True,
) -> AsyncIterator[Bucket]:
    """A bucket of the store that botocore's own settings (environment, profiles, roles) point at.

    Args:
        name: The bucket's name.
        prefix: What all keys are below; `team/minutes`, without a slash at its end.
        connections: Most uploads at once.
        on_secret: Called with the secrets of a profile or a role, so that no log shows them.
        may_ask: Whether the code of an MFA device may be asked for.

    Raises:
        StorageUnusable: the settings or credentials cannot be used.
    """
    most = max(10, connections + PARTS_IN_FLIGHT)
    async with open_client(on_secret, may_ask=may_ask, max_pool_connections=most) as client:
        yield Bucket(client, name, prefix=prefix)


class Bucket:
    """A bucket, with one or two S3 calls for each method.

    `check`, `inspect`, `list`, `read` and `put_tags` raise the error family. `head`, `look` and `tags`
    raise botocore's own errors: they are steps of a procedure, which wraps them in `errors` to say what
    it was doing.
    """

    def __init__(self, client: S3Client, name: str, *, prefix: str = "") -> None:
        self.client = client
        self.name = name
        self.prefix = prefix
        """What all keys of this program are below; empty for the bucket's root."""
        self.has_stored = False
        """Whether an upload has succeeded: a denial then concerns one key, not all."""

    @property
    def destination(self) -> str:
        """The address of what all keys are below, store included: other stores may have buckets of the same name."""
        parts = urlsplit(self.client.meta.endpoint_url)
        own = (parts.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        store = "s3:/" if own else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return "/".join(filter(None, (store, self.name, self.prefix)))

    def key(self, below: str) -> str:
        """The whole key of what has this key below the prefix."""
        return f"{self.prefix}/{below}" if self.prefix else below

    def where(self, key: str) -> str:
        """A key's address, for messages."""
        return f"s3://{self.name}/{key}"

    def errors(self, act: str) -> AbstractContextManager[None]:
        """Turn what botocore raises while doing `act` into the error family."""
        return store_errors(act, has_stored=self.has_stored)

    async def check(self) -> None:
        """Check once that the bucket answers and the credentials are right.

        A bucket that may be written but not listed is no error: policies for uploaders are like that.
        It asks for a listing rather than HEAD, whose errors have no code.

        Raises:
            StorageUnusable: what is wrong, and what to do.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_PREFLIGHT_SECONDS):
                with limit_attempts(self.client, "ListObjectsV2", attempts=_PREFLIGHT_ATTEMPTS):
                    await self.client.list_objects_v2(Bucket=self.name, MaxKeys=1, Prefix=self.key(""))
        except TimeoutError as error:
            raise StorageUnusable(
                f"the bucket {self.name} did not answer within {_PREFLIGHT_SECONDS} s;"
                " check AWS_ENDPOINT_URL_S3 and the network"
            ) from error
        except ClientError as error:
            if code_of(error) in DENIED:
                log.debug("the bucket %s cannot be listed, which uploads do not need", self.name)
                return
            advice = advice_on(error) or "check AWS_ENDPOINT_URL_S3, the bucket's name and the credentials"
            raise StorageUnusable(f"the bucket {self.name} cannot be used: {advice} ({words_of(error)})") from error
        except (BotoCoreError, OSError, ValueError) as error:
            raise StorageUnusable(f"the bucket {self.name} cannot be reached: {local_trouble(error)}") from error

    async def inspect(self, key: str) -> StoredObject | None:
        """What the store says of an object, including its tags; None if there is none.

        Raises:
            UploadFailed, StorageUnusable: the store cannot be asked.
        """
        # Without ListBucket, a missing object is a denial: that concerns one object, and must not stop the rest.
        with store_errors(f"inspecting {self.where(key)}", has_stored=True):
            stored = await self.head(key)
            return stored and dataclasses.replace(stored, tags=await self.tags(key))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Key and size in bytes of every object whose key begins with `prefix`, in the order of the keys.

        Raises:
            UploadFailed, StorageUnusable: the bucket cannot be listed.
        """
        with self.errors(f"listing {self.where(prefix)}"):
            async for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["Size"]

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """An object's content, in chunks of at most 1 MiB.

        Raises:
            UploadFailed, StorageUnusable: it is missing, or reading it broke off.
        """
        with self.errors(f"reading {self.where(key)}"):
            answer = await self.client.get_object(Bucket=self.name, Key=key)
            body = answer["Body"]
            try:
                async for chunk in body.iter_chunks(_CHUNK):
                    yield chunk
            finally:
                # If the caller stops in the middle, the rest must not stay in the connection.
                body.close()

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags, and read them back.

        Raises:
            UploadFailed: it does not keep them, or is not there.
            StorageUnusable: nothing can be tagged, or nothing has been stored yet and the store keeps no tags.
        """
        with self.errors(f"tagging {self.where(key)}"):
            await self.client.put_object_tagging(
                Bucket=self.name,
                Key=key,
                Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]},
            )
            if await self.tags(key) != dict(tags):
                text = f"{self.where(key)} does not keep its tags"
                raise UploadFailed(text) if self.has_stored else StorageUnusable(f"{text}; {NO_TAGS}")

    async def head(self, key: str) -> StoredObject | None:
        """What the store says of an object, except for its tags; None if there is none.

        Raises:
            botocore's own errors.
        """
        from botocore.exceptions import ClientError

        try:
            head = await self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
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
            tag_count=head.get("TagCount"),
            etag=head["ETag"].strip('"'),
        )

    async def look(self, key: str) -> StoredObject | None:
        """As `head`, but before anything is written: without ListBucket, a 403 then means that there is nothing.

        Raises:
            botocore's own errors.
        """
        from botocore.exceptions import ClientError

        try:
            return await self.head(key)
        except ClientError as error:
            if code_of(error) in DENIED:
                return None
            raise

    async def tags(self, key: str) -> dict[str, str]:
        """An object's tags.

        Raises:
            botocore's own errors.
        """
        answer = await self.client.get_object_tagging(Bucket=self.name, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}
