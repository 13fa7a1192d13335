"""What the bucket promises, kept by moto's store always and by Ceph's, over http and https, where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from stored import DESCRIPTION, IN_PARTS, MIB, SECONDS, open_uploads

from polygon_async.errors import CompressionFailed, StorageUnusable, UploadFailed
from polygon_async.store.bucket import open_bucket
from polygon_async.store.digests import FileSlice, in_base64
from polygon_async.store.upload import KeyTaken, Uploader
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3
    from polygon_async.store.bucket import Bucket
    from polygon_async.store.objects import ObjectDescription

RADOSGW = Path(__file__).parent.parent.parent / "scripts" / "radosgw"
needs_radosgw = pytest.mark.skipif(not shutil.which("radosgw"), reason="radosgw is not installed")
CEPH = [pytest.param("ceph-http", marks=needs_radosgw), pytest.param("ceph-https", marks=needs_radosgw)]


@pytest.fixture(scope="session")
def ceph() -> Iterator[dict[str, str]]:
    """The variables of Ceph's store, which is brought up once and ends with this process, however that ends."""
    command = [str(RADOSGW), "run", "sh", "-c", "env; echo; exec cat"]
    environment = {**os.environ, "PYTHON": sys.executable}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin
        assert process.stdout
        told = {}
        while line := process.stdout.readline().rstrip("\n"):
            name, _, value = line.partition("=")
            if name.startswith("AWS_") or name in {"S3_BUCKET", "HTTPS_ENDPOINT"}:
                told[name] = value
        assert "S3_BUCKET" in told
        yield told
        process.stdin.close()


@pytest.fixture(params=["moto", *CEPH])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """What an environment must hold to reach one of the stores and its bucket."""
    if request.param == "moto":
        store: EmbeddedS3 = request.getfixturevalue("store")
        return {
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": store.endpoint,
            "S3_BUCKET": store.create_bucket(),
        }
    told = dict(request.getfixturevalue("ceph"))
    secure = told.pop("HTTPS_ENDPOINT")
    return told | {"AWS_ENDPOINT_URL_S3": secure} if request.param == "ceph-https" else told


@contextlib.asynccontextmanager
async def opened(variables: Mapping[str, str], **options: Any) -> AsyncIterator[Uploader]:
    """What stores into the bucket that these variables lead to."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        async with (
            Threads(4) as offload,
            open_bucket(variables["S3_BUCKET"], connections=4) as bucket,
        ):
            yield Uploader(bucket, offload=offload, **options)


@pytest.fixture
async def uploader(variables: dict[str, str]) -> AsyncIterator[Uploader]:
    """What stores into the store's bucket; files of 6 MiB and more go into it in parts."""
    async with opened(variables, part_sizes=IN_PARTS) as uploader:
        yield uploader


@pytest.fixture
def bucket(uploader: Uploader) -> Bucket:
    """The store's bucket."""
    return uploader.bucket


@pytest.fixture
def description(request: pytest.FixtureRequest) -> ObjectDescription:
    """A key of the test's own; the stores' buckets are shared."""
    return dataclasses.replace(DESCRIPTION, key=f"stocks/{request.node.name}/A.csv.lzo")


def other_content(description: ObjectDescription) -> ObjectDescription:
    """The same unit, with another CSV."""
    return dataclasses.replace(description, metadata={**description.metadata, "csv-sha256": "0ther"})


def other_unit(description: ObjectDescription) -> ObjectDescription:
    """Another range of the same ticker."""
    return dataclasses.replace(description, metadata={**description.metadata, "to": "2026-01-29"})


