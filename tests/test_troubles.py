"""Trouble in, outcome out: every kind that the sandbox plays, at a first and a later page, once and for ever."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of, names

from polygon_async.model.units import State
from polygon_async.polygon.pace import limiter, patience
from polygon_async.polygon.windows import Slots
from polygon_async.run import pipeline
from polygon_async.sandbox import Bar, Market, Sandbox
from polygon_async.sandbox.trouble import KINDS, parse
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from polygon_async.model.units import Outcome
    from polygon_async.report.summary import Summary
    from polygon_async.sandbox import Request

DAY = dt.date(2026, 3, 3)
SIZE = 60
LATER = 2
"""The later page at which troubles are played; there are more behind it."""


async def download(
    box: Sandbox, tickers: Sequence[str], directory: Path, *, side_by_side: bool = False, **flags: Any
) -> Summary:
    """A whole run against a sandbox, without an upload unless `upload` says so.

    Page after page, so that a page's number is what a trouble's line means by it, or with windows
    `side_by_side` where there is room, as users have it.
    """
    given = {
        "from": str(DAY), "to": str(DAY), "rate": "unlimited", "concurrency": "16", "processes": "0",
        "patience": "0.5", "stall_timeout": "30", "upload": False, "output_dir": str(directory),
    }  # fmt: skip
    settings = settings_from({**given, **flags}, Environment(box.environment, {}))
    asked = universe.from_names(list(tickers), universe.Defaults())
    with pytest.MonkeyPatch.context() as patch:
        if not side_by_side:
            patch.setattr(Slots, "has_room", lambda *_: False)
        return await pipeline.download(settings, asked, redact=Redactor([box.api_key]))


def lively_tickers() -> Iterator[str]:
    """Invented tickers that fill three to five pages on the day."""
    for number in itertools.count():
        symbol = f"T{number:04}"
        if 2 * SIZE < len(Market().days(symbol, DAY, DAY)) <= 5 * SIZE:
            yield symbol


# The table


@dataclass(frozen=True, slots=True)
class Way:
    """How a ticker ends, and whether a request of it is sent again."""

    state: State
    asked_again: bool = False
    whole: bool = True
    """False where the CSV holds what came before the trouble."""


UNHARMED = Way(State.SAVED)
HEALED = Way(State.SAVED, asked_again=True)
GIVEN_UP = Way(State.FAILED, asked_again=True)
FAILED = Way(State.FAILED)
EMPTY = Way(State.NO_DATA, asked_again=True)
BELIEVED = Way(State.SAVED, whole=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A trouble, and what it comes to: once and for ever, at a first and at a later page."""

    trouble: str
    once: Way
    ever: Way
    words: str = ""
    """What the error of a failed ticker says."""
    changed: Callable[[list[Bar]], list[Bar]] | None = None
    """What the trouble does to the bars of its page, where they are true all the same."""
    first: tuple[Way, Way] | None = None
    """Once and for ever at a first page, where that is another thing."""

    def way(self, page: int, times: str) -> Way:
        once, ever = self.first if self.first and page == 1 else (self.once, self.ever)
        return once if times else ever


def middle(bars: list[Bar], **values: Any) -> list[Bar]:
    at = len(bars) // 2
    return [*bars[:at], replace(bars[at], **values), *bars[at + 1 :]]


def huge(bars: list[Bar]) -> list[Bar]:
    volumes = ("1.23456789012345e+22", "100000000000000000000")
    return [*(replace(bar, v=volume) for bar, volume in zip(bars, volumes, strict=False)), *bars[2:]]


def vwap_outside(bars: list[Bar]) -> list[Bar]:
    return [replace(bars[0], vw=str(round(float(bars[0].h) + 0.0123, 4))), *bars[1:]]


benign = partial(Line, once=UNHARMED, ever=UNHARMED)
transient = partial(Line, once=HEALED, ever=GIVEN_UP)
final = partial(Line, once=FAILED, ever=FAILED)

