"""What is wrong with the store, lzop or the directory is told before anything is fetched."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stored import LZOP, RANGE
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


@pytest.mark.parametrize("host", ["api..example", f"{'a' * 70}.example", "xn--", "1.2.3.4.5", "host:99999"])
@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("POLYGON_BASE_URL", "POLYGON_BASE_URL must be like https://"),
        ("AWS_ENDPOINT_URL_S3", "S3 cannot be used: the store's address must begin with http:// or https://, as in "),
    ],
)
def test_a_host_that_cannot_be_looked_up_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], variable: str, said: str, host: str
) -> None:
    assert refused_at_once(program, sandbox(), env={variable: f"https://{host}"}).startswith(said)


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


BUSYBOX = """
for argument; do
    case "$argument" in
        -o) printf "lzop: invalid option -- 'o'\\nBusyBox v1.36.1 multi-call binary.\\n\\nUsage: lzop\\n" >&2; exit 1;;
    esac
done
exec "$LZOP" "$@"
"""
SHAMS = {
    "busybox": (BUSYBOX, "lzop failed with exit code 1 while compressing lzop-check.csv: lzop: invalid option -- 'o'"),
    "nothing": ("exit 0", "lzop did not write lzop-check.csv.lzo"),
    "rubbish": ('[ "$1" = -t ] || echo rubbish > "$3"', "lzop-check.csv.lzo is not an lzop file"),
    "broken": ("kill -9 $$", "lzop was killed by signal 9 while compressing lzop-check.csv: no message"),
    "one-way": ('[ "$1" = -dc ] || exec "$LZOP" "$@"', "lzop does not give back what it compressed"),
}
"""What is called lzop and does not do its job, and what is said of it."""


@pytest.mark.parametrize("name", SHAMS)
def test_an_lzop_that_does_not_do_its_job_is_told(program: Program, sandbox: Callable[..., Sandbox], name: str) -> None:
    script, said = SHAMS[name]
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nLZOP={shlex.quote(LZOP)}\n{script}\n")
    command.chmod(0o755)
    env: dict[str, str | None] = {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    told = refused_at_once(program, sandbox(), env=env)
    assert told.startswith(f"{command} does not work: {said}")
    assert told.endswith("; BusyBox's knows too little), or --no-upload for CSVs only")
    checked = program("verify", "--prefix", "", "--deep", box=sandbox(), env=env)
    assert checked.error.startswith(f"polygon-async: error: {command} does not work: {said}")


def test_an_lzop_that_hangs_at_the_start_ends_with_the_program(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, begun = sandbox(), program.directory / "begun"
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\necho $$ > {begun}\nsleep 1000\n")
    command.chmod(0o755)
    env = {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    with program.running("--tickers", "QQ", *RANGE, box=box, env=env) as process:
        wait_until(lambda: begun.exists() and begun.read_text().endswith("\n"), process)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not Path(f"/proc/{begun.read_text().strip()}").exists()


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
        "polygon-async: error: another run is using output; wait for it to end, or give this one its own --output-dir"
    )
    assert [request.ticker for request in box.requests] == ["QQ"]
    box.set_troubles([])
    assert program("--tickers", "AAPL", *RANGE, box=box).code == 0
