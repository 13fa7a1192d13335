"""The S3 edge: a file and its description in, a receipt for an object that was read back out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from polygon_async.errors import PolygonAsyncError, StorageUnusable, UploadFailed
from polygon_async.models import Receipt
from polygon_async.storage_errors import DENIED, RUN_STOPPERS, code_of, local_trouble, store_errors, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import HeadObjectOutputTypeDef

    from polygon_async.offload import Offload

__all__ = ["Bucket", "KeyTaken", "ObjectDescription", "check_bucket", "open_bucket"]

log = logging.getLogger(__name__)

_IDENTITY = ("from", "to", "adjusted")
"""The metadata that tells units apart that share a key's ticker."""
_CONTENT = "csv-sha256"
_PREFLIGHT_SECONDS = 30
_CONFLICTS = 3


class KeyTaken(PolygonAsyncError):
    """Another unit's object has the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDescription:
    """What an object is to be, apart from its content."""

    key: str
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Digests:
    """What a file's content is known by."""

    size: int
    md5: bytes
    sha256: bytes


@contextlib.asynccontextmanager
async def open_bucket(
    name: str, *, offload: Offload, connections: int, on_secret: Callable[[str | None], object] = lambda _: None
) -> AsyncIterator[Bucket]:
    """A bucket of whatever store botocore's own settings (environment, profiles, roles) point at.

    Args:
        name: The bucket's name.
        offload: Runs what reads files.
        connections: Most connections at once.
        on_secret: Told the secrets that came from a profile or a role, so that no log shows them.

    Raises:
        StorageUnusable: the settings or credentials cannot be used.
    """
    async with _client(on_secret, max_pool_connections=max(10, connections)) as client:
        yield Bucket(client, name, offload=offload)


