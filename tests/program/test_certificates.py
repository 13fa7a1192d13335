"""TLS: who is trusted, with and without a proxy, and what is said of a bundle that cannot be used."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from door import Answered, Arrived, door
from stored import stored
from tls import Authority, tunnel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 3)
FLAGS = ("--tickers", "QQ", "--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited", "--patience", "0")


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA of the test's own."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("by_proxy", [False, True], ids=["directly", "through a proxy"])
def test_api_and_store_are_asked_over_tls(
    program: Program, sandbox: Callable[..., Sandbox], authority: Authority, by_proxy: bool
) -> None:
    box = sandbox()
    own = authority.server("127.0.0.1")
    with (
        door(box.base_url, lambda _, forward: forward(), tls=own) as api,
        door(box.s3.endpoint, lambda _, forward: forward(), tls=own) as store,
        tunnel() as (proxy, asked),
    ):
        bundle = str(authority.bundle)
        variables = {"POLYGON_BASE_URL": api, "SSL_CERT_FILE": bundle}
        variables |= {"AWS_ENDPOINT_URL_S3": store, "AWS_CA_BUNDLE": bundle}
        variables |= {"HTTPS_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""} if by_proxy else {}
        ended = program(*FLAGS, box=box, env=variables)
        assert ended.code == 0, ended.err
        through = {f"CONNECT {address.removeprefix('https://')}" for address in (api, store)}
        assert set(asked) == (through if by_proxy else set())
    (item,) = stored(box)
    assert item.tags["symbol"] == "QQ"
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))


@pytest.mark.parametrize("by_proxy", [False, True], ids=["directly", "through a proxy"])
@pytest.mark.parametrize("known", [True, False], ids=["of another host", "of a CA that is not trusted"])
def test_a_store_with_a_certificate_that_is_not_its_own_is_not_talked_to(
    program: Program, sandbox: Callable[..., Sandbox], authority: Authority, tmp_path: Path, by_proxy: bool, known: bool
) -> None:
    """Whoever stands between could confirm objects that are nowhere."""
    box, seen = sandbox(), []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        seen.append(asked)
        return forward()

    other = authority if known else Authority(tmp_path)
    host = "elsewhere.example" if known else "127.0.0.1"
    with (
        door(box.s3.endpoint, rule, tls=other.server(host)) as store,
        tunnel() as (proxy, asked),
    ):
        variables = {"AWS_ENDPOINT_URL_S3": store, "AWS_CA_BUNDLE": str(authority.bundle)}
        variables |= {"HTTPS_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""} if by_proxy else {}
        ended = program(*FLAGS, box=box, env=variables)
        assert bool(asked) is by_proxy
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "cannot be reached: SSL validation failed for " in ended.error
    assert "CERTIFICATE_VERIFY_FAILED" in ended.error
    assert (seen, box.requests) == ([], [])


# Bundles


@pytest.mark.parametrize("kind", ["missing", "empty", "directory"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_bundle_that_cannot_be_used_is_told_by_its_variable(
    program: Program, sandbox: Callable[..., Sandbox], authority: Authority, variable: str, kind: str
) -> None:
    box = sandbox()
    bundle = program.directory / "bundle.pem"
    if kind == "empty":
        bundle.write_text("no certificate\n")
    elif kind == "directory":
        bundle.mkdir()
    with door(box.s3.endpoint, lambda _, forward: forward(), tls=authority.server("127.0.0.1")) as store:
        variables = {variable: str(bundle), "AWS_ENDPOINT_URL_S3": store}
        variables |= {"POLYGON_BASE_URL": "https://127.0.0.1:9"} if variable == "SSL_CERT_FILE" else {}
        ended = program(*FLAGS, box=box, env=variables)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    why = {"missing": "No such file or directory", "empty": "it contains no certificates", "directory": ""}[kind]
    assert f"{variable} names a bundle of CA certificates that cannot be used: {bundle} ({why}" in ended.error
    assert box.requests == []


def test_a_bundle_that_nobody_reads_is_no_trouble(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    ended = program(*FLAGS, "--no-upload", box=sandbox(), env={"SSL_CERT_FILE": "/none", "AWS_CA_BUNDLE": "/none"})
    assert ended.code == 0, ended.err
