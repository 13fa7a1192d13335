"""What is every ticker's trouble stops the run after the first tickers; what is some tickers' own does not."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from door import Answered, Arrived, door

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-03", "--to", "2026-03-03", "--rate", "unlimited", "--no-upload")
MANY = [f"T{number:03}" for number in range(200)]
PLAN = "the plan behind the key does not include this market or reach back to 2026-03-03"


def run(program: Program, box: Sandbox, *arguments: str, tickers: list[str], concurrency: int = 4) -> Ended:
    """A download of these tickers."""
    return program("--tickers", *tickers, *RANGE, "--concurrency", str(concurrency), *arguments, box=box)


def stopped(ended: Ended) -> str:
    """Why a run could not go on."""
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    return ended.error.removeprefix("polygon-async: error: ")


@pytest.mark.parametrize(
    ("trouble", "most", "said", "advice"),
    [
        ("redirect", 24, "HTTP 302: redirects are not followed; check POLYGON_BASE_URL", "check POLYGON_BASE_URL"),
        ("status=404", 24, "HTTP 404: 404 page not found", "check POLYGON_BASE_URL"),
        ("blocked", 24, "HTTP 403 from a gateway, not from the API itself", "a firewall or a gateway blocks this"),
        ("status=410", 24, "HTTP 410", "check POLYGON_BASE_URL"),
        ("plan403", 50, "HTTP 403: Your plan doesn't include this data timeframe", PLAN),
        ("not_authorized_200", 50, "the API answers NOT_AUTHORIZED", PLAN),
        ("not_found", 50, "HTTP 404: Ticker not found.", "check POLYGON_BASE_URL"),
        ("null_row", 50, "the answer does not have the shape of a page", "check POLYGON_BASE_URL"),
    ],
)
def test_the_same_trouble_of_the_first_tickers_stops_the_run(
    program: Program, sandbox: Callable[..., Sandbox], trouble: str, most: int, said: str, advice: str
) -> None:
    box = sandbox(f"* * {trouble}")
    ended = run(program, box, tickers=MANY)
    text = stopped(ended)
    assert text.startswith("the first ")
    assert f" tickers all failed in the same way, with none answered: {said}" in text
    assert f"; {advice}" in text
    assert 20 <= len(box.requests) <= most
    assert ("plan" in ended.err) is (advice == PLAN)
    assert len(box.requests) == (asked := len({request.ticker for request in box.requests}))
    assert f"0 of {len(MANY)} tickers done, {asked} failed, {len(MANY) - asked} not finished" in ended.out
    listed = (program.directory / "output" / "failed.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in listed) == MANY
    # What stands in its way is gone: the same command does the rest.
    box.set_troubles([])
    assert run(program, box, tickers=MANY[:30]).code == 0


def test_all_of_a_small_universe_have_to_fail(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* * blocked")
    assert stopped(run(program, box, tickers=MANY[:7])).startswith("the first 7 tickers all failed")
    assert len(box.requests) == 7


def test_very_few_fail_one_by_one(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    ended = run(program, sandbox("* * plan403"), tickers=MANY[:4])
    assert ended.code == 1
    assert "4 failed" in ended.out
    assert f"so far every ticker was refused with 403: {PLAN}" in ended.err


@pytest.mark.parametrize("good", [0, 19, 21, 60, 199])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_plan_without_some_of_the_tickers_does_not_stop_the_others(
    program: Program, sandbox: Callable[..., Sandbox], good: int, concurrency: int
) -> None:
    """Wherever in the universe those stand that it includes: here one in twenty, from the good one on."""
    included = {MANY[(good + step) % len(MANY)] for step in range(10)}
    box = sandbox(*(f"{ticker} * plan403" for ticker in MANY if ticker not in included))
    ended = run(program, box, tickers=MANY, concurrency=concurrency)
    assert ended.code == 1, ended.err
    assert {request.ticker for request in box.requests} == set(MANY)
    assert f"10 of {len(MANY)} tickers done" in ended.out


def test_a_plan_without_a_market_does_not_stop_the_others(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("I:* * plan403")
    indices = [f"I:T{number:03}" for number in range(150)]
    ended = run(program, box, tickers=[*indices, "AAPL"])
    assert ended.code == 1, ended.err
    assert "AAPL saved" in ended.err
    assert "1 of 151 tickers done" in ended.out


@pytest.mark.parametrize(
    ("trouble", "said", "advice"),
    [
        ("redirect", "HTTP 302: redirects are not followed; check POLYGON_BASE_URL", "check POLYGON_BASE_URL"),
        ("status=404", "HTTP 404: 404 page not found", "check POLYGON_BASE_URL"),
        ("blocked", "HTTP 403 from a gateway, not from the API itself", "a firewall or a gateway blocks this"),
        ("status=202", "HTTP 202 instead of a page", "check POLYGON_BASE_URL"),
    ],
)
def test_a_gateways_trouble_that_begins_in_the_middle_stops_the_run(
    program: Program, sandbox: Callable[..., Sandbox], trouble: str, said: str, advice: str
) -> None:
    box = sandbox(*(f"{ticker} * {trouble}" for ticker in MANY[40:]))
    ended = run(program, box, tickers=MANY)
    text = stopped(ended)
    assert re.match("the last 2[0-4] tickers all failed in the same way, with none answered since: ", text)
    assert said in text
    assert f"; {advice}" in text
    assert 60 <= len(box.requests) <= 64
    assert f"40 of {len(MANY)} tickers done, " in ended.out


def test_what_the_api_itself_refuses_side_by_side_never_stops_a_run_that_was_answered(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    troubles = {"not_found": MANY[1:40], "plan403": MANY[40:80], "status=400": MANY[81:120]}
    box = sandbox(*(f"{ticker} * {trouble}" for trouble, some in troubles.items() for ticker in some))
    ended = run(program, box, tickers=MANY[:122])
    assert (ended.code, len(box.requests)) == (1, 122), ended.err
    assert "4 of 122 tickers done, 118 failed" in ended.out


def test_a_gateway_that_refuses_some_tickers_among_others_does_not_stop_them(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(*(f"{ticker} * blocked" for number, ticker in enumerate(MANY[:90]) if number % 15))
    ended = run(program, box, tickers=MANY[:90])
    assert (ended.code, len(box.requests)) == (1, 90), ended.err
    assert "6 of 90 tickers done, 84 failed" in ended.out


REFERENCES = ("error code 1020, Ray %s", '{"message": "no route, see %s"}', "<html>Incident <b>%s</b></html>")


@pytest.mark.parametrize("page", REFERENCES)
@pytest.mark.parametrize(("status", "good"), [(403, 0), (404, 3)])
def test_a_gateways_pages_are_alike_whatever_number_they_have(
    program: Program, sandbox: Callable[..., Sandbox], page: str, status: int, good: int
) -> None:
    box = sandbox()
    numbers = map("".join, itertools.permutations("ghjkmnpq"))
    asked = []

    def rule(arrived: Arrived, forward: Callable[[], Answered]) -> Answered:
        asked.append(arrived.path)
        if len(asked) <= good:
            return forward()
        body = (page % next(numbers)).encode()
        return Answered(status, {"Content-Length": str(len(body))}, body)

    with door(box.base_url, rule) as url:
        ended = program("--tickers", *MANY, *RANGE, "--concurrency", "4", box=box, env={"POLYGON_BASE_URL": url})
    assert f"tickers all failed in the same way, with none answered{' since' if good else ''}: " in stopped(ended)
    assert 20 + good <= len(asked) <= 24 + good


def test_slow_answers_are_waited_for(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Refusals are quick; a page of bars that is under way meanwhile says that it is not everybody's trouble."""
    box = sandbox("T199 * latency=2", *(f"{ticker} * plan403" for ticker in MANY[:199]))
    ended = run(program, box, tickers=[MANY[199], *MANY[:199]])
    assert ended.code == 1, ended.err
    assert f"1 of {len(MANY)} tickers done" in ended.out


def test_a_slow_answer_to_a_request_from_before_is_saved_and_says_nothing_of_a_gateway(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("T199 * latency=2", *(f"{ticker} * blocked" for ticker in MANY[:199]))
    ended = run(program, box, tickers=[MANY[199], *MANY[:199]])
    assert "HTTP 403 from a gateway" in stopped(ended)
    assert f"1 of {len(MANY)} tickers done" in ended.out
    assert len(box.requests) <= 26


def test_other_failures_in_between_are_no_proof(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(*(f"{ticker} * {('blocked', 'redirect')[number % 2]}" for number, ticker in enumerate(MANY[:50])))
    ended = run(program, box, tickers=MANY[:50], concurrency=1)
    assert (ended.code, len(box.requests)) == (1, 50), ended.err


def test_what_earlier_runs_have_done_speaks_for_the_plan(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(*(f"{ticker} * plan403" for ticker in MANY[:60]))
    upload = [*RANGE[:-1], "--concurrency", "4"]
    assert program("--tickers", "AAPL", *MANY[:60], *upload, box=box).code == 1
    box.forget_requests()
    again = program("--tickers", "AAPL", *MANY[:60], *upload, box=box)
    assert (again.code, len(box.requests)) == (1, 60), again.err
