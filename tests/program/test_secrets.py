"""The key goes into one header of requests to one host, and appears nowhere else; nor do other secrets."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from door import Answered, Arrived, door
from stored import decompressed, stored

from polygon_async.errors import one_line
from polygon_async.settings.environment import Environment
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")
TROUBLES = (
    "ECHO 1 key_echo",
    "ECHO2 2 key_echo",
    "ECHO500 1 key_echo_500",
    "ECHOED 1 key_echo_500 1x",
    "NEXT * next_key",
    "HOST 1 next_host=http://elsewhere.invalid",
    "REDIRECT 1 redirect",
    "PATH 1 next_path",
    "HTML 1 html_200",
    "RESET 1 reset 1x",
)


def spellings(secret: str) -> set[str]:
    """How a secret may stand in a text."""
    coded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], coded, secret[:12]}


def told(program: Program, box: Sandbox, ended: Ended) -> str:
    """All that a run has said, written and stored, as one text."""
    parts = [ended.out, ended.err]
    for path in program.directory.rglob("*"):
        parts.append(path.name)
        parts += [path.read_text(errors="replace")] if path.is_file() else []
    for item in stored(box):
        parts += [item.key, str(item.tags), str(item.metadata)]
        parts += [item.body.decode(errors="replace"), decompressed(item).decode()]
    return "\n".join(parts)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_said_written_or_stored(program: Program, sandbox: Callable[..., Sandbox], form: str) -> None:
    box = sandbox(*TROUBLES, page_size=150)
    tickers = list(dict.fromkeys(trouble.split()[0] for trouble in TROUBLES))
    arguments = ["--json"] if form == "json" else []
    ended = program("--tickers", *tickers, "--log-level", "debug", "--patience", "0.5", *arguments, *RANGE, box=box)
    assert ended.code == 1, ended.err
    text = told(program, box, ended)
    for secret in (box.api_key, box.s3.secret_key):
        for spelling in spellings(secret):
            assert spelling not in text
    # The troubles were met, or this would say little.
    assert "[redacted]" in text
    assert "ECHO500 failed" in ended.err
    assert {"ECHO", "ECHO2", "ECHO500", "REDIRECT", "PATH", "HTML"} == {
        line.split(",")[0] for line in (program.directory / "output" / "failed.csv").read_text().splitlines()[1:]
    }
    assert sorted(item.tags["symbol"] for item in stored(box)) == ["ECHOED", "HOST", "NEXT", "RESET"]


def test_the_key_goes_by_header_only(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("NEXT * next_key", page_size=100)
    assert program("--tickers", "NEXT", "QQ", "--no-upload", *RANGE, box=box).code == 0
    assert len(box.requests) > 4
    for request in box.requests:
        assert request.auth == "bearer"
        assert box.api_key not in request.path_qs
        assert "apiKey" not in request.path_qs


def test_the_key_never_reaches_another_host(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    seen: list[Arrived] = []

    def rule(asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        seen.append(asked)
        return Answered(200, {"Content-Length": "0"}, b"")

    with door(store.endpoint, rule) as elsewhere:
        box = sandbox(f"HOST * next_host={elsewhere}", f"REDIRECT 1 redirect={elsewhere}/v2", page_size=100)
        ended = program("--tickers", "HOST", "REDIRECT", "--no-upload", *RANGE, box=box)
    assert ended.code == 1
    assert "REDIRECT failed: HTTP 302: redirects are not followed" in ended.err
    assert "HOST saved" in ended.err
    assert seen == []


def test_the_store_is_not_told_the_key(program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3) -> None:
    box, seen = sandbox(), []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        seen.append(asked)
        return forward()

    with door(store.endpoint, rule) as endpoint:
        ended = program("--tickers", "QQ", *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 0, ended.err
    assert len(seen) > 3
    for asked in seen:
        assert box.api_key not in f"{asked}"
        assert box.s3.secret_key not in f"{asked}"


def test_a_secret_in_the_wrong_place_is_not_repeated(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    secret = "s3cr+et/w1th%strange&letters"
    (program.directory / ".env").write_text(f"MASSIVE_API_KEY='{secret}'\n")
    ended = program("--tickers", secret, "--bucket", secret, "--log-level", "debug", box=sandbox())
    assert ended.code == 2
    assert "[redacted]" in ended.err
    assert not [spelling for spelling in spellings(secret) if spelling in ended.err + ended.out]


@pytest.mark.parametrize("name", ["POLYGON_API_KEY", "MASSIVE_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_every_place_of_a_secret_is_known(name: str) -> None:
    environment = Environment({name: "s3cret/one"}, {name: "s3cret/two"})
    redact = Redactor(environment.secrets())
    text = "a=s3cret/one b=s3cret%2Ftwo c=s3cret%2Fone d=s3cret/two"
    assert redact(text) == "a=[redacted] b=[redacted] c=[redacted] d=[redacted]"


def test_a_proxys_password_is_not_said(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    proxy = "http://me:pr0xy-s3cret@127.0.0.1:9"
    variables: dict[str, str | None] = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
    ended = program("--tickers", "QQ", "--no-upload", "--patience", "0", *RANGE, box=box, env=variables)
    assert ended.code == 1, ended.err
    assert "pr0xy-s3cret" not in ended.out + ended.err
    assert box.requests == []


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_secret_that_was_cut_short_is_taken_out_as_well(cut: int) -> None:
    """A long text is shortened before it is redacted, perhaps in the middle of a secret."""
    secret = "Q7x_fT9-pLm2"
    shown = Redactor([secret])(one_line("x" * (299 - cut) + secret + " and more"))
    assert secret[:4] not in shown
    assert shown.endswith("…")
