"""A store that keeps no object tags is found out before anything is fetched, and nothing is left behind in it."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from door import Answered, Arrived, door, is_object_put, refusal
from stored import RANGE, keys, stored

from polygon_async.model.layout import PROBE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

NO_TAGS = (
    "every object gets eight tags, which some stores do not keep (Cloudflare R2, Backblaze B2);"
    " choose another store, or --no-upload for CSVs only"
)


def has_header(asked: Arrived, name: str) -> bool:
    """Whether a request has a header."""
    return name in {each.lower() for each in asked.headers}


def is_about_tags(asked: Arrived) -> bool:
    """Whether a request is for an object's tags alone."""
    return "tagging" in urlsplit(asked.path).query


def no_tags_at_all() -> Answered:
    """What a store says that has no tags, and thinks nothing of it."""
    body = b'<?xml version="1.0"?><Tagging><TagSet></TagSet></Tagging>'
    return Answered(200, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body)


class Shop:
    """The embedded store with a door's own opinion of tags and conditions."""

    def __init__(self, store: EmbeddedS3) -> None:
        self._store = store

    def put_without(self, asked: Arrived, *, tags: bool) -> Answered:
        """Write an object as it was asked for, but without any condition, and perhaps without its tags."""
        _, bucket, key = unquote(urlsplit(asked.path).path).split("/", 2)
        headers = {name.lower(): value for name, value in asked.headers.items()}
        tagging = {"Tagging": headers["x-amz-tagging"]} if tags and "x-amz-tagging" in headers else {}
        metadata = {k.removeprefix("x-amz-meta-"): v for k, v in headers.items() if k.startswith("x-amz-meta-")}
        with contextlib.closing(self._store.client()) as s3:
            answer = s3.put_object(Bucket=bucket, Key=key, Body=asked.body, Metadata=metadata, **tagging)
        return Answered(200, {"ETag": answer["ETag"], "Content-Length": "0"}, b"")

    def knows_no_tags(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """As Cloudflare R2."""
        if is_about_tags(asked) or has_header(asked, "x-amz-tagging"):
            return refusal(501, "NotImplemented")
        return forward()

    def refuses_tags(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """As Backblaze B2."""
        if is_about_tags(asked):
            return no_tags_at_all() if asked.method == "GET" else refusal(400, "InvalidArgument")
        if has_header(asked, "x-amz-tagging"):
            answer = refusal(400, "InvalidArgument")
            body = answer.body.replace(b"said by the door", b"Unsupported header 'x-amz-tagging'")
            return dataclasses.replace(answer, body=body, headers={"Content-Length": str(len(body))})
        return forward()

    def refuses_the_header(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """Without a word about why."""
        return refusal(400, "InvalidRequest") if has_header(asked, "x-amz-tagging") else forward()

    def drops_tags(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """Silently: what is tagged is stored without."""
        if is_about_tags(asked) and asked.method == "PUT":
            return Answered(200, {"Content-Length": "0"}, b"")
        return self.put_without(asked, tags=False) if has_header(asked, "x-amz-tagging") else forward()

    def knows_no_conditions(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """It says so."""
        conditional = has_header(asked, "if-match") or has_header(asked, "if-none-match")
        return refusal(501, "NotImplemented") if conditional else forward()

    def ignores_conditions(self, asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        """It does not say so."""
        return self.put_without(asked, tags=True) if has_header(asked, "if-match") else forward()


def run(program: Program, box: Sandbox, store: EmbeddedS3, rule: str, *tickers: str) -> Ended:
    """A run against such a store."""
    with door(store.endpoint, getattr(Shop(store), rule)) as endpoint:
        return program("--tickers", *tickers, *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})


@pytest.mark.parametrize("rule", ["knows_no_tags", "refuses_tags", "refuses_the_header", "drops_tags"])
def test_a_store_without_tags_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, rule: str
) -> None:
    box = sandbox()
    ended = run(program, box, store, rule, "QQ", "AAPL")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert ended.error.startswith("polygon-async: error: http://127.0.0.1:")
    assert ended.error.endswith(f"/{box.bucket} keeps no object tags; {NO_TAGS}")
    assert box.requests == []
    assert keys(box) == []


@pytest.mark.parametrize("rule", ["knows_no_conditions", "ignores_conditions"])
def test_a_store_without_conditional_writes_is_not_taken_for_one_without_tags(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, rule: str
) -> None:
    box = sandbox()
    ended = run(program, box, store, rule, "QQ")
    assert ended.code == 0, ended.err
    assert [item.tags["symbol"] for item in stored(box)] == ["QQ"]


def test_what_cannot_be_removed_is_named(program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3) -> None:
    box, shop = sandbox(), Shop(store)

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        return refusal(403, "AccessDenied") if asked.method == "DELETE" else shop.ignores_conditions(asked, forward)

    with door(store.endpoint, rule) as endpoint:
        ended = program("--tickers", "QQ", *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 0, ended.err
    assert f"an empty object was left in the bucket; you can delete it: {PROBE_KEY}" in ended.err
    assert sorted(key.split("/")[1] for key in keys(box)) == [".polygon_async", "QQ"]


def test_a_store_that_keeps_tags_sees_nothing_written_but_the_objects(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    asked_for: list[tuple[str, bool, int]] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if PROBE_KEY in asked.path:
            asked_for.append((asked.method, is_about_tags(asked), answer.status))
        return answer

    with door(store.endpoint, rule) as endpoint:
        ended = program("--tickers", "QQ", *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 0, ended.err
    assert asked_for == [("GET", True, 404), ("PUT", True, 404), ("PUT", False, 404)]


def test_tags_that_only_the_first_upload_shows_to_be_lost_stop_the_run_there(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        if asked.method == "PUT" and PROBE_KEY not in asked.path:
            with contextlib.closing(store.client()) as s3:
                for key in keys(box):
                    s3.delete_object_tagging(Bucket=box.bucket, Key=key)
        return answer

    with door(store.endpoint, rule) as endpoint:
        tickers = [f"T{number}" for number in range(8)]
        arguments = ("--tickers", *tickers, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 2, ended.err
    assert ended.error.endswith(f" does not keep its tags; {NO_TAGS}")
    assert len(keys(box)) == 1
    assert len(box.requests) < 8


@pytest.mark.parametrize(("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull"), (507, "Whatever")])
def test_a_full_store_stops_the_run(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, status: int, code: str
) -> None:
    box, written = sandbox(), list[str]()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if not is_object_put(asked):
            return forward()
        written.append(asked.path)
        return forward() if len(written) < 3 else refusal(status, code)

    with door(store.endpoint, rule) as endpoint:
        tickers = [f"T{number}" for number in range(8)]
        arguments = ("--tickers", *tickers, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 2, ended.err
    advice = "the store is full or over its quota; make room there and start again"
    assert ended.error.endswith(f": {advice} ({code}: said by the door)")
    assert ended.out.startswith("2 of 8 tickers done, 6 not finished, in ")
    assert [item.tags["symbol"] for item in stored(box)] == ["T0", "T1"]


def test_a_store_that_is_full_from_the_start_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        full = asked.method == "PUT" and not is_about_tags(asked)
        return refusal(403, "QuotaExceeded") if full else forward()

    with door(store.endpoint, rule) as endpoint:
        ended = program("--tickers", "QQ", *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "the store is full or over its quota" in ended.error
    assert box.requests == []


def test_uploads_that_are_all_refused_alike_stop_the_run_after_a_few(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        return refusal(400, "InvalidRequest") if is_object_put(asked) else forward()

    with door(store.endpoint, rule) as endpoint:
        tickers = [f"T{number:02}" for number in range(20)]
        arguments = ("--tickers", *tickers, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 2, ended.err
    assert ended.error.endswith("(InvalidRequest: said by the door); the first 5 uploads were all refused like this")
    assert len(box.requests) < 10


def after_some(
    program: Program, box: Sandbox, store: EmbeddedS3, rule: Callable[[int], Answered | None], tickers: int = 20
) -> tuple[Ended, int]:
    """A run, one upload after another, whose objects the store answers by their number; and how many came."""
    written = list[str]()

    def by_number(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if not is_object_put(asked) or PROBE_KEY in asked.path:
            return forward()
        # A refusal of one condition is followed by a write without it.
        if (path := urlsplit(asked.path).path) not in written:
            written.append(path)
        return rule(len(written)) or forward()

    with door(store.endpoint, by_number) as endpoint:
        symbols = [f"T{number:02}" for number in range(tickers)]
        arguments = ("--tickers", *symbols, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    return ended, len(written)


@pytest.mark.parametrize(
    ("status", "code"), [(403, "ServiceQuotaExceeded"), (403, "AccessDenied"), (501, "NotImplemented")]
)
def test_uploads_that_are_refused_alike_from_some_time_on_stop_the_run_after_a_few(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, status: int, code: str
) -> None:
    # Another refusal before proves nothing.
    first = {2: refusal(400, "InvalidRequest")}

    def rule(number: int) -> Answered | None:
        return first.get(number, refusal(status, code) if number > 3 else None)

    ended, written = after_some(program, sandbox(), store, rule)
    assert (ended.code, written) == (2, 8), ended.err
    assert f"{code}: said by the door" in ended.error
    assert ended.error.endswith("; the last 5 uploads were all refused like this")
    assert ended.out.startswith("2 of 20 tickers done, 5 failed, 13 not finished")


@pytest.mark.parametrize(
    ("status", "code", "every"),
    [(403, "AccessDenied", 5), (413, "EntityTooLarge", 99), (400, "InvalidTag", 99), (409, "OperationAborted", 99)],
)
def test_what_some_uploads_meet_among_others_that_are_stored_does_not_stop_them(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3, status: int, code: str, every: int
) -> None:
    ended, written = after_some(
        program, sandbox(), store, lambda number: refusal(status, code) if number % every != 1 else None, 12
    )
    assert (ended.code, written) == (1, 12), ended.err
    assert ended.out.startswith("3 of 12" if every == 5 else "1 of 12")


def test_a_store_that_knows_no_upload_is_not_said_to_lack_tags(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    ended, _ = after_some(program, sandbox(), store, lambda _: refusal(501, "NotImplemented"))
    assert ended.code == 2, ended.err
    assert ended.error.endswith(
        " failed (NotImplemented: said by the door); the store lacks something that every upload needs;"
        " choose another, or --no-upload for CSVs only"
    )
    assert "tags" not in ended.error
