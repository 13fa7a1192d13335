"""What is wrong with the store, lzop or the directory is told before anything is fetched."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
from stored import RANGE
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox


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
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret does not match the access key; check AWS_SECRET_ACCESS_KEY"),
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
