"""The objects in the bucket, and every way in which one does not get there."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import http.client
import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from conftest import csv_of, names

from polygon_async.errors import StorageUnusable, UploadFailed
from polygon_async.store.bucket import KeyTaken, ObjectDescription, open_bucket
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3
    from polygon_async.store.bucket import Bucket

DAY = dt.date(2026, 3, 2)
RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited")
LZOP = shutil.which("lzop") or "lzop"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store gives it."""

    key: str
    tags: dict[str, str]
    metadata: dict[str, str]
    body: bytes


def keys(box: Sandbox) -> list[str]:
    """The keys of all that is in the sandbox's bucket, in order."""
    with contextlib.closing(box.s3_client()) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=box.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def stored(box: Sandbox) -> list[Stored]:
    """All that is in the sandbox's bucket, in the order of the keys."""
    found = []
    names = keys(box)
    with contextlib.closing(box.s3_client()) as s3:
        for key in names:
            answer = s3.get_object(Bucket=box.bucket, Key=key)
            tagging = s3.get_object_tagging(Bucket=box.bucket, Key=key)
            tags = {tag["Key"]: tag["Value"] for tag in tagging["TagSet"]}
            found.append(Stored(key, tags, answer["Metadata"], answer["Body"].read()))
    return found


def decompressed(item: Stored) -> bytes:
    """What lzop finds in an object."""
    return subprocess.run(["lzop", "-dc"], input=item.body, capture_output=True, check=True).stdout


def put(box: Sandbox, items: Iterable[Stored]) -> None:
    """Put objects there, whatever there is."""
    with contextlib.closing(box.s3_client()) as s3:
        for item in items:
            tags = "&".join(f"{name}={value}" for name, value in item.tags.items())
            name = {"Bucket": box.bucket, "Key": item.key}
            s3.put_object(**name, Body=item.body, Metadata=item.metadata, Tagging=tags)


def at(item: Stored, moment: dt.datetime) -> Stored:
    """The same object as a run of another minute names it."""
    ticker = item.tags["symbol"].replace(":", "-")
    name = f"{ticker}_polygon_{moment:%Y%m%d%H%M}.csv.lzo"
    key = f"{item.tags['asset_type']}/{ticker}/polygon/{moment:%Y/%m/%d/%H}/{name}"
    return dataclasses.replace(item, key=key, tags=item.tags | {"date": f"{moment:%Y-%m-%d}"})


def minutes_from(moment: dt.datetime, count: int) -> list[dt.datetime]:
    """So many minutes, that of `moment` first."""
    start = moment.replace(second=0, microsecond=0)
    return [start + dt.timedelta(minutes=number) for number in range(count)]


# A door in front of the store: real HTTP in, real HTTP out, and a test's own rule in between.


@dataclass(frozen=True, slots=True)
class TickerQuery:
    """A request that came to the door."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that leaves by it."""

    status: int
    headers: dict[str, str]
    body: bytes


def refusal(status: int, code: str) -> Answered:
    """An error as S3 words it."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said by the door</Message></Error>'.encode()
    return Answered(status, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body)


@contextlib.contextmanager
def door(endpoint: str, rule: Callable[[TickerQuery, Callable[[], Answered]], Answered]) -> Iterator[str]:
    """The address of a server that passes requests on to `endpoint` as the rule wants it."""
    parts = urlsplit(endpoint)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = TickerQuery(self.command, self.path, dict(self.headers.items()), body)
            answered = rule(asked, lambda: self.forward(asked))
            self.send_response_only(answered.status)
            for name, value in answered.headers.items():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answered.body)
                # A body that is cut short ends with its connection.
                promised = int(answered.headers.get("Content-Length", "0"))
                self.close_connection = self.close_connection or len(answered.body) < promised

        def forward(self, asked: TickerQuery) -> Answered:
            headers = {name: value for name, value in asked.headers.items() if name.lower() != "expect"}
            with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
                connection.request(asked.method, asked.path, asked.body, headers)
                answer = connection.getresponse()
                return Answered(answer.status, dict(answer.getheaders()), answer.read())

        def handle(self) -> None:
            # Clients that are killed in the middle are part of the tests.
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 (the server's own names)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# The bucket, as the pipeline meets it

DESCRIPTION = ObjectDescription(
    key="stocks/A/polygon/2026/01/31/12/A_polygon_202601311200.csv.lzo",
    tags={
        "asset_type": "stocks",
        "symbol": "A=+-_.:x",
        "source": "polygon",
        "exchange": "Börse + Markt / 1=@",
        "currency": "USD",
        "timeframe": "1min",
        "date": "2026-01-31",
        "quality": "raw",
    },
    metadata={"bars": "1", "from": "2026-01-01", "to": "2026-01-30", "adjusted": "true", "csv-sha256": "5ha"},
)
SECONDS = 30.0


@pytest.fixture
async def bucket(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    """A bucket of its own, found through the environment as always."""
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    async with Threads(2) as offload, open_bucket(box.bucket, offload=offload, connections=2) as bucket:
        yield bucket


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Something to store."""
    path = tmp_path / "A.lzo"
    path.write_bytes(b"some bytes")
    return path


