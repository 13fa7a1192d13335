"""The objects in the bucket, and every way in which one does not get there."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from door import Answered, Arrived, door, is_object_put, refusal
from stored import DESCRIPTION, SECONDS

from polygon_async.errors import StorageUnusable, UploadFailed
from polygon_async.store.bucket import open_bucket
from polygon_async.store.upload import KeyTaken, Uploader
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3
    from polygon_async.store.bucket import Bucket


# A door in front of the store: real HTTP in, real HTTP out, and a test's own rule in between.


# The bucket, as the pipeline meets it


@pytest.fixture
async def uploader(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Uploader]:
    """What stores into a bucket of its own, found through the environment as always."""
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    async with Threads(2) as offload, open_bucket(box.bucket, connections=2) as bucket:
        yield Uploader(bucket, offload=offload)


@pytest.fixture
def bucket(uploader: Uploader) -> Bucket:
    """That bucket."""
    return uploader.bucket


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Something to store."""
    path = tmp_path / "A.lzo"
    path.write_bytes(b"some bytes")
    return path


async def test_what_is_there_already_counts(uploader: Uploader, bucket: Bucket, file: Path) -> None:
    first = await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    second = await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert (first.existed, second.existed) == (False, True)
    assert (first.bucket, first.key, first.size) == (bucket.name, DESCRIPTION.key, 10)


async def test_the_same_csv_counts_however_it_was_compressed(
    uploader: Uploader, bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    csv, other = file.with_name("A.csv"), file.with_name("A2.lzo")
    csv.write_text("open\n1\n")
    for target, moment in ((file, 1_700_000_000), (other, 1_800_000_000)):
        os.utime(csv, (moment, moment))
        subprocess.run(["lzop", "-f", "-o", target, csv], check=True)
    assert file.read_bytes() != other.read_bytes()
    sha256 = hashlib.sha256(csv.read_bytes()).hexdigest()
    same = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, "csv-sha256": sha256})
    await uploader.store(file, same, replace=False, deadline=SECONDS)
    receipt = await uploader.store(other, same, replace=False, deadline=SECONDS)
    with contextlib.closing(store.client()) as s3:
        body = s3.get_object(**name_of(bucket))["Body"].read()
    assert body in {file.read_bytes(), other.read_bytes()}
    assert receipt.size == len(body)


async def test_other_content_of_the_same_range_is_not_touched_without_force(
    uploader: Uploader, bucket: Bucket, file: Path
) -> None:
    await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    file.write_bytes(b"other bytes")
    other = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, "csv-sha256": "0ther"})
    with pytest.raises(UploadFailed) as caught:
        await uploader.store(file, other, replace=False, deadline=SECONDS)
    where = f"s3://{bucket.name}/{DESCRIPTION.key}"
    assert str(caught.value) == f"{where} exists with other content; --force replaces it"
    replaced = await uploader.store(file, other, replace=True, deadline=SECONDS)
    assert (replaced.existed, replaced.size) == (False, 11)
    assert (await uploader.store(file, other, replace=False, deadline=SECONDS)).existed


@pytest.mark.parametrize("difference", [{"from": "2025-12-31"}, {"to": "2026-01-29"}, {"adjusted": "false"}])
async def test_another_range_has_its_own_key(uploader: Uploader, file: Path, difference: dict[str, str]) -> None:
    await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    other = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, **difference})
    with pytest.raises(KeyTaken):
        await uploader.store(file, other, replace=False, deadline=SECONDS)