async def check_bucket(name: str) -> None:
    """Ask once whether the bucket answers and the credentials are right.

    A bucket that may be written but not listed is no error: policies for uploaders are like that.
    A listing is asked for and no HEAD, whose errors carry no code.

    Raises:
        StorageUnusable: what is wrong, and what to do.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    quick = {"connect_timeout": 10, "read_timeout": 20, "retries": {"total_max_attempts": 2}}
    try:
        async with asyncio.timeout(_PREFLIGHT_SECONDS), _client(lambda _: None, **quick) as client:
            await client.list_objects_v2(Bucket=name, MaxKeys=1)
    except TimeoutError as error:
        raise StorageUnusable(
            f"the bucket {name} did not answer within {_PREFLIGHT_SECONDS} s; check AWS_ENDPOINT_URL_S3 and the network"
        ) from error
    except ClientError as error:
        if code_of(error) in DENIED:
            log.debug("the bucket %s may not be listed, which uploads don't need", name)
            return
        advice = RUN_STOPPERS.get(code_of(error), "check AWS_ENDPOINT_URL_S3, the bucket's name and the credentials")
        raise StorageUnusable(f"the bucket {name} cannot be used: {advice} ({words_of(error)})") from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise StorageUnusable(f"the bucket {name} cannot be reached: {local_trouble(error)}") from error


class Bucket:
    """Stores objects once, and says so only of those that it has read back."""

    def __init__(self, client: S3Client, name: str, *, offload: Offload) -> None:
        self._client = client
        self._offload = offload
        self._conditional = True
        self._has_stored = False
        self.name = name

    async def store(self, path: Path, description: ObjectDescription, *, replace: bool, deadline: float) -> Receipt:
        """Store the file `path` under the description's key, with tags and metadata, and read it back.

        An object that is there already counts when it has the same content.

        Args:
            path: The file; it must not change meanwhile.
            description: Key, tags and metadata.
            replace: Overwrite what is there.
            deadline: Seconds that all of it may take, botocore's retries included.

        Raises:
            KeyTaken: another unit's object is there.
            UploadFailed: this file is not stored, or not confirmed.
            StorageUnusable: no file can be stored.
        """
        errors = partial(store_errors, has_stored=self._has_stored)
        with errors(f"reading {path.name}"):
            digests = await self._offload(_digests, path)
        where = f"s3://{self.name}/{description.key}"
        try:
            async with asyncio.timeout(deadline):
                existed = False
                if replace:
                    with errors(f"looking at {where}"):
                        self._check_owner(await self._look(description.key), description)
                with errors(f"writing {where}"):
                    existed = not await self._put(path, description, digests, replace=replace)
                if existed:
                    with errors(f"looking at {where}"):
                        existed = await self._is_twin(description, digests)
                    if not existed:
                        with errors(f"writing {where}"):
                            await self._put(path, description, digests, replace=True)
                with errors(f"reading back {where}"):
                    confirmed_by = await self._confirm(description, digests)
                with errors(f"reading back the tags of {where}"):
                    await self._confirm_tags(description)
        except TimeoutError as error:
            raise UploadFailed(f"{where} was not confirmed within {deadline:.0f} s") from error
        self._has_stored = True
        return Receipt(
            bucket=self.name, key=description.key, size=digests.size, confirmed_by=confirmed_by, existed=existed
        )

    async def _put(self, path: Path, description: ObjectDescription, digests: _Digests, *, replace: bool) -> bool:
        """Write the object; False when there is one under its key already."""
        from botocore.exceptions import ClientError

        conditional = self._conditional and not replace
        if not conditional and not replace and await self._look(description.key) is not None:
            return False
        request: dict[str, Any] = {
            "Bucket": self.name,
            "Key": description.key,
            "Tagging": "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in description.tags.items()),
            "Metadata": dict(description.metadata),
            "ContentType": "application/x-lzop",
            "ContentMD5": base64.b64encode(digests.md5).decode(),
        }
        if self._client.meta.config.request_checksum_calculation != "when_required":
            # As a header, worked out beforehand: stores that know no trailers take it, too.
            request["ChecksumSHA256"] = base64.b64encode(digests.sha256).decode()
        if conditional:
            request["IfNoneMatch"] = "*"
        for attempt in range(1, _CONFLICTS + 1):
            try:
                with await self._offload(path.open, "rb") as body:
                    await self._client.put_object(Body=body, **request)
            except ClientError as error:
                status = error.response["ResponseMetadata"].get("HTTPStatusCode")
                if conditional and (status == 412 or code_of(error) == "PreconditionFailed"):
                    return False
                if conditional and (status == 501 or code_of(error) == "NotImplemented"):
                    log.info("the store knows no conditional writes; a look before each write stands in for them")
                    self._conditional = False
                    return await self._put(path, description, digests, replace=replace)
                if code_of(error) != "ConditionalRequestConflict" or attempt == _CONFLICTS:
                    raise
            else:
                return True
        return True

    async def _look(self, key: str) -> HeadObjectOutputTypeDef | None:
        """What is there before anything is written; who may not list is told 403 where there is nothing."""
        from botocore.exceptions import ClientError

        try:
            return await self._head(key)
        except ClientError as error:
            if code_of(error) in DENIED:
                return None
            raise

    def _check_owner(self, head: HeadObjectOutputTypeDef | None, description: ObjectDescription) -> None:
        """Whether what is there, if anything, is this unit's."""
        if head is not None and any(head["Metadata"].get(name) != description.metadata[name] for name in _IDENTITY):
            raise KeyTaken(f"s3://{self.name}/{description.key} is another download's")

    async def _is_twin(self, description: ObjectDescription, digests: _Digests) -> bool:
        """Whether the object that is there is this unit's, with the same content, to the byte.

        The same CSV compressed at another time, or by another lzop, gives other bytes; False then.
        """
        head = await self._head(description.key)
        self._check_owner(head, description)
        if head is None:
            return False
        if head["Metadata"].get(_CONTENT) != description.metadata[_CONTENT]:
            raise UploadFailed(f"s3://{self.name}/{description.key} exists with other content; --force replaces it")
        try:
            await self._confirm(description, digests)
        except UploadFailed:
            return False
        return True

    async def _confirm(self, description: ObjectDescription, digests: _Digests) -> str:
        """Read the object back; by what its content was confirmed."""
        head = await self._head(description.key)
        where = f"s3://{self.name}/{description.key}"
        if head is None:
            raise UploadFailed(f"{where} is not there after it was written")
        if head["ContentLength"] != digests.size:
            raise UploadFailed(f"{where} has {head['ContentLength']} bytes and not {digests.size}")
        if any(head["Metadata"].get(name) != value for name, value in description.metadata.items()):
            raise UploadFailed(f"{where} does not have the metadata that it was written with")
        if head.get("ChecksumSHA256") == base64.b64encode(digests.sha256).decode():
            return "checksum"
        if head["ETag"].strip('"') == digests.md5.hex():
            return "etag"
        if await self._sha256_of(description.key) != digests.sha256:
            raise UploadFailed(f"{where} does not hold the bytes that were written; --force replaces it")
        return "bytes"

    async def _confirm_tags(self, description: ObjectDescription) -> None:
        """Read the tags back; put them again where the store has lost them."""
        wanted = dict(description.tags)
        for lost in (False, True):
            answer = await self._client.get_object_tagging(Bucket=self.name, Key=description.key)
            if {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])} == wanted:
                return
            if not lost:
                log.info("the tags of %s are not as they should be; they are put again", description.key)
                tag_set = [{"Key": key, "Value": value} for key, value in wanted.items()]
                await self._client.put_object_tagging(
                    Bucket=self.name,
                    Key=description.key,
                    Tagging={"TagSet": tag_set},  # type: ignore[typeddict-item]  # a list of plain dicts is what it is
                )
        raise UploadFailed(f"s3://{self.name}/{description.key} does not keep its tags")

    async def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        """What the store says of an object; None when there is none."""
        from botocore.exceptions import ClientError

        try:
            return await self._client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["ResponseMetadata"].get("HTTPStatusCode") == 404:
                return None
            raise

    async def _sha256_of(self, key: str) -> bytes:
        answer = await self._client.get_object(Bucket=self.name, Key=key)
        digest = hashlib.sha256()
        async for chunk in answer["Body"].iter_chunks(2**20):
            await self._offload(digest.update, chunk)
        return digest.digest()


@contextlib.asynccontextmanager
async def _client(on_secret: Callable[[str | None], object], **settings: Any) -> AsyncIterator[S3Client]:
    import aioboto3
    from aiobotocore.config import AioConfig
    from botocore.exceptions import BotoCoreError

    try:
        session = aioboto3.Session()
        if (credentials := await session.get_credentials()) is not None:
            frozen = await credentials.get_frozen_credentials()
            on_secret(frozen.secret_key)
            on_secret(frozen.token)
        opening = session.client("s3", config=AioConfig(**settings))
        client = await opening.__aenter__()
    except (BotoCoreError, ValueError) as error:
        raise StorageUnusable(f"S3 cannot be used: {local_trouble(error)}") from error
    try:
        yield client
    finally:
        await asyncio.shield(opening.__aexit__(None, None, None))


def _digests(path: Path) -> _Digests:
    """Size and digests of a file, in one reading of it."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return _Digests(size, md5.digest(), sha256.digest())
