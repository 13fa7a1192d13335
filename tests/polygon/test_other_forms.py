"""Answers in other forms than the API's own are read as what they are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from door import Answered, Arrived, door
from trouble_cases import DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited", "--patience", "0")


@contextlib.contextmanager
def dressed(box: Sandbox, mark: str = "", kind: str = "") -> Iterator[dict[str, str | None]]:
    """The variables with which a sandbox's answers come behind a mark and under another Content-Type."""

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        del asked.headers["Accept-Encoding"]
        answered = forward()
        body = mark.encode() + answered.body
        named = {"Content-Type": kind} if kind else {}
        return Answered(answered.status, {**named, "Content-Length": str(len(body))}, body)

    with door(box.environment["POLYGON_BASE_URL"], rule) as address:
        yield {"POLYGON_BASE_URL": address}


@pytest.mark.parametrize("trouble", ["next_blank", "bom", "wrong_type"])
def test_all_bars_and_all_tickers_are_there(program: Program, sandbox: Callable[..., Sandbox], trouble: str) -> None:
    box = sandbox(f"* * {trouble}", page_size=300)
    ended = program("--tickers", "AAPL", "QQ", "--no-upload", *RANGE, box=box)
    assert ended.code == 0, ended.err
    for ticker in ("AAPL", "QQ"):
        csv = program.directory / "output" / f"{ticker}_historical.csv"
        assert csv.read_text() == csv_of(box.market.days(ticker, DAY, DAY))
    assert len({request.path_qs for request in box.requests}) == len(box.requests) > 3, "nothing was asked twice"
    listed = program("universe", "--type", "ETF", "--rate", "unlimited", "--patience", "0", box=box)
    assert (listed.code, listed.out.count("\n")) == (0, 7), listed.err


@pytest.mark.parametrize("kind", ["", "text/json", "application/octet-stream", "application/vnd.api+json"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\n "])
def test_json_is_read_whatever_it_is_called(
    program: Program, sandbox: Callable[..., Sandbox], kind: str, mark: str
) -> None:
    box = sandbox()
    with dressed(box, mark, kind) as variables:
        ended = program("--tickers", "QQ", "--no-upload", *RANGE, box=box, env=variables)
    assert ended.code == 0, ended.err
    csv = program.directory / "output" / "QQ_historical.csv"
    assert csv.read_text() == csv_of(box.market.days("QQ", DAY, DAY))


def test_an_error_behind_a_mark_is_told_in_its_own_words(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 1 status=400")
    with dressed(box, "\ufeff", "application/json") as variables:
        ended = program("--tickers", "QQ", "--no-upload", *RANGE, box=box, env=variables)
    assert "QQ failed: HTTP 400: Could not parse the time parameter" in ended.err
