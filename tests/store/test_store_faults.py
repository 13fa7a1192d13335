"""Faults between the program and the store: nothing is called uploaded that is not, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from door import Answered, Arrived, door, refusal, uncounted
from proxy import Fault, proxy
from stored import DESCRIPTION, IN_PARTS, SECONDS, open_uploads

from polygon_async.errors import StorageUnusable, UploadFailed
from polygon_async.store.bucket import open_bucket
from polygon_async.store.upload import Uploader
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3
    from polygon_async.store.bucket import Bucket

SOON = 0.5
"""Seconds until a deadline that is meant to be reached."""
OBJECT_PUT = rb"PUT "
OPENING = rb"POST [^ ]*\?uploads"
PART_PUT = rb"PUT [^ ]*partNumber=1"
COMPLETION = rb"POST [^ ]*uploadId="


@pytest.fixture
def box(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox whose store the environment leads to, with two attempts for each request."""
    box = sandbox()
    for name, value in (box.environment | {"AWS_MAX_ATTEMPTS": "2"}).items():
        monkeypatch.setenv(name, value)
    return box


@contextlib.asynccontextmanager
async def seen_from(endpoint: str, box: Sandbox) -> AsyncIterator[Uploader]:
    """What stores into the sandbox's bucket by way of another address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        async with (
            Threads(4) as offload,
            open_bucket(box.bucket, connections=4) as bucket,
        ):
            yield Uploader(bucket, offload=offload, part_sizes=IN_PARTS)


@pytest.fixture
async def direct(box: Sandbox, store: EmbeddedS3) -> AsyncIterator[Uploader]:
    """What stores without a fault in between."""
    async with seen_from(store.endpoint, box) as uploader:
        yield uploader


@pytest.fixture
def honest(direct: Uploader) -> Bucket:
    """The bucket as it is, to see what is really there."""
    return direct.bucket


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """More than a connection's buffers' first bytes, in one piece."""
    path = tmp_path / "A.lzo"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Three parts."""
    path = tmp_path / "B.lzo"
    path.write_bytes(os.urandom(11 * 2**20))
    return path


async def assert_nothing_there(honest: Bucket) -> None:
    """Neither an object nor the beginning of one."""
    assert await honest.inspect(DESCRIPTION.key) is None
    assert await open_uploads(honest) == []


