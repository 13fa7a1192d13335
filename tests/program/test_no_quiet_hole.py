"""Whatever the API holds back in passing is fetched or named: empty answers, cursors that jump, impossible values."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from door import Answered, Arrived, door
from hypothesis import given, settings
from hypothesis import strategies as st
from trouble_cases import download

from polygon_async import fetch_bars
from polygon_async.model.days import dates_of
from polygon_async.sandbox import Market, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

DAY = dt.date(2026, 3, 3)
FIRST, LAST = dt.date(2026, 3, 2), dt.date(2026, 3, 6)
SIZE = 300
PASSING = ("empty", "null_results", "empty_next", "other_ticker", "backwards", "exceeded_200", "next_skip=200")
"""What the API may do once to a page; with a page size of 300 the range has about ten."""
QQ = ("--tickers", "QQ", "--no-upload", "--rate", "unlimited", "--from", f"{FIRST}", "--to", f"{LAST}")


SESSIONS = [dt.date(2026, 3, day) for day in (2, 3, 4, 5, 6, 9)]
NEVER = len(SESSIONS) + 1


@settings(deadline=None, max_examples=8)
@given(st.lists(st.sampled_from([0, 0, 1, 2, 3, NEVER]), min_size=len(SESSIONS), max_size=len(SESSIONS)))
def test_a_session_that_comes_nights_late_arrives_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, lateness: list[int]
) -> None:
    """A night's run for each session, each of which has its bars so many nights late."""
    path, market = tmp_path_factory.mktemp("nights") / "QQ_historical.csv", Market()
    with pytest.MonkeyPatch.context() as patch, Sandbox() as box:
        patch.setenv("NO_PROXY", "127.0.0.1")
        for night, session in enumerate(SESSIONS):
            asked = SESSIONS[: night + 1]
            late = [day for day, by in zip(asked, lateness, strict=False) if asked.index(day) + by > night]
            box.set_troubles([f"QQ * late={','.join(map(str, late))}"] if late else [])
            # What nothing is held of would begin two years ago.
            flags = {"from": "last" if path.exists() else str(FIRST), "to": str(session)}
            summary = asyncio.run(download(box, ["QQ"], path.parent, side_by_side=False, **flags))
            arrived = [day for day in asked if day not in late]
            bars = [bar for day in arrived for bar in market.days("QQ", day, day)]
            assert (path.read_text() if path.exists() else csv_of([])) == csv_of(bars)
            # What is not there is named, as soon as there is a later bar: before that, it may have been delisted.
            named = [day for found in summary.coverages.values() for day in dates_of(found.missing)]
            if session in arrived:
                assert named == late


@settings(deadline=None, max_examples=15)
@given(
    st.dictionaries(st.integers(1, 12), st.sampled_from(PASSING), max_size=6),
    st.booleans(),
)
def test_what_passes_costs_no_bar(
    tmp_path_factory: pytest.TempPathFactory, troubles: dict[int, str], side_by_side: bool
) -> None:
    directory = tmp_path_factory.mktemp("holes")
    lines = [f"QQ {page} {kind}{'' if kind.startswith('next_skip') else ' 1x'}" for page, kind in troubles.items()]
    with pytest.MonkeyPatch.context() as patch, Sandbox(troubles=lines, page_size=SIZE) as box:
        patch.setenv("NO_PROXY", "127.0.0.1")
        flags = {"from": str(FIRST), "to": str(LAST), "patience": "60"}
        summary = asyncio.run(download(box, ["QQ"], directory, side_by_side=side_by_side, **flags))
    assert summary.exit_code == 0, summary.as_text()
    assert (directory / "QQ_historical.csv").read_text() == csv_of(Market().days("QQ", FIRST, LAST))


