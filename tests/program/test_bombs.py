"""Bodies that unpack to far more than any page fail their ticker at once, and take no more memory than a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from memory import run_watched
from trouble_cases import DAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

MIB = 512
"""What a bomb unpacks to; by doubling it would take more than that much again."""
MOST = 400
"""MiB that one of the program's processes may take."""


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_bomb_fails_its_ticker_at_once(processes: str, program: Program, sandbox: Callable[..., Sandbox]) -> None:
    troubles = [f"AAPL 2 bomb={MIB}", "MSFT 1 bomb_status=500"]
    box = sandbox(*troubles, page_size=300)
    days = ("--from", str(DAY), "--to", str(DAY), "--no-upload", "--json", "--rate", "unlimited")
    tickers = ("--tickers", "AAPL", "MSFT", "QQ", "--concurrency", "1")
    ended, memory = run_watched(program, *tickers, *days, "--processes", processes, box=box)
    assert ended.code == 1, ended.err
    assert memory < MOST, memory
    told = {failed["ticker"]: failed["error"] for failed in ended.summary["failed"]}
    words = "the body unpacks to more than 64 MiB, which no page needs [GET /v2/aggs/ticker/"
    assert told["AAPL"].startswith(f"{words}AAPL/")
    assert told["MSFT"].startswith(f"{words}MSFT/")
    assert [request.ticker for request in box.requests if request.trouble] == ["AAPL", "MSFT"], "asked for once"
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("kind", [f"bomb={MIB}", "bomb_status=503"])
def test_a_bomb_in_the_list_of_tickers_ends_the_command(
    kind: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(f"reference 1 {kind}")
    ended, memory = run_watched(program, "universe", "--output", "u.csv", "--json", "--rate", "unlimited", box=box)
    assert ended.code == 2
    assert json.loads(ended.out)["error"].startswith("the body unpacks to more than 64 MiB")
    assert (memory < MOST, len(box.requests)) == (True, 1)
    assert not (program.directory / "u.csv").exists()


def test_an_answer_that_says_nothing_is_asked_for_again(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("reference 1 no_count 1x", "reference 2 no_count 1x", page_size=10)
    ended = program("universe", "--rate", "unlimited", box=box)
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 17
    assert [request.page for request in box.requests] == [1, 1, 2, 2]


def test_a_refused_key_counts_whatever_its_body_unpacks_to(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("AAPL 1 bomb_status=401")
    days = ("--from", str(DAY), "--to", str(DAY), "--no-upload", "--rate", "unlimited")
    ended = program("--tickers", "AAPL", "MSFT", "--concurrency", "1", *days, box=box)
    assert ended.code == 2
    assert "the API does not accept the key in POLYGON_API_KEY (HTTP 401: the body unpacks to more" in ended.error