async def test_what_is_there_already_counts(bucket: Bucket, file: Path) -> None:
    first = await bucket.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    second = await bucket.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert (first.existed, second.existed) == (False, True)
    assert (first.bucket, first.key, first.size) == (bucket.name, DESCRIPTION.key, 10)


async def test_the_same_csv_counts_however_it_was_compressed(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    csv, other = file.with_name("A.csv"), file.with_name("A2.lzo")
    csv.write_text("open\n1\n")
    for target, moment in ((file, 1_700_000_000), (other, 1_800_000_000)):
        os.utime(csv, (moment, moment))
        subprocess.run(["lzop", "-f", "-o", target, csv], check=True)
    assert file.read_bytes() != other.read_bytes()
    sha256 = hashlib.sha256(csv.read_bytes()).hexdigest()
    same = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, "csv-sha256": sha256})
    await bucket.store(file, same, replace=False, deadline=SECONDS)
    receipt = await bucket.store(other, same, replace=False, deadline=SECONDS)
    with contextlib.closing(store.client()) as s3:
        body = s3.get_object(**name_of(bucket))["Body"].read()
    assert body in {file.read_bytes(), other.read_bytes()}
    assert receipt.size == len(body)


async def test_other_content_of_the_same_range_is_not_touched_without_force(bucket: Bucket, file: Path) -> None:
    await bucket.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    file.write_bytes(b"other bytes")
    other = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, "csv-sha256": "0ther"})
    with pytest.raises(UploadFailed) as caught:
        await bucket.store(file, other, replace=False, deadline=SECONDS)
    where = f"s3://{bucket.name}/{DESCRIPTION.key}"
    assert str(caught.value) == f"{where} exists with other content; --force replaces it"
    replaced = await bucket.store(file, other, replace=True, deadline=SECONDS)
    assert (replaced.existed, replaced.size) == (False, 11)
    assert (await bucket.store(file, other, replace=False, deadline=SECONDS)).existed


@pytest.mark.parametrize("difference", [{"from": "2025-12-31"}, {"to": "2026-01-29"}, {"adjusted": "false"}])
async def test_another_range_has_its_own_key(bucket: Bucket, file: Path, difference: dict[str, str]) -> None:
    await bucket.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    other = dataclasses.replace(DESCRIPTION, metadata={**DESCRIPTION.metadata, **difference})
    with pytest.raises(KeyTaken):
        await bucket.store(file, other, replace=False, deadline=SECONDS)


