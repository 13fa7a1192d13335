"""The sandbox as its users meet it: real HTTP, real S3 requests, a real command."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from polygon_async.sandbox import Sandbox
from polygon_async.sandbox.__main__ import main
from polygon_async.sandbox.trouble import describe_kinds

# The market


# Pages


# Refusals and plans


# Troubles: one line each, and what a client meets


# The store and the command


@pytest.fixture(scope="module")
def stored() -> Iterator[Sandbox]:
    with Sandbox(s3=True) as box:
        yield box


def test_the_store_keeps_what_it_is_given(stored: Sandbox) -> None:
    with contextlib.closing(stored.s3_client()) as client:
        client.put_object(Bucket=stored.bucket, Key="a/b", Body=b"text", Tagging="symbol=BRK.B")
        assert client.get_object_tagging(Bucket=stored.bucket, Key="a/b")["TagSet"] == [
            {"Key": "symbol", "Value": "BRK.B"}
        ]
    assert stored.bucket == "mochi-tickdata-historical"


def test_the_store_checks_signatures(stored: Sandbox) -> None:
    stored.s3.secret_key, right = "wrong", stored.s3.secret_key
    try:
        with (
            contextlib.closing(stored.s3_client()) as client,
            pytest.raises(ClientError, match="SignatureDoesNotMatch"),
        ):
            client.put_object(Bucket=stored.bucket, Key="c", Body=b"text")
    finally:
        stored.s3.secret_key = right


def test_a_store_can_be_shared(stored: Sandbox) -> None:
    with Sandbox(s3=stored.s3, bucket="another-bucket") as box, contextlib.closing(box.s3_client()) as client:
        assert box.environment["S3_BUCKET"] == "another-bucket"
        assert box.environment["AWS_ACCESS_KEY_ID"] == stored.environment["AWS_ACCESS_KEY_ID"]
        assert client.list_objects_v2(Bucket="another-bucket")["KeyCount"] == 0
    with contextlib.closing(stored.s3_client()) as client:
        assert client.list_buckets()["Buckets"]


CHILD = """
import json, os, sys, urllib.request
names = ("POLYGON_BASE_URL", "S3_BUCKET", "AWS_PROFILE", "MASSIVE_API_KEY", "NO_PROXY", "AWS_CA_BUNDLE")
url = os.environ["POLYGON_BASE_URL"] + "/v2/aggs/ticker/MSFT/range/1/minute/2026-03-03/2026-03-03"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["POLYGON_API_KEY"]})
try:
    status = urllib.request.urlopen(request).status
except urllib.error.HTTPError as refused:
    status = refused.code
print(json.dumps({"status": status, "stdin": sys.stdin.read()} | {name: os.environ.get(name) for name in names}))
sys.exit(7)
"""


def inside(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygon_async.sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **options)


def test_a_command_runs_inside() -> None:
    given = {**os.environ, "AWS_PROFILE": "p", "MASSIVE_API_KEY": "k", "NO_PROXY": "inner", "AWS_CA_BUNDLE": "/ca"}
    ran = inside("--trouble", "MSFT 1 status=503", "--", sys.executable, "-c", CHILD, env=given, input="typed")
    seen = json.loads(ran.stdout)
    assert seen.pop("POLYGON_BASE_URL").startswith("http://127.0.0.1:")
    assert seen == {
        "status": 503,
        "stdin": "typed",
        "S3_BUCKET": "mochi-tickdata-historical",
        "AWS_PROFILE": None,
        "MASSIVE_API_KEY": None,
        "NO_PROXY": "inner,127.0.0.1,localhost",
        "AWS_CA_BUNDLE": "/ca",
    }
    assert (ran.returncode, ran.stderr) == (7, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "COMMAND"),
        (["--trouble", "nonsense", "--", "true"], "TICKER PAGE KIND"),
        (["--page-size", "x", "--", "true"], "--page-size"),
        (["--page-size", "0", "--", "true"], "--page-size"),
        (["--history-from", "x", "--", "true"], "x"),
        (["--rate-limit", "5", "--", "true"], "N/min"),
        (["true"], "true"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    told = capsys.readouterr()
    assert (left.value.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert text in told.err


@pytest.mark.parametrize(("command", "code"), [("no-such-command-here", 127), (os.devnull, 126)])
def test_a_command_that_cannot_run_is_one_line(command: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--", command]) == code
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert command in told.err


def test_the_kinds_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-troubles"]) == 0
    assert capsys.readouterr() == (describe_kinds() + "\n", "")


def test_a_termination_is_passed_on_and_waited_for() -> None:
    waiting = "import signal, sys; print('up', flush=True); signal.pause()"
    command = [sys.executable, "-m", "polygon_async.sandbox", "--", sys.executable, "-c", waiting]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 128 + signal.SIGTERM


def test_the_listing_shows_objects_tags_and_lines(stored: Sandbox) -> None:
    packed = subprocess.run(["lzop", "-c"], input=b"a,b\n1,2\n", capture_output=True, check=True).stdout
    with contextlib.closing(stored.s3_client()) as client:
        client.put_object(Bucket=stored.bucket, Key="a.csv.lzo", Body=packed, Tagging="symbol=Z&date=2026-03-03")
    listing = [sys.executable, "-m", "polygon_async.sandbox.listing"]
    variables = {**os.environ, **stored.environment}
    shown = subprocess.run(listing, env=variables, capture_output=True, text=True, check=True).stdout
    assert f"a.csv.lzo  {len(packed)} bytes" in shown
    assert "symbol=Z date=2026-03-03" in shown
    assert shown.endswith("a.csv.lzo begins with\na,b\n1,2\n")
