"""S3 credentials that end, from wherever they come: the run stops with one line, and no ticker fails for them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from conftest import Ended
from door import Answered, Arrived, door, is_object_put
from stored import RANGE, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

START_URL = "https://sso.example.com/start"
NULLS = json.dumps({"Version": 1, "AccessKeyId": None, "SecretAccessKey": None, "Expiration": "2100-01-01T00:00:00Z"})
NO_KEYS: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def soon() -> dt.datetime:
    """An end so near that botocore renews before every request."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)


def answer(status: int, body: object, **headers: str) -> Answered:
    """An answer of AWS's other services."""
    text = (body if isinstance(body, str) else json.dumps(body)).encode()
    return Answered(status, {"Content-Length": str(len(text)), "Content-Type": "application/json", **headers}, text)


@dataclass(slots=True)
class Source:
    """Where credentials come from, until somebody ends it."""

    store: EmbeddedS3
    home: Path
    ended: bool = field(default=False, init=False)

    def sso(self, asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        """AWS's single sign-on."""
        if self.ended or asked.headers.get("x-amz-sso_bearer_token") != "valid":
            error = {"message": "Session token not found or invalid"}
            return answer(401, error, **{"x-amzn-errortype": "UnauthorizedException"})
        keys = {"accessKeyId": self.store.access_key, "secretAccessKey": self.store.secret_key}
        rest = {"sessionToken": "", "expiration": int(soon().timestamp() * 1000)}
        return answer(200, {"roleCredentials": keys | rest})

    def sts(self, _asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        """AWS's roles."""
        if self.ended:
            error = "<Error><Code>AccessDenied</Code><Message>no longer assumed</Message></Error>"
            return answer(403, f"<ErrorResponse>{error}</ErrorResponse>", **{"Content-Type": "text/xml"})
        keys = f"<AccessKeyId>{self.store.access_key}</AccessKeyId>"
        keys += f"<SecretAccessKey>{self.store.secret_key}</SecretAccessKey>"
        rest = f"<SessionToken></SessionToken><Expiration>{soon():%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        result = f"<AssumeRoleResult><Credentials>{keys}{rest}</Credentials></AssumeRoleResult>"
        return answer(200, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>", **{"Content-Type": "text/xml"})

    def write_helper(self) -> Path:
        """A program that prints credentials."""
        keys = {"AccessKeyId": self.store.access_key, "SecretAccessKey": self.store.secret_key}
        printed = json.dumps({"Version": 1, "Expiration": soon().isoformat(), **keys})
        helper = self.home / "helper"
        gone = shlex.quote(str(self.home / "gone"))
        helper.write_text(f"#!/bin/sh\nif [ -e {gone} ]; then . {gone}; fi\necho {shlex.quote(printed)}\n")
        helper.chmod(0o755)
        return helper

    def end(self, how: str) -> None:
        """Give out no more."""
        self.ended = True
        (self.home / "gone").write_text(how)


@pytest.fixture
def source(store: EmbeddedS3, tmp_path: Path) -> Source:
    """Credentials of the store's user."""
    return Source(store, tmp_path)


def write_config(home: Path, *lines: str, token_until: str = "2100-01-01T00:00:00Z") -> dict[str, str | None]:
    """AWS's configuration and a token of single sign-on; the variables that lead there."""
    config = home / "config"
    config.write_text("\n".join(("[default]", *lines)))
    cache = home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"startUrl": START_URL, "region": "us-east-1", "accessToken": "valid", "expiresAt": token_until}
    for name in (START_URL, "mine"):
        (cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(token))  # noqa: S324 (botocore's)
    return {"HOME": str(home), "AWS_CONFIG_FILE": str(config), **NO_KEYS}


SSO = (f"sso_start_url = {START_URL}", "sso_region = us-east-1", "sso_account_id = 1", "sso_role_name = uploader")


def run_until_they_end(program: Program, box: Sandbox, source: Source, how: str, env: dict[str, str | None]) -> Ended:
    """A run of eight tickers, one by one; the third upload is the first that finds no credentials."""
    puts: list[str] = []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answered = forward()
        if asked.method == "HEAD" and len(puts) == 2:
            source.end(how)
        puts.extend([asked.path] if is_object_put(asked) else [])
        return answered

    with door(source.store.endpoint, rule) as endpoint:
        tickers = [f"T{number}" for number in range(8)]
        flags = ("--concurrency", "1", *RANGE)
        return program("--tickers", *tickers, *flags, box=box, env={**env, "AWS_ENDPOINT_URL_S3": endpoint})


def assert_stopped(ended: Ended, box: Sandbox, said: str) -> None:
    """The third ticker found out, and nobody after it was tried."""
    assert ended.code == 2, ended.err
    assert said in ended.error
    assert ended.error.endswith("and start again")
    assert "Traceback" not in ended.err
    assert [line for line in ended.err.splitlines() if " WARNING " in line or " ERROR " in line] == []
    assert sorted(item.tags["symbol"] for item in stored(box)) == ["T0", "T1"]
    assert " failed" not in ended.out
    assert len(box.requests) < 8


def test_an_sso_session_that_ends_during_a_run_stops_it(
    program: Program, sandbox: Callable[..., Sandbox], source: Source
) -> None:
    box = sandbox()
    with door("http://127.0.0.1:9", source.sso) as sso:
        env = write_config(source.home, *SSO) | {"AWS_ENDPOINT_URL_SSO": sso}
        ended = run_until_they_end(program, box, source, "", env)
    assert_stopped(ended, box, "cannot get the S3 credentials: the SSO session has ended")


def test_a_role_that_may_no_longer_be_assumed_stops_a_run(
    program: Program, sandbox: Callable[..., Sandbox], source: Source
) -> None:
    box = sandbox()
    role = ("role_arn = arn:aws:iam::123456789012:role/uploader", "source_profile = user")
    user = ("[profile user]", "aws_access_key_id = AKIAUSER", "aws_secret_access_key = users-secret")
    with door("http://127.0.0.1:9", source.sts) as sts:
        env = write_config(source.home, *role, *user) | {"AWS_ENDPOINT_URL_STS": sts}
        ended = run_until_they_end(program, box, source, "", env)
    assert_stopped(ended, box, "cannot get the S3 credentials: AssumeRole: AccessDenied: no longer assumed")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("echo no more of them >&2; exit 1", "no more of them"),
        ("echo rubbish; exit 0", "cannot get the S3 credentials: "),
        ("""echo '{"Version": 1, "AccessKeyId": "half"}'; exit 0""", "SecretAccessKey"),
        ("echo '[]'; exit 0", "cannot get the S3 credentials: their source cannot be read ("),
        (f"echo {shlex.quote(NULLS)}; exit 0", "the S3 credentials have no access key"),
    ],
    ids=["fails", "rubbish", "half", "list", "nulls"],
)
def test_a_helper_that_gives_no_more_credentials_stops_a_run(
    program: Program, sandbox: Callable[..., Sandbox], source: Source, how: str, said: str
) -> None:
    box = sandbox()
    env = write_config(source.home, f"credential_process = {source.write_helper()}")
    assert_stopped(run_until_they_end(program, box, source, how, env), box, said)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (SSO, "SSO"),
        (("sso_session = mine", *SSO[2:], "[sso-session mine]", *SSO[:2]), "oken"),
    ],
    ids=["start-url", "session"],
)
def test_an_sso_session_that_has_ended_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    box = sandbox()
    env = write_config(tmp_path, *lines, token_until="2020-01-01T00:00:00Z")
    ended = program("--tickers", "QQ", *RANGE, box=box, env=env)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert said in ended.error
    assert ended.error.endswith("log in again (aws sso login) and start again")
    assert box.requests == []