def test_bars_that_a_next_url_promised_and_nobody_has_are_named(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("QQ 3 null_results", page_size=SIZE)
    ended = program(*QQ, "--concurrency", "1", "--json", box=box)
    assert ended.code == 0, ended.err
    [doubt] = ended.summary["in_doubt"]
    assert doubt["ticker"] == "QQ"
    assert doubt["note"].startswith("a next_url promised bars from 2026-03-0")
    assert "QQ: a next_url promised bars" in ended.err
    text = program(*QQ, "--concurrency", "1", "--force", box=box)
    assert "  in doubt  QQ: a next_url promised bars" in text.out
    assert "and two requests found none" in (program.directory / "output" / "report.html").read_text()


@pytest.mark.parametrize("side_by_side", [False, True])
async def test_a_rest_that_is_promised_and_stays_empty_is_named(
    side_by_side: bool, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """The first page holds Monday's bars, and its next_url goes on within Tuesday."""
    late = ",".join(str(FIRST + dt.timedelta(days=days)) for days in range(1, 5))
    monday = Market().days("QQ", FIRST, FIRST)
    box = sandbox(f"QQ * late={late}", page_size=len(monday) + 30)
    summary = await download(
        box, ["QQ"], tmp_path, side_by_side=side_by_side, **{"from": str(FIRST), "to": str(LAST), "concurrency": "8"}
    )
    assert (tmp_path / "QQ_historical.csv").read_text() == csv_of(monday)
    notes = summary.counters.notes["QQ"]
    assert notes[0].startswith(f"a next_url promised bars from {FIRST + dt.timedelta(days=1)} ")
    assert "UTC on, and two requests found none" in notes[0]


async def test_bars_that_an_empty_page_leaps_over_are_named(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    box = sandbox("QQ 2 hollow", page_size=SIZE)
    summary = await download(box, ["QQ"], tmp_path, **{"from": str(FIRST), "to": str(LAST)}, side_by_side=False)
    whole = csv_of(box.market.days("QQ", FIRST, LAST)).splitlines()
    rows = (tmp_path / "QQ_historical.csv").read_text().splitlines()
    assert rows == whole[: SIZE + 1] + whole[2 * SIZE + 1 :]
    [note] = summary.counters.notes["QQ"]
    assert " UTC on, and two requests found none before 2026-03-0" in note


async def test_a_single_call_asks_again_too(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> None:
    box = sandbox("QQ 2 null_results 1x", "QQ 4 empty 1x", page_size=SIZE)
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    frame = await fetch_bars("QQ", FIRST, LAST, rate="unlimited")
    assert frame["timestamp"].tolist() == [bar.t for bar in box.market.days("QQ", FIRST, LAST)]


@pytest.mark.parametrize("page", [1, 3])
def test_minutes_that_a_next_url_skips_are_asked_for(
    page: int, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(f"QQ {page} next_skip=600", page_size=SIZE)
    ended = program(*QQ, "--concurrency", "1", box=box)
    assert ended.code == 0, ended.err
    truth = csv_of(box.market.days("QQ", FIRST, LAST))
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == truth


def test_a_part_that_goes_on_with_an_empty_answer_asks_again(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 4 stall 1x", page_size=SIZE)
    with program.running(*QQ, "--concurrency", "1", "--no-adjusted", box=box) as process:
        while not any(request.page == 4 for request in box.requests):
            assert process.poll() is None
        process.kill()
    box.set_troubles(["QQ 1 null_results 1x"])
    ended = program(*QQ, "--concurrency", "1", "--no-adjusted", box=box)
    assert ended.code == 0, ended.err
    assert "resum" in ended.err
    truth = csv_of(box.market.days("QQ", FIRST, LAST, adjusted=False))
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == truth


def test_what_is_in_doubt_or_odd_is_still_told_after_a_kill(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 1 impossible", "QQ 2 hollow", "QQ 3 stall 1x", page_size=SIZE)
    flags = (*QQ, "--concurrency", "1", "--no-adjusted")
    with program.running(*flags, box=box) as process:
        while not any(request.page == 3 for request in box.requests):
            assert process.poll() is None
        process.kill()
    # And what the last page before the kill promised does not come.
    box.set_troubles(["QQ * null_results"])
    ended = program(*flags, "--json", box=box)
    assert ended.code == 0, ended.err
    [odd] = ended.summary["odd"]
    assert odd == {"ticker": "QQ", "bars": {"high below low": 1, "negative price or volume": 1}}
    assert "two requests found none" in ended.summary["in_doubt"][0]["note"]


def test_impossible_values_are_kept_and_told_once(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 1 impossible", page_size=SIZE)
    ended = program(*QQ, "--concurrency", "1", "--json", box=box)
    assert ended.code == 0, ended.err
    [odd] = ended.summary["odd"]
    assert odd == {"ticker": "QQ", "bars": {"high below low": 1, "negative price or volume": 1}}
    rows = (program.directory / "output" / "QQ_historical.csv").read_text().splitlines()[1:]
    assert len(rows) == len(box.market.days("QQ", FIRST, LAST))
    text = program(*QQ, "--concurrency", "1", "--force", box=box)
    told = "QQ has bars with impossible values, kept as received: 1 with high below low, 1 with negative"
    assert text.out.count(told) == 1
    assert "impossible values" in (program.directory / "output" / "report.html").read_text()


@pytest.mark.parametrize("empty", ['"results":[],"resultsCount":0', '"results":null,"resultsCount":0', '"count":0'])
def test_an_empty_answer_that_speaks_of_too_many_requests_is_not_believed(
    program: Program, sandbox: Callable[..., Sandbox], empty: str
) -> None:
    box, asked = sandbox(), list[str]()
    said = "You've exceeded the maximum requests per minute, please wait"
    body = f'{{"status":"OK","request_id":"4711","message":"{said}",{empty}}}'.encode()

    def rule(arrived: Arrived, forward: Callable[[], Answered]) -> Answered:
        asked.append(arrived.path)
        answer = Answered(200, {"Content-Type": "application/json"}, body) if len(asked) <= 2 else forward()
        answer.headers["Content-Length"] = str(len(answer.body))
        return answer

    with door(box.base_url, rule) as url:
        if "resultsCount" in empty:
            ended = program(*QQ, box=box, env={"POLYGON_BASE_URL": url})
        else:
            ended = program("universe", "--type", "ETF", "--rate", "unlimited", box=box, env={"POLYGON_BASE_URL": url})
    assert (ended.code, len(asked)) == (0, 3), ended.err
    assert f"the answer, HTTP 200, says: {said} (request_id 4711)" in ended.err