async def test_a_store_that_refuses_connections_stores_nothing(box: Sandbox, honest: Bucket, small: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with seen_from(f"http://127.0.0.1:{deaf.getsockname()[1]}", box) as uploader:
            with pytest.raises(UploadFailed, match=r"writing .* failed"):
                await uploader.store(small, DESCRIPTION, replace=False, deadline=SECONDS)
            with pytest.raises(StorageUnusable, match="cannot be reached"):
                await uploader.bucket.check()
    await assert_nothing_there(honest)


@pytest.mark.parametrize("after", [0, 10, 100_000])
async def test_a_write_that_is_always_reset_is_a_failure(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, small: Path, after: int
) -> None:
    fault = Fault(where=OBJECT_PUT, reset_after=after, times=1000)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        with pytest.raises(UploadFailed, match=r"writing .* failed"):
            await uploader.store(small, DESCRIPTION, replace=False, deadline=SECONDS)
    assert fault.met >= 2
    await assert_nothing_there(honest)


async def test_a_write_that_is_reset_once_is_tried_again(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, small: Path
) -> None:
    fault = Fault(where=OBJECT_PUT, reset_after=100_000)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        await uploader.store(small, DESCRIPTION, replace=False, deadline=SECONDS)
    assert fault.met == 1
    assert b"".join([chunk async for chunk in honest.read(DESCRIPTION.key)]) == small.read_bytes()


@pytest.mark.parametrize("where", [OPENING, PART_PUT, COMPLETION], ids=["opening", "part", "completion"])
async def test_parts_that_are_always_reset_are_a_failure(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, large: Path, where: bytes
) -> None:
    fault = Fault(where=where, reset_after=100, times=1000)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        with pytest.raises(UploadFailed, match=r"writing .* failed"):
            await uploader.store(large, DESCRIPTION, replace=False, deadline=SECONDS)
    assert fault.met
    await assert_nothing_there(honest)


@pytest.mark.parametrize("where", [OBJECT_PUT, b"HEAD /", b"GET /"], ids=["write", "read-back", "tags"])
async def test_a_stall_ends_at_the_deadline(
    box: Sandbox, store: EmbeddedS3, direct: Uploader, small: Path, where: bytes
) -> None:
    fault = Fault(where=where, stall_after=100, times=1000)
    with uncounted(store.endpoint) as behind:
        async with proxy(behind, fault) as endpoint, seen_from(endpoint, box) as uploader:
            with pytest.raises(UploadFailed, match="was not confirmed within"):
                await uploader.store(small, DESCRIPTION, replace=False, deadline=SOON)
    assert fault.happened.is_set()
    # It may be there, where only the reading back has failed; then the next run finds it.
    receipt = await direct.store(small, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.existed is (where != OBJECT_PUT)


async def test_a_stall_of_one_part_ends_at_the_deadline_and_leaves_no_upload_open(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, large: Path
) -> None:
    fault = Fault(where=PART_PUT, stall_after=100_000, times=1000)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        with pytest.raises(UploadFailed, match="was not confirmed within"):
            await uploader.store(large, DESCRIPTION, replace=False, deadline=2.0)
    assert fault.happened.is_set()
    await assert_nothing_there(honest)


async def test_a_slow_store_is_waited_for(box: Sandbox, store: EmbeddedS3, small: Path) -> None:
    fault = Fault(where=OBJECT_PUT, slow=True)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        receipt = await uploader.store(small, DESCRIPTION, replace=False, deadline=SECONDS)
    assert (fault.met, receipt.existed) == (1, False)


@pytest.mark.parametrize(("name", "where"), [("small", OBJECT_PUT), ("large", PART_PUT), ("large", COMPLETION)])
async def test_a_lost_answer_to_a_write_is_recognised_as_stored(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, request: pytest.FixtureRequest, name: str, where: bytes
) -> None:
    file: Path = request.getfixturevalue(name)
    fault = Fault(where=where, lose_answer=True)
    async with proxy(store.endpoint, fault) as endpoint, seen_from(endpoint, box) as uploader:
        receipt = await uploader.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert (fault.met, receipt.size) == (1, file.stat().st_size)
    assert b"".join([chunk async for chunk in honest.read(DESCRIPTION.key)]) == file.read_bytes()
    assert await open_uploads(honest) == []


@pytest.mark.parametrize("replace", [False, True], ids=["", "--force"])
async def test_a_completion_whose_upload_is_gone_counts_by_what_is_stored(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, large: Path, *, replace: bool
) -> None:
    lost: list[Arrived] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if asked.method == "POST" and "uploadId=" in asked.path and not lost:
            lost.append(asked)
            forward()
            return refusal(404, "NoSuchUpload")
        return forward()

    with door(store.endpoint, rule) as endpoint:
        async with seen_from(endpoint, box) as uploader:
            await uploader.store(large, DESCRIPTION, replace=replace, deadline=SECONDS)
    assert lost
    assert b"".join([chunk async for chunk in honest.read(DESCRIPTION.key)]) == large.read_bytes()


async def test_the_program_calls_nothing_uploaded_that_is_not(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, program: Program
) -> None:
    fault = Fault(where=b"PUT /" + box.bucket.encode() + b"/stocks/BAD/", reset_after=0, times=1000)
    arguments = ("--tickers", "BAD", "QQ", "--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")
    async with proxy(store.endpoint, fault) as endpoint:
        variables = {"AWS_ENDPOINT_URL_S3": endpoint, "AWS_MAX_ATTEMPTS": "2"}
        ended = await asyncio.to_thread(program, *arguments, "--json", box=box, env=variables)
    assert ended.code == 1, ended.err
    assert [done["ticker"] for done in ended.summary["done"]] == ["QQ"]
    assert [failure["ticker"] for failure in ended.summary["failed"]] == ["BAD"]
    assert [key.split("/")[1] async for key, _ in honest.list()] == ["QQ"]


EVERYTHING_IN_PARTS = """
import sys
from polygon_async.store import delivery, upload
from polygon_async.__main__ import main
delivery.MOST_BYTES = 0
upload.Uploader.__init__.__kwdefaults__["part_sizes"] = upload.PartSizes(threshold=1)
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_program_that_is_interrupted_leaves_no_upload_open(
    box: Sandbox, store: EmbeddedS3, honest: Bucket, tmp_path: Path, number: signal.Signals
) -> None:
    fault = Fault(where=PART_PUT, stall_after=100, times=1000)
    arguments = ("--tickers", "QQ", "--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")
    async with proxy(store.endpoint, fault) as endpoint:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EVERYTHING_IN_PARTS, *arguments),
            env={**os.environ, "AWS_ENDPOINT_URL_S3": endpoint},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        await fault.happened.wait()
        begun = await open_uploads(honest)
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert len(begun) == 1
    assert await open_uploads(honest) == []
    assert [key async for key, _ in honest.list()] == []
    assert [path.name for path in (tmp_path / "output").iterdir() if path.suffix == ".lzo"] == []
