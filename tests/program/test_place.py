"""Where objects go: a bucket, named or not, and a prefix of all keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stored import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")


def test_a_prefix_is_before_all_keys_for_every_command(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    place = f"s3://{box.bucket}/team/minutes/"
    first = program("--tickers", "QQ", *RANGE, "--bucket", place, "--json", box=box)
    assert first.code == 0, first.err
    (item,) = stored(box)
    assert item.key.startswith("team/minutes/stocks/QQ/polygon/")
    assert first.summary["done"][0]["key"] == item.key

    checked = program("verify", "--deep", "--key-prefix", "team/minutes", box=box)
    assert (checked.code, checked.out.splitlines()[0][:9]) == (0, "1 object ")
    by_listing = program("verify", "--prefix", "stocks/", box=box, env={"S3_KEY_PREFIX": "team/minutes"})
    assert (by_listing.code, by_listing.out[:9]) == (0, "1 object ")
    assert program("verify", "--prefix", "stocks/", box=box).code == 1, "nothing is at the bucket's root"

    read = ("read", "--tickers", "QQ", "--output", "-", "--source", "bucket")
    found = program(*read, "--bucket", place, box=box)
    assert (found.code, len(found.out.splitlines())) == (0, first.summary["bars"] + 1)
    assert program(*read, box=box).code == 1

    again = program("--tickers", "QQ", *RANGE, "--bucket", place, "--json", box=box)
    assert (again.code, again.summary["requests"]) == (0, 0)
    elsewhere = program("--tickers", "QQ", *RANGE, "--key-prefix", "other", "--json", box=box)
    assert (elsewhere.code, elsewhere.summary["requests"]) == (0, 0), (
        "another place is another upload, not another fetch"
    )
    assert sorted(each.key.partition("/stocks/")[0] for each in stored(box)) == ["other", "team/minutes"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bucket", "gs://bucket/x"), "must be a bucket name or s3://bucket/prefix"),
        (("--bucket", "bucket/x"), "write s3://bucket/x, or add --key-prefix x"),
        (("--bucket", "s3:///x"), "names no bucket"),
        (("--key-prefix", "a//b"), "a part of the prefix is empty or only dots"),
        (("--key-prefix", "../a"), "a part of the prefix is empty or only dots"),
        (("--key-prefix", "a\x07b"), "characters that keys should not have"),
        (("--bucket", "s3://b/x", "--key-prefix", "y"), "has the prefix x, but --key-prefix is y"),
    ],
)
def test_a_place_that_cannot_be_is_refused(program: Program, flags: tuple[str, ...], said: str) -> None:
    ended = program("--tickers", "QQ", *flags, env={"POLYGON_API_KEY": "k" * 20})
    assert ended.code == 2
    assert said in ended.error
    assert ended.err.count("\n") == 1


def test_the_default_bucket_is_named_first_and_only_where_no_other_is(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE, box=box, env={"S3_BUCKET": None})
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[0].endswith("objects go to the default one, mochi-tickdata-historical")
    named = program("--tickers", "QQ", *RANGE, box=box, env={"S3_BUCKET": "mochi-tickdata-historical"})
    assert "default" not in named.err


def test_a_short_secret_leaves_the_paths_in_messages_alone(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD * status=404")
    ended = program("--tickers", "QQ", "BAD", *RANGE, box=box, env={"MASSIVE_API_KEY": "o"})
    assert ended.code == 1, ended.err
    assert "[redacted]" not in ended.out + ended.err
    assert "output/failed.csv" in ended.out