async def test_tags_arrive_letter_for_letter(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    await bucket.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    with contextlib.closing(store.client()) as s3:
        answer = s3.get_object_tagging(Bucket=bucket.name, Key=DESCRIPTION.key)
    assert {tag["Key"]: tag["Value"] for tag in answer["TagSet"]} == DESCRIPTION.tags


async def test_a_store_without_checksums_is_confirmed_by_its_etag(
    bucket: Bucket, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    async with Threads(2) as offload, open_bucket(bucket.name, offload=offload, connections=1) as plain:
        receipt = await plain.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.confirmed_by == "etag"


@contextlib.asynccontextmanager
async def behind(
    rule: Callable[[TickerQuery, Callable[[], Answered]], Answered], bucket: Bucket, store: EmbeddedS3
) -> AsyncIterator[Bucket]:
    """The same bucket, seen through a door."""
    with door(store.endpoint, rule) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        async with Threads(2) as offload, open_bucket(bucket.name, offload=offload, connections=2) as seen:
            yield seen


def is_object_put(asked: TickerQuery) -> bool:
    """Whether a request writes an object (and not its tags alone)."""
    return asked.method == "PUT" and "tagging" not in asked.path


def name_of(bucket: Bucket) -> dict[str, str]:
    """How a client of the store names the object."""
    return {"Bucket": bucket.name, "Key": DESCRIPTION.key}


@pytest.mark.parametrize("changed", [True, False])
async def test_tags_that_a_store_loses_or_changes_are_put_again(
    bucket: Bucket, file: Path, store: EmbeddedS3, *, changed: bool
) -> None:
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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


async def test_tags_that_a_store_does_not_keep_are_a_failure(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if asked.method == "PUT":
            with contextlib.closing(store.client()) as s3:
                s3.delete_object_tagging(**name_of(bucket))
        return answer

    async with behind(rule, bucket, store) as forgetful:
        with pytest.raises(UploadFailed, match="does not keep its tags"):
            await forgetful.store(file, DESCRIPTION, replace=False, deadline=SECONDS)


@pytest.mark.parametrize(
    ("body", "metadata", "said"),
    [
        (b"some bits", DESCRIPTION.metadata, "has 9 bytes and not 10"),
        (b"other byte", DESCRIPTION.metadata, "does not hold the bytes that were written"),
        (b"some bytes", {}, "does not have the metadata that it was written with"),
    ],
)
async def test_a_store_that_keeps_something_else_is_found_out(
    bucket: Bucket, file: Path, store: EmbeddedS3, body: bytes, metadata: dict[str, str], said: str
) -> None:
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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

    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        plain = {k: v for k, v in answer.headers.items() if "checksum" not in k.lower() and k.lower() != "etag"}
        return dataclasses.replace(answer, headers={**plain, "ETag": '"0123456789abcdef-2"'})

    async with behind(rule, bucket, store) as odd:
        receipt = await odd.store(file, DESCRIPTION, replace=False, deadline=SECONDS)
    assert receipt.confirmed_by == "bytes"


async def test_a_lost_answer_to_a_write_is_no_conflict(bucket: Bucket, file: Path, store: EmbeddedS3) -> None:
    lost: list[TickerQuery] = []

    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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
    puts: list[TickerQuery] = []

    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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
    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
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

    def rule(_asked: TickerQuery, _forward: Callable[[], Answered]) -> Answered:
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
        await closed.check()


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "PermanentRedirect", "WhateverElse"])
async def test_a_store_that_refuses_from_the_start_says_what_to_do(
    bucket: Bucket, store: EmbeddedS3, code: str
) -> None:
    async with behind(lambda _asked, _forward: refusal(400, code), bucket, store) as angry:
        with pytest.raises(StorageUnusable, match=rf"cannot be used: .* \({code}: said by the door\)"):
            await angry.check()


# Before anything is fetched, through the program


def refused_at_once(program: Program, box: Sandbox, *arguments: str, env: dict[str, str | None] | None = None) -> str:
    """The one line that a run ends with that asked the API nothing."""
    ended = program("--tickers", "QQ", *RANGE, *arguments, box=box, env=env)
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert box.requests == []
    assert not list(program.directory.glob("output/*"))
    return ended.err.removeprefix("polygon-async: error: ").rstrip("\n")


def test_a_missing_bucket_is_told_before_anything_is_asked(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    said = refused_at_once(program, sandbox(), "--bucket", "no-such-bucket-of-ours")
    assert said.startswith(
        "the bucket no-such-bucket-of-ours cannot be used: the bucket does not exist; create it, or name another"
        " (S3_BUCKET or --bucket) (NoSuchBucket"
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret does not fit the access key; check AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7NOBODY", "the store does not know the access key; check AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", None, "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", None, "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ENDPOINT_URL_S3", "not a url", ""),
        ("AWS_PROFILE", "nobody", "nobody"),
        ("S3_BUCKET", "Not_A_Bucket!", "Not_A_Bucket!"),
    ],
)
def test_unusable_credentials_are_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], variable: str, value: str | None, said: str
) -> None:
    assert said in refused_at_once(program, sandbox(), env={variable: value})