@pytest.fixture(params=[1000, 11 * MIB], ids=["whole", "parts"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something to store: in one piece, or in three parts."""
    path = tmp_path / "A.lzo"
    path.write_bytes(os.urandom(request.param))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Something to store in three parts."""
    path = tmp_path / "A.lzo"
    path.write_bytes(os.urandom(11 * MIB))
    return path


async def content_of(bucket: Bucket, key: str) -> bytes:
    """All that is under a key."""
    return b"".join([chunk async for chunk in bucket.read(key)])


async def test_an_object_is_stored_once_with_all_that_describes_it(
    uploader: Uploader, bucket: Bucket, file: Path, description: ObjectDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await uploader.store(file, description, replace=False, deadline=SECONDS)
    assert (first.existed, first.size) == (False, file.stat().st_size)
    # Whichever of the two the store tells: no byte had to be read back.
    assert first.confirmed_by in {"etag", "checksum"}
    stored = await bucket.inspect(description.key)
    assert stored is not None
    assert (stored.size, stored.metadata, stored.tags) == (first.size, description.metadata, description.tags)
    assert await content_of(bucket, description.key) == file.read_bytes()
    assert [entry async for entry in bucket.list(description.key[:-4])] == [(description.key, first.size)]
    # What is there is not sent again only to be thrown away.
    monkeypatch.setattr(bucket.client, "create_multipart_upload", None)
    second = await uploader.store(file, description, replace=False, deadline=SECONDS)
    assert second == dataclasses.replace(first, existed=True)
    assert await open_uploads(bucket) == []


async def test_a_file_that_turns_out_unsound_becomes_no_object(
    uploader: Uploader, bucket: Bucket, file: Path, description: ObjectDescription
) -> None:
    async def unsound() -> None:
        raise CompressionFailed("lzop failed")

    with pytest.raises(CompressionFailed):
        await uploader.store(file, description, replace=False, deadline=SECONDS, verified=unsound)
    assert await bucket.inspect(description.key) is None
    assert await open_uploads(bucket) == []


async def test_what_is_not_that_object_is_left_alone_unless_forced(
    uploader: Uploader, bucket: Bucket, file: Path, description: ObjectDescription
) -> None:
    await uploader.store(file, description, replace=False, deadline=SECONDS)
    before, content = await bucket.inspect(description.key), file.read_bytes()
    file.write_bytes(content[::-1])
    with pytest.raises(KeyTaken):
        await uploader.store(file, other_unit(description), replace=False, deadline=SECONDS)
    with pytest.raises(KeyTaken):
        await uploader.store(file, other_unit(description), replace=True, deadline=SECONDS)
    with pytest.raises(UploadFailed) as caught:
        await uploader.store(file, other_content(description), replace=False, deadline=SECONDS)
    where = f"s3://{bucket.name}/{description.key}"
    assert str(caught.value) == f"{where} exists with other content; --force replaces it"
    assert await bucket.inspect(description.key) == before
    assert await content_of(bucket, description.key) == content
    assert not (await uploader.store(file, other_content(description), replace=True, deadline=SECONDS)).existed
    assert await content_of(bucket, description.key) == content[::-1]
    assert await open_uploads(bucket) == []


@pytest.mark.parametrize("variables", CEPH, indirect=True)
async def test_of_two_that_write_one_key_at_once_one_is_told_so(
    uploader: Uploader, bucket: Bucket, tmp_path: Path, description: ObjectDescription
) -> None:
    """moto, which first looks and then writes, does not see to that."""
    files = [tmp_path / "A.lzo", tmp_path / "B.lzo"]
    for file in files:
        file.write_text(file.name)
    endings = await asyncio.gather(
        uploader.store(files[0], description, replace=False, deadline=SECONDS),
        uploader.store(files[1], other_content(description), replace=False, deadline=SECONDS),
        return_exceptions=True,
    )
    (winner,) = [file for file, ending in zip(files, endings, strict=True) if not isinstance(ending, UploadFailed)]
    (refused,) = [ending for ending in endings if isinstance(ending, UploadFailed)]
    assert str(refused).endswith("exists with other content; --force replaces it"), "found there, and not overwritten"
    assert await content_of(bucket, description.key) == winner.read_bytes()


async def test_a_key_that_is_taken_while_parts_are_sent_is_left_alone(
    uploader: Uploader, bucket: Bucket, large: Path, description: ObjectDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, rival = bucket.client.upload_part, large.with_name("B.lzo")
    rival.write_bytes(b"another run's")

    async def overtaken(**request: Any) -> Any:
        if request["PartNumber"] == 1:
            await uploader.store(rival, other_unit(description), replace=False, deadline=SECONDS)
        return await send(**request)

    monkeypatch.setattr(bucket.client, "upload_part", overtaken)
    with pytest.raises(KeyTaken):
        await uploader.store(large, description, replace=False, deadline=SECONDS)
    assert await content_of(bucket, description.key) == b"another run's"
    assert await open_uploads(bucket) == []


async def test_tags_are_put_again_where_parts_lose_them(
    uploader: Uploader, bucket: Bucket, large: Path, description: ObjectDescription, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "polygon_async")
    for name in ("1", "2"):
        named = dataclasses.replace(description, key=f"{description.key}{name}")
        await uploader.store(large, named, replace=False, deadline=SECONDS)
        stored = await bucket.inspect(named.key)
        assert stored is not None
        assert stored.tags == named.tags
    said = [record.getMessage() for record in caplog.records]
    assert len([words for words in said if "checking that a key is free" in words]) == 1, "once, not for every file"


async def test_tags_can_be_changed(
    uploader: Uploader, bucket: Bucket, tmp_path: Path, description: ObjectDescription
) -> None:
    (tmp_path / "A").write_bytes(b"some bytes")
    await uploader.store(tmp_path / "A", description, replace=False, deadline=SECONDS)
    await bucket.put_tags(description.key, {"quality": "mended"})
    stored = await bucket.inspect(description.key)
    assert stored is not None
    assert stored.tags == {"quality": "mended"}


async def test_what_is_not_there_is_told(bucket: Bucket, description: ObjectDescription) -> None:
    assert await bucket.inspect(description.key) is None
    assert [entry async for entry in bucket.list(description.key)] == []
    with pytest.raises(UploadFailed, match=f"reading s3://{bucket.name}/.* failed"):
        await content_of(bucket, description.key)
    with pytest.raises(UploadFailed, match=r"tagging .* failed"):
        await bucket.put_tags(description.key, {"quality": "mended"})


@pytest.mark.parametrize("call", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
async def test_an_interrupt_leaves_no_upload_open(
    uploader: Uploader,
    bucket: Bucket,
    large: Path,
    description: ObjectDescription,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    """Cancelled while the store has been asked that, and its answer is on the way."""
    sending, arriving, send = asyncio.Event(), asyncio.Event(), getattr(bucket.client, call)

    async def announced(**request: Any) -> Any:
        answer = None if call == "complete_multipart_upload" else await send(**request)
        sending.set()
        await arriving.wait()
        return answer

    monkeypatch.setattr(bucket.client, call, announced)
    storing = asyncio.create_task(uploader.store(large, description, replace=False, deadline=SECONDS))
    await sending.wait()
    storing.cancel()
    arriving.set()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert await open_uploads(bucket) == []
    assert await bucket.inspect(description.key) is None


async def test_a_part_that_fails_leaves_no_upload_open(
    uploader: Uploader, bucket: Bucket, large: Path, description: ObjectDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = bucket.client.upload_part

    async def spoilt(**request: Any) -> Any:
        if request["PartNumber"] == 2:
            request["Bucket"] = "no-such-bucket-of-ours"
        return await send(**request)

    monkeypatch.setattr(bucket.client, "upload_part", spoilt)
    with pytest.raises(StorageUnusable, match="the bucket does not exist"):
        await uploader.store(large, description, replace=False, deadline=SECONDS)
    assert await open_uploads(bucket) == []
    assert await bucket.inspect(description.key) is None


async def test_the_bucket_is_checked(variables: dict[str, str], bucket: Bucket) -> None:
    await bucket.check()
    async with opened(variables | {"AWS_SECRET_ACCESS_KEY": "wrong"}) as locked:
        with pytest.raises(StorageUnusable, match="the secret does not match the access key"):
            await locked.bucket.check()
    async with opened(variables | {"S3_BUCKET": "no-such-bucket-of-ours"}) as missing:
        with pytest.raises(StorageUnusable, match="no-such-bucket-of-ours cannot be used: the bucket does not exist"):
            await missing.bucket.check()


async def test_checksums_that_are_switched_off_are_no_trouble(
    variables: dict[str, str], file: Path, description: ObjectDescription
) -> None:
    plain = variables | {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
    async with opened(plain, part_sizes=IN_PARTS) as uploader:
        receipt = await uploader.store(file, description, replace=False, deadline=SECONDS)
        assert receipt.confirmed_by == "etag"
        assert await content_of(uploader.bucket, description.key) == file.read_bytes()


async def test_the_program_stores_what_it_fetched(
    variables: dict[str, str], bucket: Bucket, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    arguments = ("--tickers", "QQ", "--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited", "--json")
    ended = await asyncio.to_thread(program, *arguments, box=box, env=variables)
    assert ended.code == 0, ended.err
    (done,) = ended.summary["done"]
    stored = await bucket.inspect(done["key"])
    assert stored is not None
    assert stored.tags is not None
    assert len(stored.tags) == 8
    lzo = await content_of(bucket, done["key"])
    csv = subprocess.run(["lzop", "-dc"], input=lzo, capture_output=True, check=True).stdout
    assert csv == (program.directory / "output" / "QQ_historical.csv").read_bytes()


async def test_tags_that_parts_have_lost_are_found_from_the_bucket_alone(
    variables: dict[str, str], bucket: Bucket, program: Program, large: Path, description: ObjectDescription
) -> None:
    """Sent as other uploaders send it: Ceph's older gateway drops the tags of what comes in parts, without a word."""
    key = "stocks/PARTS/polygon/2026/01/31/12/PARTS_polygon_202601311200.csv.lzo"
    told = {"bars": "2", "first": "1769871600000", "last": "1769871660000", "from": "2026-01-31", "to": "2026-01-31"}
    metadata = {**told, "adjusted": "true", "csv-sha256": "0" * 64}
    tags = {**description.tags, "symbol": "PARTS"}
    tagging = "&".join(f"{name}={quote(value, safe='')}" for name, value in tags.items())
    name: dict[str, Any] = {"Bucket": bucket.name, "Key": key}
    upload = await bucket.client.create_multipart_upload(
        **name, Tagging=tagging, Metadata=metadata, ChecksumAlgorithm="SHA256"
    )
    name["UploadId"] = upload["UploadId"]
    body = large.read_bytes()
    checksum: Any = {"ChecksumSHA256": in_base64(hashlib.sha256(body).digest())}
    part = await bucket.client.upload_part(**name, PartNumber=1, Body=body, **checksum)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], **checksum}]}
    await bucket.client.complete_multipart_upload(**name, MultipartUpload=parts)
    stored = await bucket.inspect(key)
    assert stored is not None
    lost = ["its tags are lost"] if not stored.tags else []
    ended = await asyncio.to_thread(program, "verify", "--prefix", "stocks/PARTS/", "--json", env=variables)
    assert [finding["finding"] for finding in ended.summary["findings"]] == lost, ended.err
    await bucket.put_tags(key, tags)
    ended = await asyncio.to_thread(program, "verify", "--prefix", "stocks/PARTS/", env=variables)
    assert ended.code == 0, ended.out


@pytest.mark.parametrize(("start", "size"), [(0, 10), (3, 4), (9, 1), (10, 0)])
def test_a_stretch_of_a_file_reads_like_a_file_of_its_own(start: int, size: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    expected = b"0123456789"[start : start + size]
    with FileSlice(path, start, size) as stretch:
        assert stretch.read() == expected
        assert (stretch.read(5), stretch.tell()) == (b"", size)
        assert stretch.seek(1) == min(1, size)
        assert stretch.read(2) == expected[1:3]
        assert stretch.seek(0, os.SEEK_END) == size
        assert stretch.seek(-2, os.SEEK_CUR) == max(0, size - 2)
        assert stretch.read(100) == expected[-2:]
    assert stretch.closed