HAD = "cannot get the S3 credentials: "
ROLE = ("role_arn = arn:aws:iam::123456789012:role/uploader", "source_profile = user")
USER = ("[profile user]", "aws_access_key_id = AKIAUSER", "aws_secret_access_key = users-secret")
WITH_DEVICE = (*ROLE, "mfa_serial = arn:aws:iam::123456789012:mfa/me", *USER)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("credential_process = /nope/helper",), f"{HAD}[Errno 2] No such file or directory: '/nope/helper'; check "),
        (("credential_process = /",), f"{HAD}[Errno 13] Permission denied: '/'; check "),
        (("credential_process = echo []",), f"{HAD}their source cannot be read ("),
        ((f"credential_process = echo {shlex.quote(NULLS)}",), "the S3 credentials have no access key; renew"),
        (("aws_access_key_id = AKIA",), f"{HAD}Partial credentials found in config-file, missing: aws_secret_acc"),
        ((ROLE[0], "source_profile = nobody"), f'{HAD}The source_profile "nobody" referenced in the profile '),
        (("s3 = often",), "S3 cannot be used: the AWS settings cannot be read ("),
    ],
    ids=["no helper", "no program", "list", "nulls", "half", "no profile", "no settings"],
)
def test_credentials_that_cannot_be_had_are_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE, box=box, env=write_config(tmp_path, *lines))
    assert (ended.code, ended.err.count("\n"), box.requests) == (2, 1, []), ended.err
    assert ended.error.startswith(f"polygon-async: error: {said}")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/"}, f"{HAD}Error when retrieving credentials from"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, f"{HAD}Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY; "),
        (
            {"AWS_ACCESS_KEY_ID": "A\nB", "AWS_SECRET_ACCESS_KEY": "a-secret"},
            "the access key of the S3 credentials has invalid char",
        ),
        ({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "a-s\udcff"}, "the secret key of the S3 credentials has "),
    ],
    ids=["metadata", "half", "line break", "no text"],
)
def test_credentials_of_variables_that_cannot_be_had_are_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], variables: dict[str, str], said: str
) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE, box=box, env=NO_KEYS | variables)
    assert (ended.code, ended.err.count("\n"), box.requests) == (2, 1, []), ended.err
    assert ended.error.startswith(f"polygon-async: error: {said}")


def run_without_terminal(program: Program, box: Sandbox, env: dict[str, str | None], typed: str) -> Ended:
    """A run in a session of its own, so that it cannot ask on the terminal of whoever runs the tests."""
    ended = subprocess.run(
        [sys.executable, "-m", "polygon_async", "--tickers", "QQ", "--no-reference", *RANGE],
        cwd=program.directory,
        env=program.environment(box, env),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_a_code_that_nobody_can_type_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox()
    ended = run_without_terminal(program, box, write_config(tmp_path, *WITH_DEVICE), "")
    assert (ended.code, ended.err.count("\n"), box.requests) == (2, 1, []), ended.err
    assert f"{HAD}the role asks for an MFA code, and there is no terminal" in ended.error


def test_a_code_may_come_from_standard_input(program: Program, sandbox: Callable[..., Sandbox], source: Source) -> None:
    box, bodies = sandbox(), []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        bodies.append(asked.body)
        return source.sts(asked, forward)

    with door("http://127.0.0.1:9", rule) as sts:
        env = write_config(source.home, *WITH_DEVICE) | {"AWS_ENDPOINT_URL_STS": sts}
        ended = run_without_terminal(program, box, env, "123456\n")
    assert [b"TokenCode=123456" in body for body in bodies] == [True]
    assert "terminal" not in ended.err
