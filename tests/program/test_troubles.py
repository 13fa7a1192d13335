"""Trouble in, outcome out: every kind that the sandbox plays, at a first and a later page, once and for ever."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of, names
from trouble_cases import BYSTANDERS, CASES, DAY, LATER, SIZE, Case, download

from polygon_async.model.states import OutcomeState
from polygon_async.polygon.pace import limiter, patience
from polygon_async.sandbox import Market, Sandbox
from polygon_async.sandbox.trouble import KINDS, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from polygon_async.model.units import Outcome
    from polygon_async.report.summary import Summary
    from polygon_async.sandbox import Request


# The table


def test_every_kind_of_trouble_has_its_line() -> None:
    assert {parse(case.trouble).kind for case in CASES} == {kind.name for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Played:
    """A run that is over, as its outcomes, its requests and its files."""

    summary: Summary
    requests: list[Request]
    directory: Path

    def outcome(self, symbol: str) -> Outcome:
        return next(outcome for outcome in self.summary.outcomes if outcome.unit.ticker.symbol == symbol)

    def csv(self, symbol: str) -> str | None:
        path = self.directory / f"{symbol}_historical.csv"
        return path.read_text() if path.exists() else None

    def asked(self, symbol: str) -> Counter[str]:
        """How often each page of a ticker was asked for."""
        return Counter(request.path_qs for request in self.requests if request.ticker == symbol)


def play(cases: Iterable[Case], directory: Path, **flags: Any) -> Played:
    """One run of these cases and a few tickers without trouble."""
    told = list(cases)
    with Sandbox(troubles=[case.trouble for case in told], page_size=SIZE) as box:
        symbols = [*(case.symbol for case in told), *BYSTANDERS]
        summary = asyncio.run(download(box, symbols, directory, **flags))
        return Played(summary, box.requests, directory)


def group(case: Case) -> str:
    """Which run a case is part of: stalls and pauses would keep the others waiting."""
    return next((name for name in ("stall", "429") if name in case.line.trouble), "others")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Played]]:
    """All cases, in three runs."""
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        # The growing pauses of 429s without a word, and how many of them are excused, would take minutes.
        patch.setattr(limiter, "_LONGEST_UNTOLD_PAUSE", 0.01)
        patch.setattr(patience, "_REFUSALS_IN_A_ROW", 1)
        for name, flags in {"others": {}, "429": {}, "stall": {"stall_timeout": "2.5"}}.items():
            cases = [case for case in CASES if group(case) == name]
            runs[name] = play(cases, tmp_path_factory.mktemp("troubles"), **flags)
        yield runs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_trouble_ends_as_its_line_says(played: dict[str, Played], case: Case) -> None:
    run = played[group(case)]
    outcome, asked = run.outcome(case.symbol), run.asked(case.symbol)
    assert outcome.state is case.way.state, outcome.error
    assert run.csv(case.symbol) == (case.csv() if case.way.state is OutcomeState.SAVED else None)
    repeated = sum(asked.values()) - len(asked)
    assert (repeated > 0) is case.way.asked_again
    assert repeated == 1 or not (case.times and case.way.asked_again)
    if case.way.state is OutcomeState.FAILED:
        assert case.line.words in (outcome.error or "")
        assert f"/v2/aggs/ticker/{case.symbol}/range/1/minute/" in (outcome.error or "")
        assert len(asked) == (case.page + 1 if case.line.trouble == "next_loop" else case.page)


def test_the_others_are_done(played: dict[str, Played]) -> None:
    for run in played.values():
        for symbol in BYSTANDERS:
            assert run.csv(symbol) == csv_of(Market().days(symbol, DAY, DAY))
            assert set(run.asked(symbol).values()) == {1}
        assert (run.summary.exit_code, run.summary.error, run.summary.unfinished) == (1, None, [])


def test_every_request_is_counted_and_every_retry_has_its_reason(played: dict[str, Played]) -> None:
    for run in played.values():
        counters = run.summary.counters
        assert counters.requests == len(run.requests)
        again = counters.requests - len({request.path_qs for request in run.requests})
        doubted = sum("empty" in request.trouble or "null_results" in request.trouble for request in run.requests)
        assert sum(counters.retries.values()) <= again <= sum(counters.retries.values()) + doubted
    assert set(played["429"].summary.counters.retries) == {"429"}
    assert set(played["stall"].summary.counters.retries) == {"stall"}
    reasons = {"408", "499", "500", "502", "503", "504", "undecodable", "cut body", "reset"}
    reasons |= {"untrue", "exceeded"}
    assert set(played["others"].summary.counters.retries) == reasons


def test_only_whole_files_and_lists_are_left(played: dict[str, Played]) -> None:
    for run in played.values():
        done = {f"{outcome.unit.ticker.symbol}_historical.csv" for outcome in run.summary.done}
        lists = {"failed.csv"} | ({"no_data.csv"} if run.summary.no_data else set())
        assert set(names(run.directory)) == done | lists


# What concerns the whole run


@pytest.mark.parametrize("page", [1, LATER])
async def test_a_key_that_is_refused_stops_the_run(page: int, sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    bad = CASES[0].symbol
    box = sandbox(f"{bad} {page} status=401", page_size=SIZE)
    summary = await download(box, [bad, *BYSTANDERS], tmp_path, concurrency="1")
    assert (summary.exit_code, len(summary.done), len(summary.unfinished)) == (2, 0, 4)
    assert "does not accept the key" in (summary.error or "")
    assert "Unknown API Key" in (summary.error or "")
    assert [request.page for request in box.requests] == list(range(1, page + 1))
    # What is whole of the first page can be gone on with.
    part = f"{bad}_{DAY}_{DAY}_adjusted.csv.part"
    assert names(tmp_path) == (["failed.csv"] if page == 1 else [part, "failed.csv"])


@pytest.mark.parametrize("trouble", ["rate429=1", "rate429date=2"])
async def test_a_pause_that_is_asked_for_is_kept_by_all(
    trouble: str, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    workers = 4
    symbols = [case.symbol for case in CASES[:8]]
    box = sandbox(f"{symbols[0]} {LATER} {trouble} 1x", page_size=SIZE, latency=0.03)
    summary = await download(box, symbols, tmp_path, concurrency=str(workers))
    assert (summary.exit_code, dict(summary.counters.retries)) == (0, {"429": 1})
    at = next(place for place, request in enumerate(box.requests) if request.status == 429)
    # What was on its way arrives; then nobody's request does for as long as was asked (a date counts whole seconds).
    near = [request.time for request in box.requests[at : at + 2 * workers]]
    assert max(after - before for before, after in itertools.pairwise(near)) > 0.95


async def test_within_patience_a_request_is_sent_as_often_as_it_takes(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    symbols = [case.symbol for case in CASES[:3]]
    box = sandbox(f"{symbols[0]} 1 status=503 1x", f"{symbols[1]} {LATER} status=500 2x", page_size=SIZE)
    summary = await download(box, symbols, tmp_path, patience="20")
    assert (summary.exit_code, dict(summary.counters.retries)) == (0, {"503": 1, "500": 2})
    assert summary.counters.requests == len(box.requests)


async def test_without_patience_a_request_is_sent_once(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    bad, *good = (case.symbol for case in CASES[:3])
    box = sandbox(f"{bad} 1 status=503 1x", page_size=SIZE)
    summary = await download(box, [bad, *good], tmp_path, patience="0")
    assert [outcome.unit.ticker.symbol for outcome in summary.failed] == [bad]
    assert sum(request.ticker == bad for request in box.requests) == 1
    assert not summary.counters.retries


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("cut_json 1x", None),
        ("cut_gzip 1x", None),
        ("next_host=https://x:1:2", None),
        ("cut_json", "the body is not JSON"),
        ("count_lie", "bars and holds"),
        ("status_word=NOT_AUTHORIZED", "NOT_AUTHORIZED"),
        ("null_row", "shape of a page"),
    ],
)
async def test_a_large_page_that_another_process_reads_ends_no_otherwise(
    trouble: str, words: str | None, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox(f"AAPL 2 {trouble}", page_size=6000)
    flags: dict[str, Any] = {"from": "2026-02-17", "processes": "1", "concurrency": "2"}
    summary = await download(box, ["AAPL", "MSFT"], tmp_path, **flags)
    truth = csv_of(box.market.days("AAPL", summary.start, summary.end))
    path = tmp_path / "AAPL_historical.csv"
    assert all((words or "no error") in (outcome.error or "") for outcome in summary.failed)
    assert (path.read_text() if path.exists() else None) == (None if words else truth)
    assert {outcome.unit.ticker.symbol for outcome in summary.done} == ({"MSFT"} if words else {"AAPL", "MSFT"})
    assert dict(summary.counters.retries).keys() <= {"undecodable", "untrue"}


async def test_one_bad_ticker_takes_nothing_from_the_others(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    bad, *good = (case.symbol for case in CASES[:4])
    box = sandbox(f"{bad} {LATER} status=404", page_size=SIZE)
    summary = await download(box, [bad, *good], tmp_path)
    assert (summary.exit_code, [outcome.unit.ticker.symbol for outcome in summary.failed]) == (1, [bad])
    files = {f"{symbol}_historical.csv" for symbol in good} | {"failed.csv"}
    assert set(names(tmp_path)) == files
    lines = (tmp_path / "failed.csv").read_text().splitlines()
    assert lines[0] == "ticker,error"
    assert lines[1].startswith(f"{bad},HTTP 404: 404 page not found")