def test_an_endpoint_that_nobody_serves_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        said = refused_at_once(program, box := sandbox(), env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert said.startswith(f"the bucket {box.bucket} cannot be reached: Could not connect to the endpoint URL")
    assert said.endswith("; check AWS_ENDPOINT_URL_S3 and the network")


def test_a_missing_lzop_is_told_with_the_remedy(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    assert refused_at_once(program, sandbox(), env={"PATH": "/nowhere"}) == (
        "lzop is not installed; apt-get install lzop (or brew install lzop), or --no-upload for CSVs only"
    )


def test_an_output_directory_that_cannot_be_one_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    (program.directory / "file").touch()
    assert refused_at_once(program, box, "--output-dir", "file") == (
        "file is a file; --output-dir must name a directory"
    )
    assert (
        refused_at_once(program, box, "--output-dir", "file/below") == "file/below cannot be written (Not a directory)"
    )
    if sys.platform == "linux":
        assert refused_at_once(program, box, "--output-dir", "/proc/1/none").startswith(
            "/proc/1/none cannot be written"
        )


def test_one_directory_serves_one_run_at_a_time(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 1 stall")
    with program.running("--tickers", "QQ", "--no-upload", *RANGE, box=box) as first:
        wait_until(lambda: bool(box.requests), first)
        second = program("--tickers", "AAPL", *RANGE, box=box)
        first.terminate()
        first.communicate()
    assert second.code == 2
    assert second.error == (
        "polygon-async: error: another run is using output; wait for its end, or give this one its own --output-dir"
    )
    assert [request.ticker for request in box.requests] == ["QQ"]
    box.set_troubles([])
    assert program("--tickers", "AAPL", *RANGE, box=box).code == 0


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return as soon as `reached()`; fail when the program ends before."""
    while not reached():
        assert process.poll() is None, process.communicate()
        # Not for a time: until the program ends, looked at now and then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)


# While it runs, through the program


def object_of(box: Sandbox) -> Stored:
    """What a run is to store of the ticker, but for the minute in its name."""
    bars = box.market.days("QQ", DAY, DAY)
    csv = csv_of(bars).encode()
    return Stored(
        key="",
        tags=dict(DESCRIPTION.tags) | {"symbol": "QQ", "exchange": "unknown"},
        metadata={
            "bars": str(len(bars)),
            "first": str(bars[0].t),
            "last": str(bars[-1].t),
            "from": f"{DAY}",
            "to": f"{DAY}",
            "adjusted": "true",
            "csv-sha256": hashlib.sha256(csv).hexdigest(),
        },
        body=subprocess.run(["lzop", "-c"], input=csv, capture_output=True, check=True).stdout,
    )


def put_at_the_next_minutes(box: Sandbox, item: Stored) -> list[Stored]:
    """That object under the keys of this minute and those that a run of now may begin in."""
    copies = [at(item, moment) for moment in minutes_from(dt.datetime.now(dt.UTC), 5)]
    put(box, copies)
    return copies


def test_a_second_run_finds_its_own_objects_there(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    copies = put_at_the_next_minutes(box, object_of(box))
    ended = program("--tickers", "QQ", "--json", *RANGE, box=box)
    assert ended.code == 0, ended.err
    (done,) = ended.summary["done"]
    assert done["key"] in {copy.key for copy in copies}
    assert len(stored(box)) == len(copies)


def test_other_content_is_a_failure_until_force_replaces_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    item = object_of(box)
    other = dataclasses.replace(item, metadata=item.metadata | {"csv-sha256": "0ther"}, body=b"other")
    copies = put_at_the_next_minutes(box, other)
    ended = program("--tickers", "QQ", "--json", *RANGE, box=box)
    assert ended.code == 1
    (failed,) = ended.summary["failed"]
    match = re.fullmatch(rf"s3://{box.bucket}/(.*) exists with other content; --force replaces it", failed["error"])
    assert match
    assert match[1] in {copy.key for copy in copies}
    assert [found.body for found in stored(box)] == [b"other"] * len(copies)
    forced = program("--tickers", "QQ", "--json", "--force", *RANGE, box=box)
    assert forced.code == 0, forced.err
    (done,) = forced.summary["done"]
    (new,) = [found for found in stored(box) if found.body != b"other"]
    assert (new.key, done["existed"]) == (done["key"], False)
    assert new.metadata == item.metadata
    assert decompressed(new) == decompressed(item)


@pytest.mark.parametrize("flags", [[], ["--force"]], ids=["", "--force"])
def test_another_ranges_key_is_left_alone_and_the_next_free_minute_taken(
    flags: list[str], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    item = object_of(box)
    copies = put_at_the_next_minutes(box, dataclasses.replace(item, metadata=item.metadata | {"to": "2026-03-31"}))
    ended = program("--tickers", "QQ", "--json", *flags, *RANGE, box=box)
    assert ended.code == 0, ended.err
    (new,) = [found for found in stored(box) if found.key not in {copy.key for copy in copies}]
    last = dt.datetime.strptime(copies[-1].key[-20:-8], "%Y%m%d%H%M").replace(tzinfo=dt.UTC)
    free = at(item, last + dt.timedelta(minutes=1))
    assert new.key == ended.summary["done"][0]["key"] == free.key
    assert new.tags == free.tags
    assert new.metadata == item.metadata
    assert {found.metadata["to"] for found in stored(box)} == {"2026-03-31", "2026-03-02"}


@contextlib.contextmanager
def user_who_may(store: EmbeddedS3, *actions: str) -> Iterator[dict[str, str | None]]:
    """The variables of a user of the store with so small a policy."""
    store._check_signatures(after=1000)
    with contextlib.closing(store._connect("iam", "anyone", "not checked now")) as iam:
        statement = {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": "*"}
        name = f"user-{'-'.join(actions)}"[:64]
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="little", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        store._check_signatures(after=0)
        yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_who_may_write_but_not_list_can_work(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    allowed = ("PutObject", "PutObjectTagging", "GetObject", "GetObjectTagging")
    with user_who_may(store, *allowed) as variables:
        ended = program("--tickers", "QQ", "--log-level", "debug", *RANGE, box=box, env=variables)
    assert ended.code == 0, ended.err
    assert f"the bucket {box.bucket} may not be listed, which uploads don't need" in ended.err
    assert len(stored(box)) == 1


def test_who_may_not_write_is_told_which_rights_are_missing(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    with user_who_may(store, "ListBucket", "GetObject") as variables:
        ended = program("--tickers", "QQ", "AAPL", "MSFT", *RANGE, box=box, env=variables)
    assert ended.code == 2
    assert ended.error.startswith(f"polygon-async: error: writing s3://{box.bucket}/stocks/")
    assert ended.error.endswith("the policy must allow PutObject, PutObjectTagging, GetObject, GetObjectTagging")
    assert not list(program.directory.glob("output/*.lzo"))
    assert stored(box) == []


BROKEN_LZOPS = {
    "FAILS": ("echo 'lzop: no mood' >&2; exit 1", "failed with exit code 1 while compressing {}: lzop: no mood"),
    "KILLED": ("kill -9 $$", "was killed by signal 9 while compressing {}: without a word"),
    "KILLEDLATE": ('"$LZOP" "$@"; kill -9 $$', "was killed by signal 9 while compressing {}: "),
    "RUBBISH": ('echo rubbish > "$3"', "failed with exit code 1 while testing {}: "),
    "CUT": ('"$LZOP" "$@"; truncate -s -1 "$3"', "failed with exit code 1 while testing {}: "),
    "NOTHING": ("exit 0", "wrote no {}.lzo"),
    "EMPTY": (': > "$3"', "failed with exit code 1 while testing {}: "),
}
"""What goes wrong while a ticker of that name is compressed, and what the failure says."""


def test_a_broken_lzop_fails_its_ticker_and_leaves_nothing(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    cases = "".join(f"*/{ticker}_*) {script};;\n" for ticker, (script, _) in BROKEN_LZOPS.items())
    real = f'LZOP={shlex.quote(LZOP)}\nif [ "$1" = -t ]; then exec "$LZOP" "$@"; fi'
    command.write_text(f'#!/bin/sh\n{real}\ncase "$3" in\n{cases}*) exec "$LZOP" "$@";;\nesac\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    ended = program("--tickers", *BROKEN_LZOPS, "QQ", "--json", *RANGE, box=box, env={"PATH": path})
    assert ended.code == 1
    told = {failure["ticker"]: failure["error"] for failure in ended.summary["failed"]}
    assert sorted(told) == sorted(BROKEN_LZOPS)
    for ticker, (_, said) in BROKEN_LZOPS.items():
        assert told[ticker].startswith(f"lzop {said.format(f'{ticker}_historical.csv')}"), ticker
        written = (program.directory / "output" / f"{ticker}_historical.csv").read_text()
        assert written == csv_of(box.market.days(ticker, DAY, DAY)), "the CSV is good, whatever lzop makes of it"
    assert [o.tags["symbol"] for o in stored(box)] == ["QQ"]
    left = {name for name in names(program.directory / "output") if not name.endswith(".csv")}
    assert left == set()


def test_what_stood_in_the_way_before_is_no_trouble(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    output.mkdir()
    for name in ("QQ_historical.csv", "QQ_historical.csv.lzo", "QQ_2026-03-02_2026-03-02_adjusted.csv.part"):
        (output / name).write_bytes(b"rubbish" * 100_000)
    (output / "failed.csv").write_text("ticker,error\nQQ,old\n")
    (output / "no_data.csv").write_text("ticker,error\nQQ,old\n")
    ended = program("--tickers", "QQ", *RANGE, box=box, env={"LZOP": "--no-such-option"})
    assert ended.code == 0, ended.err
    assert names(output) == ["QQ_historical.csv"]
    assert decompressed(stored(box)[0]) == (output / "QQ_historical.csv").read_bytes()
    assert (output / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))


@pytest.mark.parametrize("name", ["QQ_historical.csv", "QQ_historical.csv.lzo"])
def test_a_directory_in_the_way_of_one_file_fails_that_ticker_only(
    name: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    (program.directory / "output" / name).mkdir(parents=True)
    ended = program("--tickers", "QQ", "AAPL", *RANGE, box=box)
    assert ended.code == 1, ended.err
    assert "QQ failed: " in ended.err
    assert [item.tags["symbol"] for item in stored(box)] == ["AAPL"]
    assert not list(program.directory.glob("output/*.part"))


def test_a_disk_that_takes_no_more_ends_the_run(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=300)
    flags = ["--tickers", "AAPL", "QQ", "--no-upload", "--json", *RANGE, "--to", "2026-03-05"]
    # In bash it counts in kB.
    ended = program.in_shell(f"ulimit -f 200; exec polygon-async {shlex.join(flags)}", box=box)
    assert ended.code == 2, ended.err
    assert ended.summary["error"].endswith("cannot be written (File too large)")
    assert "Traceback" not in ended.err
    assert not list(program.directory.glob("output/AAPL_historical*"))
    assert "AAPL" in (program.directory / "output" / "failed.csv").read_text()
    # What was written whole is gone on with where there is room again.
    again = program(*flags, box=box)
    assert again.code == 0, again.err
    for ticker in ("AAPL", "QQ"):
        written = (program.directory / "output" / f"{ticker}_historical.csv").read_text()
        assert written == csv_of(box.market.days(ticker, DAY, dt.date(2026, 3, 5)))
    assert not list(program.directory.glob("output/*.part"))


def test_credentials_that_expire_during_a_run_end_it(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box, written = sandbox(), []

    def rule(asked: TickerQuery, forward: Callable[[], Answered]) -> Answered:
        if not is_object_put(asked):
            return forward()
        written.append(asked.path)
        return forward() if len(written) < 3 else refusal(400, "ExpiredToken")

    tickers = [f"T{number}" for number in range(8)]
    with door(store.endpoint, rule) as endpoint:
        arguments = ("--tickers", *tickers, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 2
    assert "the credentials have expired; renew them and start again (ExpiredToken: said by the door)" in ended.error
    assert ended.out.startswith("2 of 8 tickers done, 6 not finished, in ")
    output = program.directory / "output"
    rows = (output / "failed.csv").read_text().splitlines()
    assert rows[0] == "ticker,error"
    assert rows[1:] == [f"T{number},not finished: the run was stopped" for number in range(2, 8)]
    assert not [path for path in output.iterdir() if path.suffix in {".part", ".lzo"}]
    assert sorted(o.tags["symbol"] for o in stored(box)) == ["T0", "T1"]
