"""`doctor` says in one line each what a download would meet, and leaves nothing behind."""

from __future__ import annotations

import datetime as dt
import os
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from door import door, refusal
from stored import stored

from polygon_async.model.units import today

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program
    from door import Answered, Arrived

    from polygon_async.sandbox import Sandbox


def found(ended: Ended) -> dict[str, tuple[str, str]]:
    """State and text of each check."""
    return {check["check"]: (check["state"], check["text"]) for check in ended.summary["checks"]}


def test_what_is_well_is_told_line_by_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("doctor", box=box)
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split(maxsplit=2) for line in ended.out.splitlines()]
    names = ["disk", "lzop", "network", "key", "history", "rate", "requests", "bucket", "clock"]
    assert [(state, name) for state, name, _ in lines] == [("ok", name) for name in names]
    told = {name: text for _, name, text in lines}
    assert told["history"].startswith("stocks: 20 years or more, back to 20")
    assert told["rate"].startswith("more than the free plan's 5/min")
    assert told["requests"] == f"{len(box.requests)} requests sent for these checks"
    assert told["bucket"].endswith("may list, write with tags, read, read tags, delete")
    # Nothing stays: no object, no directory, no learned rate.
    assert not stored(box)
    assert not (program.directory / "output").exists()
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "polygon_async" / "rates.json").exists()


def test_the_plan_is_found_out_with_few_requests(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(history_from=today() - dt.timedelta(days=730), rate_limit="5/min")
    ended = program("doctor", "--no-upload", "--json", box=box)
    checks = found(ended)
    assert ended.code == 0, ended.out
    assert checks["history"][1].startswith("stocks: 2 years, back to ")
    assert checks["rate"] == ("ok", "5/min, the free plan's, or near it; --rate auto keeps to it")
    assert sum(request.status == 429 for request in box.requests) == 1
    assert len(box.requests) <= 7
    assert not {"lzop", "bucket"} & set(checks)


def test_what_is_wrong_is_told_and_the_rest_is_still_checked(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    (program.directory / "file").write_text("")
    wrong = {"POLYGON_API_KEY": "not-the-key-of-this-box", "S3_BUCKET": "no-such-bucket", "PATH": "/nowhere"}
    ended = program("doctor", "--json", "--output-dir", "file/bars", box=box, env=wrong)
    checks = found(ended)
    assert ended.code == 1
    failed = {name for name, (state, _) in checks.items() if state == "failed"}
    assert failed == {"disk", "lzop", "key", "bucket"}
    assert checks["network"][0] == "ok"
    assert "the bucket does not exist" in checks["bucket"][1]
    assert "lzop is not installed" in checks["lzop"][1]
    assert "not-the-key-of-this-box" not in ended.out + ended.err


def test_without_a_key_and_without_a_network(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    without = found(program("doctor", "--no-upload", "--json", box=box, env={"POLYGON_API_KEY": None}))
    assert without["key"][0] == "failed"
    assert without["key"][1].startswith("POLYGON_API_KEY is not set")
    refused = program("doctor", "--rate", "often", box=box)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("method", "state", "words"),
    [("DELETE", "warning", "not: delete (DeleteObject)"), ("PUT", "failed", "write (PutObject)")],
)
def test_a_right_that_is_lacking_is_named(
    program: Program, sandbox: Callable[..., Sandbox], method: str, state: str, words: str
) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        return refusal(403, "AccessDenied") if asked.method == method else forward()

    box = sandbox()
    with door(box.environment["AWS_ENDPOINT_URL_S3"], rule) as address:
        ended = program("doctor", "--json", box=box, env={"AWS_ENDPOINT_URL_S3": address})
    checks = found(ended)
    assert (checks["bucket"][0], ended.code) == (state, int(state == "failed"))
    assert words in checks["bucket"][1]
    # What could not be removed is named.
    assert all(item.key in checks["bucket"][1] for item in stored(box))
    assert len(stored(box)) == (method == "DELETE")


def test_a_clock_that_is_off_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answered = forward()
        kept = {name: value for name, value in answered.headers.items() if name.lower() != "date"}
        length, date = str(len(answered.body)), formatdate(time.time() + 400, usegmt=True)
        return replace(answered, headers={**kept, "Content-Length": length, "Date": date})

    box = sandbox()
    with door(box.environment["POLYGON_BASE_URL"], rule) as address:
        ended = program("doctor", "--no-upload", "--json", box=box, env={"POLYGON_BASE_URL": address})
    state, text = found(ended)["clock"]
    assert (state, ended.code) == ("failed", 1)
    assert text.startswith("6 min ")
    assert " behind that of 127.0.0.1; set it" in text