LINES = [
    # What may pass when it is asked for again.
    transient("status=408", words="HTTP 408: Request timed out"),
    transient("status=499", words="HTTP 499"),
    transient("status=500", words="HTTP 500: Internal server error"),
    transient("status=502", words="HTTP 502"),
    transient("status=503", words="HTTP 503"),
    transient("status=504", words="HTTP 504"),
    transient("key_echo_500", words="HTTP 500: Internal server error while serving key [redacted]"),
    transient("rate429", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("rate429=1", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("rate429date=1.5", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("empty429", words="HTTP 429: without a word"),
    transient("html_200", words="HTTP 200 with text/html instead of JSON"),
    transient("wrong_type", words="HTTP 200 with text/plain; charset=utf-8 instead of JSON"),
    transient("blank_200", words="the body is not JSON"),
    transient("reset", words="broke"),
    transient("drop", words="the body was cut"),
    transient("drop_chunked", words="the body was cut"),
    transient("cut_gzip", words="the gzip body cannot be unpacked"),
    transient("bad_gzip", words="the gzip body cannot be unpacked"),
    transient("cut_json", words="the body is not JSON"),
    transient("nan_field=t", words="the body is not JSON"),
    transient("nan_field=vw", words="the body is not JSON"),
    transient("stall", words="the answer stalled"),
    transient("stall_body", words="the answer stalled"),
    # Answers that would be the same again.
    final("status=400", words="HTTP 400: Could not parse the time parameter"),
    final("status=403", words="HTTP 403: You are not entitled to this data"),
    final("status=404", words="HTTP 404: 404 page not found"),
    final("status=418", words="HTTP 418"),
    final("status=204", words="HTTP 204 is no page"),
    final("plan403", words="HTTP 403: Your plan doesn't include this data timeframe"),
    final("not_found", words="HTTP 404: Ticker not found."),
    final("key_echo", words="HTTP 400: Bad request for key [redacted]"),
    final("redirect=http://127.0.0.1:9", words="HTTP 302: redirects are not followed"),
    final("not_authorized_200", words="NOT_AUTHORIZED: You are not entitled to this data"),
    final("error_200", words="status is 'ERROR': Internal server error"),
    final("status_word=PENDING", words="status is 'PENDING'"),
    # Whole answers that cannot be true.
    final("next_same", words="the next_url does not move forward"),
    final("next_back", words="the next_url does not move forward"),
    final("next_loop", words="the next_url does not move forward"),
    final("next_ticker", words="the next_url names another path or ticker: /v2/aggs/ticker/OTHER/"),
    final("next_path", words="the next_url names another path or ticker: /v2/other/"),
    final("contradict", words="there are two different bars at", first=(UNHARMED, UNHARMED)),
    final("disorder", words="comes after"),
    final("backwards", words="lies outside 2026-03-03 to 2026-03-03"),
    final("outside", words="lies outside 2026-03-03 to 2026-03-03"),
    final("other_ticker", words="the answer is about 'OTHER'"),
    final("foreign_bar", words="is of 'OTHER'"),
    final("adjusted_flip", words="asked for adjusted=True, the answer says adjusted=False"),
    final("no_field=c", words="required field `c`"),
    final("no_field=t", words="required field `t`"),
    final("no_field=v", words="has no 'v'"),
    final("text_field=c", words="has 'c' = \""),
    final("text_field=t", words="Expected `int`, got `str`"),
    final("null_field=v", words="has 'v' = null"),
    final("bool_field=o", words="has 'o' = true"),
    final("null_row", words="Expected `object`, got `null`"),
    final("count_lie", words="bars and holds"),
    # What only looks like trouble.
    benign("latency=0.01"),
    benign("drip=0.1"),
    benign("delayed"),
    benign("empty_next"),
    benign("extra_rows"),
    benign("overlap"),
    benign("overlap=50"),
    benign("duplicate"),
    benign("next_host=https://api.polygon.io:443:443"),
    benign("next_host=ftp://elsewhere.invalid"),
    benign("next_host=http://"),
    benign("next_key"),
    benign("huge", changed=huge),
    benign("vwap_outside", changed=vwap_outside),
    benign("no_field=vw", changed=partial(middle, vw="")),
    benign("no_field=n", changed=partial(middle, n="")),
    benign("null_field=vw", changed=partial(middle, vw="")),
    benign("null_field=n", changed=partial(middle, n="")),
    # A whole range without a bar is asked for once more; the empty page of a longer one is believed.
    Line("empty", once=BELIEVED, ever=BELIEVED, first=(HEALED, EMPTY)),
    Line("null_results", once=BELIEVED, ever=BELIEVED, first=(HEALED, EMPTY)),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A line at a page, once or for ever, played to a ticker of its own."""

    line: Line
    page: int
    times: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.line.trouble} at page {self.page} {'once' if self.times else 'for ever'}"

    @property
    def trouble(self) -> str:
        """The line for the sandbox."""
        return f"{self.symbol} {self.page} {self.line.trouble} {self.times}".strip()

    @property
    def way(self) -> Way:
        """What is to come of it."""
        return self.line.way(self.page, self.times)

    def csv(self) -> str:
        """The CSV that it has to end with, where it ends well."""
        bars = Market().days(self.symbol, DAY, DAY)
        before, after = (self.page - 1) * SIZE, self.page * SIZE
        if not self.way.whole:
            return csv_of(bars[:before])
        change = self.line.changed or list
        return csv_of([*bars[:before], *change(bars[before:after]), *bars[after:]])


_SYMBOLS = lively_tickers()
CASES = [Case(line, page, times, next(_SYMBOLS)) for line in LINES for page in (1, LATER) for times in ("1x", "")]
BYSTANDERS = [next(_SYMBOLS) for _ in range(3)]


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
        for name, flags in {"others": {}, "429": {}, "stall": {"stall_timeout": "0.7"}}.items():
            cases = [case for case in CASES if group(case) == name]
            runs[name] = play(cases, tmp_path_factory.mktemp("troubles"), **flags)
        yield runs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_trouble_ends_as_its_line_says(played: dict[str, Played], case: Case) -> None:
    run = played[group(case)]
    outcome, asked = run.outcome(case.symbol), run.asked(case.symbol)
    assert outcome.state is case.way.state, outcome.error
    assert run.csv(case.symbol) == (case.csv() if case.way.state is State.SAVED else None)
    repeated = sum(asked.values()) - len(asked)
    assert (repeated > 0) is case.way.asked_again
    assert repeated == 1 or not (case.times and case.way.asked_again)
    if case.way.state is State.FAILED:
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
    assert dict(summary.counters.retries).keys() <= {"undecodable"}


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
