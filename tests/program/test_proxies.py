"""Proxies: one that cannot be used is told before anything is asked, one that fails is told as what it is."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import pytest
from conftest import csv_of
from door import Answered, Arrived, door

from polygon_async.settings.environment import Environment
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 3)
RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited")
NO_UPLOAD = ("--tickers", "QQ", *RANGE, "--no-upload")
API = "https://api.polygon.io"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy")
NOBODY: dict[str, str | None] = dict.fromkeys(NAMES)
KEYED = {**NOBODY, "POLYGON_API_KEY": "a-key-of-mine", "POLYGON_BASE_URL": API}


def error_of(ended: Ended) -> str:
    """The one line that a program says which could not run."""
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    return ended.err.removeprefix("polygon-async: error: ").rstrip("\n")


@contextlib.contextmanager
def proxy(answer: Answered | None = None) -> Iterator[tuple[str, list[Arrived]]]:
    """A proxy's address and what came to it; it passes requests on to plain HTTP servers, or always answers so."""
    seen: list[Arrived] = []

    def rule(asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        seen.append(asked)
        return answer or fetched(asked)

    with door("http://127.0.0.1:9", rule) as address:
        yield address, seen


def fetched(asked: Arrived) -> Answered:
    """The answer of the server that a request to a proxy names."""
    target = urlsplit(asked.path)
    with contextlib.closing(http.client.HTTPConnection(target.hostname or "", target.port)) as connection:
        connection.request(asked.method, f"{target.path}?{target.query}", asked.body, asked.headers)
        answer = connection.getresponse()
        body = answer.read()
        return Answered(answer.status, {**dict(answer.getheaders()), "Content-Length": str(len(body))}, body)


def refuses(status: int) -> Answered:
    """An answer of a proxy's own."""
    body = b"<html>no</html>"
    return Answered(status, {"Content-Type": "text/html", "Content-Length": str(len(body))}, body)


# What cannot be used


UNUSABLE = [
    "http://user:pa#ss-w0rd@127.0.0.1:9",
    "http://user:pa/ss-w0rd@127.0.0.1:9",
    "http://user:pass-w0rd@127.0.0.1:99999",
    "http://tok3n-w0rd@127.0.0.1:port",
    "http://[",
    "http://:3128",
    "http://127.0.0.1:0",
    "http://us%3Aer:pass-w0rd@127.0.0.1:9",
    "http://user:pa\u20acss-w0rd@127.0.0.1:9",
    "http://127.0.0.1:9/path-w0rd",
    "http://127 .0.0.1:9",
    "socks5://user:pass-w0rd@127.0.0.1:9",
    "socks5h://127.0.0.1:9",
    "ftp://user:pass-w0rd@127.0.0.1:9",
    "http://user:password@127.0.0.1:0",
    "http://w0rd..corp:3128",
    "http://.w0rd:3128",
    f"http://{'w0rd' * 16}:3128",
    "http://xn--:1",
    "http://127.2.3.4.5:1",
    "http://\u2460:80",
    "   ",
]


@pytest.mark.parametrize("value", UNUSABLE)
def test_a_proxy_that_cannot_be_used_is_told_by_its_variable(program: Program, value: str) -> None:
    said = error_of(program(*NO_UPLOAD, env={**KEYED, "HTTPS_PROXY": value}))
    assert said.startswith("HTTPS_PROXY ")
    assert ("SOCKS" in said) is value.startswith("socks")
    assert "w0rd" not in said
    assert "127" not in said
    assert "[redacted]" not in said, "the advice is no secret"


@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY", "all_proxy"])
def test_every_spelling_of_the_variable_is_known(program: Program, variable: str) -> None:
    assert error_of(program(*NO_UPLOAD, env={**KEYED, variable: "http://["})).startswith(f"{variable} is not ")


def test_the_variables_may_stand_in_dotenv(program: Program) -> None:
    (program.directory / ".env").write_text("HTTPS_PROXY='http://user:pa#ss-w0rd@127.0.0.1:9'\n")
    said = error_of(program(*NO_UPLOAD, env=KEYED))
    assert said.startswith("HTTPS_PROXY is not ")
    assert "w0rd" not in said


@pytest.mark.parametrize("value", UNUSABLE)
def test_a_proxy_that_s3_cannot_use_is_told_by_its_variable(
    program: Program, sandbox: Callable[..., Sandbox], value: str
) -> None:
    """botocore reads the same variables, and takes whatever they hold for an HTTP proxy."""
    box = sandbox()
    variables = {**NOBODY, "NO_PROXY": "127.0.0.1", "HTTPS_PROXY": value, "AWS_ENDPOINT_URL_S3": None}
    said = error_of(program("--tickers", "QQ", *RANGE, box=box, env=variables))
    assert said.startswith("HTTPS_PROXY ")
    assert "w0rd" not in said
    assert box.requests == []


def test_what_is_not_used_is_not_looked_at(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    variables = {**NOBODY, "NO_PROXY": "127.0.0.1", "HTTP_PROXY": "http://[", "HTTPS_PROXY": "socks5://[:p"}
    ended = program("--tickers", "QQ", *RANGE, box=sandbox(), env=variables)
    assert ended.code == 0, ended.err


# What works


@pytest.mark.parametrize(
    ("variable", "userinfo"), [("HTTP_PROXY", ""), ("http_proxy", "us%40er:p@ss@"), ("ALL_PROXY", "t0ken@")]
)
def test_requests_go_through_the_proxy(
    program: Program, sandbox: Callable[..., Sandbox], variable: str, userinfo: str
) -> None:
    box = sandbox()
    with proxy() as (address, seen):
        named = address.replace("://", f"://{userinfo}")
        ended = program(*NO_UPLOAD, box=box, env={**NOBODY, variable: named, "NO_PROXY": ""})
    assert ended.code == 0, ended.err
    assert [asked.path for asked in seen] == [f"{box.base_url}{request.path_qs}" for request in box.requests]
    assert ("Proxy-Authorization" in seen[0].headers) is bool(userinfo)
    csv = program.directory / "output" / "QQ_historical.csv"
    assert csv.read_text() == csv_of(box.market.days("QQ", DAY, DAY))


# What fails


@pytest.mark.parametrize(
    ("status", "userinfo", "said"),
    [
        (407, "", "asks for credentials (HTTP 407); write them there, before the host, with a colon between them and"),
        (407, "user:password@", "does not accept its credentials (HTTP 407); write them there, before the host, with "),
        (403, "me:pass-w0rd@", "refuses to connect to {host} (HTTP 403); allow it there, or name it in NO_PROXY"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "HTTP_PROXY"])
def test_a_proxy_that_refuses_stops_the_run(
    program: Program, sandbox: Callable[..., Sandbox], status: int, userinfo: str, said: str, variable: str
) -> None:
    box = sandbox()
    base = API if variable == "HTTPS_PROXY" else box.base_url
    with proxy(refuses(status)) as (address, seen):
        named = address.replace("://", f"://{userinfo}")
        variables = {**NOBODY, variable: named, "NO_PROXY": "", "POLYGON_BASE_URL": base}
        flags = ("--tickers", "QQ", "AAPL", "--concurrency", "1", *RANGE, "--no-upload")
        ended = program(*flags, box=box, env=variables)
    assert ended.code == 2, ended.err
    told = said.format(host=urlsplit(base).hostname)
    assert ended.error.startswith(f"polygon-async: error: the proxy in {variable} {told}")
    assert "Traceback" not in ended.err
    assert "w0rd" not in ended.err + ended.out
    assert len(seen) == 1, "nothing is retried that cannot succeed"


@pytest.mark.parametrize(("status", "variable"), [(502, "HTTPS_PROXY"), (503, "HTTP_PROXY"), (504, "HTTPS_PROXY")])
def test_what_may_pass_at_a_proxy_is_retried_and_told_as_its_own(
    program: Program, sandbox: Callable[..., Sandbox], status: int, variable: str
) -> None:
    box = sandbox()
    base = API if variable == "HTTPS_PROXY" else box.base_url
    with proxy(refuses(status)) as (address, seen):
        variables = {**NOBODY, variable: address, "NO_PROXY": "", "POLYGON_BASE_URL": base}
        ended = program(*NO_UPLOAD, "--patience", "0.5", box=box, env=variables)
    assert ended.code == 1, ended.err
    assert f"QQ failed: the proxy in {variable} answers HTTP {status} (" in ended.err
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("no-such-proxy.invalid:3128", "the name of the proxy in HTTPS_PROXY cannot be resolved"),
        ("127.0.0.1:{deaf}", "no connection to the proxy in HTTPS_PROXY ("),
    ],
)
def test_a_proxy_that_cannot_be_reached_is_told_as_the_proxy(program: Program, host: str, said: str) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        named = f"http://me:pass-w0rd@{host.format(deaf=deaf.getsockname()[1])}"
        ended = program(*NO_UPLOAD, "--patience", "0", env={**KEYED, "HTTPS_PROXY": named})
    assert ended.code == 1, ended.err
    assert f"QQ failed: {said}" in ended.err
    for part in ("w0rd", "127.0.0.1", "no-such-proxy"):
        assert part not in ended.err + ended.out


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refuses(407), "the proxy in HTTPS_PROXY does not accept its credentials (HTTP 407)"),
        (refuses(403), "the proxy in HTTPS_PROXY refuses to connect to the store (HTTP 403)"),
        (refuses(502), "the proxy in HTTPS_PROXY answers HTTP 502"),
        (None, "the name of the proxy in HTTPS_PROXY cannot be resolved"),
    ],
    ids=["407", "403", "502", "no name"],
)
def test_a_proxy_that_fails_s3_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], answer: Answered | None, said: str
) -> None:
    box = sandbox()
    with proxy(answer) as (address, _):
        named = (address if answer else "http://no-such-proxy.invalid:3128").replace("://", "://me:pass-w0rd@")
        variables = {**NOBODY, "NO_PROXY": "127.0.0.1", "HTTPS_PROXY": named, "AWS_ENDPOINT_URL_S3": None}
        text = error_of(program("--tickers", "QQ", *RANGE, box=box, env=variables))
    assert text.startswith(f"the bucket {box.bucket} cannot be reached: {said}")
    assert "w0rd" not in text
    assert box.requests == []


