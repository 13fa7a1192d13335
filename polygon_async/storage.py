"""The S3 edge: a file and its description in, a receipt for an object that was read back out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from polygon_async.errors import PolygonAsyncError, StorageUnusable, UploadFailed, one_line
from polygon_async.models import Receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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

# What fails for one upload and would for every other.
_RUN_STOPPERS = {
    "NoSuchBucket": "the bucket does not exist; create it, or name another (S3_BUCKET or --bucket)",
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret does not fit the access key; check AWS_SECRET_ACCESS_KEY or the profile",
    "AuthorizationHeaderMalformed": "the region does not fit the bucket; set AWS_REGION to the bucket's",
    "PermanentRedirect": "the bucket lives in another region; set AWS_REGION (or AWS_ENDPOINT_URL_S3)",
    "IllegalLocationConstraintException": "the bucket lives in another region; set AWS_REGION",
    "ExpiredToken": "the credentials have expired; renew them and start again",
    "ExpiredTokenException": "the credentials have expired; renew them and start again",
    "TokenRefreshRequired": "the credentials have expired; renew them and start again",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "InvalidClientTokenId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it and start again",
    "AccountProblem": "the account cannot be used",
    "AllAccessDisabled": "all access to the bucket is disabled",
    "NotSignedUp": "the account is not signed up for S3",
    "InvalidBucketName": "this cannot be a bucket's name",
}
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})


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
        if _code(error) in _DENIED:
            log.debug("the bucket %s may not be listed, which uploads don't need", name)
            return
        advice = _RUN_STOPPERS.get(_code(error), "check AWS_ENDPOINT_URL_S3, the bucket's name and the credentials")
        raise StorageUnusable(f"the bucket {name} cannot be used: {advice} ({_words(error)})") from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise StorageUnusable(f"the bucket {name} cannot be reached: {_local_trouble(error)}") from error


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
        digests = await self._offload(_digests, path)
        where = f"s3://{self.name}/{description.key}"
        try:
            async with asyncio.timeout(deadline):
                existed = False
                with self._errors(f"writing {where}"):
                    existed = not await self._put(path, description, digests, replace=replace)
                if existed:
                    with self._errors(f"looking at {where}"):
                        existed = await self._is_twin(description, digests)
                    if not existed:
                        with self._errors(f"writing {where}"):
                            await self._put(path, description, digests, replace=True)
                with self._errors(f"reading back {where}"):
                    confirmed_by = await self._confirm(description, digests)
                with self._errors(f"reading back the tags of {where}"):
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
        if not conditional and not replace and await self._is_there(description.key):
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
                if conditional and (status == 412 or _code(error) == "PreconditionFailed"):
                    return False
                if conditional and (status == 501 or _code(error) == "NotImplemented"):
                    log.info("the store knows no conditional writes; a look before each write stands in for them")
                    self._conditional = False
                    return await self._put(path, description, digests, replace=replace)
                if _code(error) != "ConditionalRequestConflict" or attempt == _CONFLICTS:
                    raise
            else:
                return True
        return True

    async def _is_there(self, key: str) -> bool:
        """Whether a look finds an object; who may not list is told 403 where there is none."""
        from botocore.exceptions import ClientError

        try:
            return await self._head(key) is not None
        except ClientError as error:
            if _code(error) in _DENIED:
                return False
            raise

    async def _is_twin(self, description: ObjectDescription, digests: _Digests) -> bool:
        """Whether the object that is there is this unit's, with the same content, to the byte.

        The same CSV compressed at another time, or by another lzop, gives other bytes; False then.
        """
        head = await self._head(description.key)
        there = {} if head is None else head["Metadata"]
        where = f"s3://{self.name}/{description.key}"
        if any(there.get(name) != description.metadata[name] for name in _IDENTITY):
            raise KeyTaken(f"{where} is another download's")
        if there.get(_CONTENT) != description.metadata[_CONTENT]:
            raise UploadFailed(f"{where} exists with other content; --force replaces it")
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
                log.info("the store lost the tags of %s; they are put again", description.key)
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

    @contextlib.contextmanager
    def _errors(self, act: str) -> Iterator[None]:
        """Turn what botocore raises into the family."""
        from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError

        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in _RUN_STOPPERS:
                raise StorageUnusable(f"{act}: {_RUN_STOPPERS[code]} ({_words(error)})") from error
            if code in _DENIED:
                needed = "PutObject, PutObjectTagging, GetObject, GetObjectTagging"
                text = f"{act} is denied ({_words(error)}); the policy must allow {needed}"
                # Where nothing could be stored yet, nothing can; else it is this key's own trouble.
                raise (UploadFailed(text) if self._has_stored else StorageUnusable(text)) from error
            raise UploadFailed(f"{act} failed ({_words(error)})") from error
        except (NoCredentialsError, CredentialRetrievalError) as error:
            raise StorageUnusable(f"{act}: {_local_trouble(error)}") from error
        except (BotoCoreError, OSError) as error:
            raise UploadFailed(f"{act} failed ({one_line(error)})") from error


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
        raise StorageUnusable(f"S3 cannot be used: {_local_trouble(error)}") from error
    try:
        yield client
    finally:
        await asyncio.shield(opening.__aexit__(None, None, None))


def _local_trouble(error: Exception) -> str:
    """What is wrong on this side of the connection, and what to do."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, NoRegionError

    match error:
        case NoCredentialsError():
            return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        case NoRegionError():
            return "there is no region; set AWS_REGION"
        case EndpointConnectionError() | ConnectTimeoutError():
            return f"{one_line(error)}; check AWS_ENDPOINT_URL_S3 and the network"
        case _:
            return one_line(error)


def _digests(path: Path) -> _Digests:
    """Size and digests of a file, in one reading of it."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return _Digests(size, md5.digest(), sha256.digest())


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _words(error: Any) -> str:
    """An S3 error's code and, where the store gave one, message."""
    message = one_line(error.response.get("Error", {}).get("Message", ""))
    return f"{_code(error)}: {message}" if message else _code(error) or "without a code"