async def test_tags_arrive_letter_for_letter(uploader: Uploader, bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    with contextlib.closing(store.client()) as s3:
        answer = s3.get_object_tagging(Bucket=bucket.name, Key=DESCRIPTION.key)
    assert {tag["Key"]: tag["Value"] for tag in answer["TagSet"]} == DESCRIPTION.tags


async def test_a_store_without_checksums_is_confirmed_by_its_etag(
    bucket: Bucket, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    async with Threads(2) as offload, open_bucket(bucket.name, connections=1) as plain:
        receipt = await Uploader(plain, offload=offload).store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.confirmed_by == "etag"


@contextlib.asynccontextmanager
async def behind(
    rule: Callable[[Arrived, Callable[[], Answered]], Answered], bucket: Bucket, store: EmbeddedS3
) -> AsyncIterator[Uploader]:
    """What stores into the same bucket, seen through a door."""
    with door(store.endpoint, rule) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        async with Threads(2) as offload, open_bucket(bucket.name, connections=2) as seen:
            yield Uploader(seen, offload=offload)


def name_of(bucket: Bucket) -> dict[str, str]:
    """How a client of the store names the object."""
    return {"Bucket": bucket.name, "Key": DESCRIPTION.key}


@pytest.mark.parametrize("changed", [True, False])
async def test_tags_that_a_store_loses_or_changes_are_put_again(
    bucket: Bucket, file: Path, store: EmbeddedS3, *, changed: bool
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if is_object_put(asked):
            with contextlib.closing(store.client()) as s3:
                if changed:
                    s3.put_object_tagging(**name_of(bucket), Tagging={"TagSet": [{"Key": "date", "Value": "x"}]})
                else:
                    s3.delete_object_tagging(**name_of(bucket))
        return answer

    async with behind(rule, bucket, store) as forgetful:
        await forgetful.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    with contextlib.closing(store.client()) as s3:
        answer = s3.get_object_tagging(**name_of(bucket))
    assert {tag["Key"]: tag["Value"] for tag in answer["TagSet"]} == DESCRIPTION.tags


@pytest.mark.parametrize(("count", "asked_for"), [("8", 0), ("7", 1), (None, 1)])
async def test_tags_that_the_store_has_counted_are_not_asked_for(
    bucket: Bucket, file: Path, store: EmbeddedS3, count: str | None, asked_for: int
) -> None:
    questions = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if asked.method == "HEAD":
            answer.headers.pop("x-amz-tagging-count", None)
            answer.headers.update({} if count is None else {"x-amz-tagging-count": count})
        if asked.method == "GET" and "tagging" in asked.path:
            questions.append(asked.path)
        return answer

    described = dataclasses.replace(DESCRIPTION, tags={f"name{number}": f"{number}" for number in range(8)})
    async with behind(rule, bucket, store) as counting:
        await counting.store(file, described, replace=False, deadline=SECONDS)
        assert len(questions) == asked_for
        # Who wrote what was there already is not known: its tags are read.
        assert (await counting.store(file, described, replace=False, deadline=SECONDS)).existed
    assert len(questions) == asked_for + 1


async def test_tags_that_a_store_does_not_keep_are_a_failure(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if asked.method == "PUT":
            with contextlib.closing(store.client()) as s3:
                s3.delete_object_tagging(**name_of(bucket))
        return answer

    async with behind(rule, bucket, store) as forgetful:
        with pytest.raises(StorageUnusable, match=r"does not keep its tags; .* choose another store"):
            await forgetful.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
        kept = dataclasses.replace(DESCRIPTION, key=DESCRIPTION.key.replace("/A/", "/B/"))
        await forgetful.store(file, kept, replace=False, deadline=SECONDS)
        with pytest.raises(UploadFailed, match=r"does not keep its tags$"):
            await forgetful.store(file, DESCRIPTION, replace=True, deadline=SECONDS)


async def test_a_501_that_the_condition_is_not_to_blame_for_leaves_conditional_writes_on(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    puts: list[bool] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if not is_object_put(asked):
            return forward()
        puts.append(any(name.lower() == "if-none-match" for name in asked.headers))
        return refusal(501, "NotImplemented") if len(puts) <= 2 else forward()

    async with behind(rule, bucket, store) as odd:
        with pytest.raises(StorageUnusable, match="NotImplemented"):
            await odd.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
        await odd.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert puts == [True, False, True], "tried without the condition, and with it again"


@pytest.mark.parametrize(
    ("body", "metadata", "said"),
    [
        (b"some bits", DESCRIPTION.metadata, "has 9 bytes, expected 10"),
        (b"other byte", DESCRIPTION.metadata, "does not contain the bytes that were written"),
        (b"some bytes", {}, "does not have the metadata that it was written with"),
    ],
)
async def test_a_store_that_keeps_something_else_is_found_out(
    bucket: Bucket, file: Path, store: EmbeddedS3, body: bytes, metadata: dict[str, str], said: str
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if is_object_put(asked):
            with contextlib.closing(store.client()) as s3:
                s3.put_object(**name_of(bucket), Body=body, Metadata=metadata)
        return answer

    async with behind(rule, bucket, store) as forgetful:
        with pytest.raises(UploadFailed, match=said):
            await forgetful.store(file, DESCRIPTION, replace=False, deadline=SECONDS)


async def test_a_checksum_of_the_store_confirms_without_reading_the_object(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    checksum = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if asked.method == "GET" and "tagging" not in asked.path:
            return refusal(403, "AccessDenied")
        answer = forward()
        told = {"ETag": '"0123456789abcdef-2"', "x-amz-checksum-sha256": checksum}
        rest = {name: value for name, value in answer.headers.items() if name.lower() not in {"etag", *told}}
        return dataclasses.replace(answer, headers=rest | told)

    async with behind(rule, bucket, store) as modern:
        receipt = await modern.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.confirmed_by == "checksum"


async def test_an_object_without_checksum_and_plain_etag_is_confirmed_by_its_bytes(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        plain = {k: v for k, v in answer.headers.items() if "checksum" not in k.lower() and k.lower() != "etag"}
        return dataclasses.replace(answer, headers={**plain, "ETag": '"0123456789abcdef-2"'})

    async with behind(rule, bucket, store) as odd:
        receipt = await odd.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.confirmed_by == "bytes"


async def test_a_lost_answer_to_a_write_is_no_conflict(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    lost: list[Arrived] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if is_object_put(asked) and not lost:
            lost.append(asked)
            return refusal(500, "InternalError")
        return answer

    async with behind(rule, bucket, store) as shaky:
        receipt = await shaky.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert len(lost) == 1
    assert receipt.size == 10


async def test_the_signature_covers_the_checksum_in_place_of_the_body(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    puts: list[Arrived] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        puts.extend([asked] if is_object_put(asked) else [])
        return forward()

    async with behind(rule, bucket, store) as watched:
        await watched.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    headers = {name.lower(): value for name, value in puts[0].headers.items()}
    checksum = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-sha256"] == checksum
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"x-amz-checksum-sha256", "x-amz-content-sha256"} <= set(signed)


async def test_a_store_without_conditional_writes_is_looked_at_before_each(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        conditional = any(name.lower() == "if-none-match" for name in asked.headers)
        return refusal(501, "NotImplemented") if conditional else forward()

    async with behind(rule, bucket, store) as old:
        first = await old.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
        second = await old.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
        other = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, "to": "2026-01-01"})
        with pytest.raises(KeyTaken):
            await old.store(file, other, replace=False, deadline=SECONDS)
    assert (first.existed, second.existed) == (False, True)


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("ExpiredToken", 400, StorageUnusable, "the credentials have expired; renew them and start again"),
        ("NoSuchBucket", 404, StorageUnusable, "the bucket does not exist"),
        ("InvalidRequest", 400, UploadFailed, "writing s3://.* failed .InvalidRequest: said by the door."),
        ("EntityTooLarge", 400, UploadFailed, "EntityTooLarge"),
        ("QuotaExceeded", 403, StorageUnusable, "the store is full or over its quota; make room there"),
        ("XMinioStorageFull", 507, StorageUnusable, "the store is full"),
        ("XMinioAdminBucketQuotaExceeded", 400, StorageUnusable, "the store is full"),
        ("Whatever", 507, StorageUnusable, "the store is full"),
        ("NotImplemented", 501, StorageUnusable, "lacks something that every upload needs"),
        ("AccessDenied", 403, StorageUnusable, "is denied .* the policy must allow PutObject, PutObjectTagging"),
    ],
)
async def test_an_error_of_the_store_stops_what_it_concerns(
    bucket: Bucket, file: Path, store: EmbeddedS3, code: str, status: int, kind: type[Exception], said: str
) -> None:
    async with behind(lambda _asked, _forward: refusal(status, code), bucket, store) as angry:
        with pytest.raises(kind, match=said):
            await angry.store(file, DESCRIPTION, replace=False, deadline=SECONDS)


async def test_a_denial_after_a_success_concerns_its_own_ticker_only(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        return refusal(403, "AccessDenied") if "/B/" in asked.path else forward()

    denied = dataclasses.replace(DESCRIPTION, key=DESCRIPTION.key.replace("/A/", "/B/"))
    async with behind(rule, bucket, store) as partly:
        await partly.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
        with pytest.raises(UploadFailed, match="is denied"):
            await partly.store(file, denied, replace=False, deadline=SECONDS)


async def test_a_store_that_never_answers_is_left_at_the_deadline(
    bucket: Bucket, file: Path, store: EmbeddedS3
) -> None:
    leave = threading.Event()

    def rule(_asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        leave.wait()
        return refusal(503, "SlowDown")

    try:
        async with behind(rule, bucket, store) as silent:
            with pytest.raises(UploadFailed, match=r"was not confirmed within 0 s$"):
                await silent.store(file, DESCRIPTION, replace=False, deadline=0.1)
    finally:
        leave.set()


async def test_a_bucket_that_may_not_be_listed_is_no_error(bucket: Bucket, store: EmbeddedS3) -> None:
    async with behind(lambda _asked, _forward: refusal(403, "AccessDenied"), bucket, store) as closed:
        await closed.bucket.check()


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "PermanentRedirect", "WhateverElse"])
async def test_a_store_that_refuses_from_the_start_says_what_to_do(
    bucket: Bucket, store: EmbeddedS3, code: str
) -> None:
    async with behind(lambda _asked, _forward: refusal(400, code), bucket, store) as angry:
        with pytest.raises(StorageUnusable, match=rf"cannot be used: .* \({code}: said by the door\)"):
            await angry.bucket.check()


# Before anything is fetched, through the program


# While it runs, through the program