# What is secret


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("http://alice-smith:p@ss@h:1", ["alice-smith", "p@ss", "alice-smith:p@ss"]),
        ("alice-smith:p%40ss%2Fw@h:1", ["alice-smith", "p%40ss%2Fw", "p@ss/w"]),
        ("http://alice-smith:pa#ss@h", ["alice-smith", "pa#ss"]),
        ("https://gh%70_tok3n@h", ["gh%70_tok3n", "ghp_tok3n"]),
        ("http://gh%70_tok3n:x@h", ["gh%70_tok3n", "ghp_tok3n"]),
        ("http://:only-pass@h", ["only-pass"]),
        ("socks5://alice-smith:[pass@h", ["alice-smith", "[pass"]),
        ("http://me:pass@h", ["me:pass", "//me:", "pass", "bWU6cGFzcw=="]),
    ],
)
@pytest.mark.parametrize("name", [*NAMES[:6], "AWS_ENDPOINT_URL_S3"])
def test_user_and_password_are_secret_however_they_are_spelt(name: str, value: str, parts: list[str]) -> None:
    redact = Redactor(Environment({}, {name: value}).secrets())
    for part in [value, *parts]:
        for spelt in (part, quote(part, safe=""), unquote(part)):
            shown = redact(f"before {spelt} after")
            assert not [each for each in parts if each in shown], shown
            assert shown.startswith("before ")
            assert shown.endswith(" after")


def test_no_rest_stays_where_two_secrets_overlap() -> None:
    redact = Redactor(Environment({"HTTPS_PROXY": "http://us:pa@h"}, {}).secrets())
    assert redact("see http://us:pa@h here") == "see http:[redacted]@h here"
    assert Redactor(["abcdabcd"])("abcdabcdabcd") == "[redacted]"


def test_a_short_name_does_not_blot_out_every_text() -> None:
    redact = Redactor(Environment({"HTTPS_PROXY": "http://me:pass-w0rd@h"}, {}).secrets())
    assert redact("the name of some host") == "the name of some host"
