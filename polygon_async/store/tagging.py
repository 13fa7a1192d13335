"""Find out whether a store keeps object tags before anything is fetched, and leave nothing behind in it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async.errors import StorageUnusable, one_line
from polygon_async.model.layout import PROBE_KEY
from polygon_async.store.digests import in_base64
from polygon_async.store.errors import DENIED, NO_TAGS, advice_on, code_of, is_about_tags, status_of, words_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from botocore.exceptions import ClientError

    from polygon_async.store.bucket import Bucket

__all__ = ["check_tagging"]

log = logging.getLogger(__name__)

_SECONDS = 30
_SECONDS_TO_REMOVE = 10
_TAGS = {"probe": "1"}
_NO_SUCH_ETAG = '"00000000000000000000000000000000"'
_ABSENT = frozenset({404, 409, 412})
"""HTTP statuses of a store that has understood a question, and has no such object."""


async def check_tagging(bucket: Bucket) -> None:
    """Ask about an object that is not there: for its tags, to tag it, and to replace it by one with tags.

    A store that knows tags answers that there is no such object, and nothing has happened. One that answers
    otherwise is tried with an empty object, which is removed again. What this cannot find out is left to
    the first upload, whose tags are read back: a policy may deny all of this and still allow uploads.

    Raises:
        StorageUnusable: the store keeps no tags, or takes no objects at all.
    """
    from botocore.exceptions import BotoCoreError

    probe = _Probe(bucket)
    try:
        async with asyncio.timeout(_SECONDS):
            if await probe.knows_tags() or await probe.keeps_tags():
                return
    except (BotoCoreError, OSError) as error:  # a timeout is an OSError, too
        log.debug("the first upload will show whether the store keeps tags (%s)", one_line(error) or "no answer")
        return
    raise StorageUnusable(f"{bucket.destination} keeps no object tags; {NO_TAGS}")


class _Probe:
    """What a store does with one key. Where that may mean something else (a policy, an outage), it passes."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._name: dict[str, Any] = {"Bucket": bucket.name, "Key": bucket.key(PROBE_KEY)}
        self._versions: list[str | None] = []
        """Of what was written."""

    async def knows_tags(self) -> bool:
        """Whether the store answers like one that knows tags, and has no such object."""
        for ask in (
            partial(self._client.get_object_tagging, **self._name),
            self._tag,
            partial(self._put, tagged=True, only_if=_NO_SUCH_ETAG),
        ):
            refusal = await _refusal(ask())
            if refusal is None or not (status_of(refusal) in _ABSENT or _is_ambiguous(refusal)):
                return False
        return True

    async def keeps_tags(self) -> bool:
        """Whether an object that is there keeps the tags that it is given, when it is written or afterwards."""
        try:
            refusal = await _refusal(self._put(tagged=True))
            if refusal is None:
                return await self._is_tagged() or (await _refusal(self._tag()) is None and await self._is_tagged())
            if is_about_tags(refusal):
                return False
            # Without a word about tags it may be anything that the store does not like.
            return _is_ambiguous(refusal) or await _refusal(self._put(tagged=False)) is not None
        finally:
            await self._remove()

    async def _put(self, *, tagged: bool, only_if: str | None = None) -> None:
        request = dict(self._name)
        if tagged:
            request["Tagging"] = "&".join(f"{name}={value}" for name, value in _TAGS.items())
        if only_if is not None:
            request["IfMatch"] = only_if
        if self._client.meta.config.request_checksum_calculation != "when_required":
            request["ChecksumSHA256"] = in_base64(hashlib.sha256().digest())
        answer = await self._client.put_object(**request, Body=b"")
        self._versions.append(answer.get("VersionId"))

    async def _tag(self) -> None:
        tags: Any = {"TagSet": [{"Key": name, "Value": value} for name, value in _TAGS.items()]}
        await self._client.put_object_tagging(**self._name, Tagging=tags)

    async def _is_tagged(self) -> bool:
        """Whether it has its tags, or another run's probe has been in the way."""
        from botocore.exceptions import ClientError

        try:
            return await self._bucket.tags(self._bucket.key(PROBE_KEY)) == _TAGS
        except ClientError as error:
            return status_of(error) == 404 or _is_ambiguous(error)

    async def _remove(self) -> None:
        """Take away what was written, also where its bucket keeps versions."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_SECONDS_TO_REMOVE):
                while self._versions:
                    version: dict[str, Any] = {"VersionId": name} if (name := self._versions.pop()) else {}
                    await self._client.delete_object(**self._name, **version)
        except (BotoCoreError, ClientError, OSError) as error:
            key = self._bucket.key(PROBE_KEY)
            log.warning("an empty object was left in the bucket; you can delete it: %s (%s)", key, one_line(error))


async def _refusal(answer: Awaitable[object]) -> ClientError | None:
    """The error that a store answers with; None when it does as it is told.

    Raises:
        StorageUnusable: it is one that every upload would meet.
    """
    from botocore.exceptions import ClientError

    try:
        await answer
    except ClientError as error:
        if (advice := advice_on(error)) is not None:
            raise StorageUnusable(f"the store cannot be used: {advice} ({words_of(error)})") from error
        return error
    return None


def _is_ambiguous(error: ClientError) -> bool:
    """Whether an error may say nothing of what a store can do: a denial, or trouble that passes."""
    status = status_of(error)
    return code_of(error) in DENIED or status is None or (status >= 500 and status != 501)
