"""A bucket in, what may be done in it out: tried on one small object, which is removed again."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import StorageUnusable, one_line
from polygon_async.model.layout import TRIAL_KEY
from polygon_async.store.errors import DENIED, advice_on, code_of, is_about_tags, local_trouble, words_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from polygon_async.store.bucket import Bucket

__all__ = ["Rights", "rights"]

_TAGS = {"probe": "1"}
_BODY = b"written by polygon-async doctor; it can be deleted\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the credentials may do in a bucket."""

    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    """What was refused, each with the name of the right that a policy must allow."""
    keeps_tags: bool
    left: str | None
    """The key of the object, if it could not be removed; None: it is gone."""
    ahead: float | None
    """By how many seconds the store's clock is ahead of this machine's; None: unknown."""


async def rights(bucket: Bucket) -> Rights:
    """Write, tag, read and remove one small object; and list the bucket.

    Raises:
        StorageUnusable: the store cannot be asked, or every upload would meet what it says.
    """
    trial = _Trial(bucket)
    await trial.run()
    return Rights(
        allowed=tuple(trial.allowed),
        denied=tuple(trial.denied),
        keeps_tags=trial.keeps_tags,
        left=trial.left,
        ahead=trial.ahead,
    )


class _Trial:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._key = bucket.key(f"{TRIAL_KEY}-{secrets.token_hex(4)}")
        self._name: dict[str, Any] = {"Bucket": bucket.name, "Key": self._key}
        self.allowed: list[str] = []
        self.denied: list[str] = []
        self.keeps_tags = False
        self.left: str | None = None
        self.ahead: float | None = None

    async def run(self) -> None:
        client = self._bucket.client
        await self._try("list", "ListBucket", client.list_objects_v2(Bucket=self._bucket.name, MaxKeys=1))
        tagging = "&".join(f"{name}={value}" for name, value in _TAGS.items())
        written: Any = await self._try(
            "write with tags", "PutObjectTagging", client.put_object(**self._name, Body=_BODY, Tagging=tagging)
        )
        if written is None:
            written = await self._try("write", "PutObject", client.put_object(**self._name, Body=_BODY))
        if written is None:
            return
        self.left = self._key
        try:
            await self._try("read", "GetObject", client.head_object(**self._name))
            tags = await self._try("read tags", "GetObjectTagging", self._bucket.tags(self._key))
            self.keeps_tags = tags == _TAGS
        finally:
            version: dict[str, Any] = {"VersionId": written["VersionId"]} if "VersionId" in written else {}
            if await self._try("delete", "DeleteObject", client.delete_object(**self._name, **version)) is not None:
                self.left = None

    async def _try(self, what: str, right: str, answer: Awaitable[Any]) -> Any:
        """The answer to one question; None if it is refused."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = await answer
        except ClientError as error:
            if (advice := advice_on(error)) is not None:
                raise StorageUnusable(f"{advice} ({words_of(error)})") from error
            if code_of(error) not in DENIED and not is_about_tags(error):
                raise StorageUnusable(f"to {what} failed ({words_of(error)})") from error
            self.denied.append(f"{what} ({right})")
            return None
        except (BotoCoreError, OSError, ValueError) as error:
            raise StorageUnusable(f"the store cannot be reached: {local_trouble(error) or one_line(error)}") from error
        self.allowed.append(what)
        self._note_date(found)
        return found

    def _note_date(self, answer: Any) -> None:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            told = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            self.ahead = told.timestamp() - time.time()
