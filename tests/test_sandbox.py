"""The sandbox as its users meet it: real HTTP, real S3 requests, a real command."""

import base64
import contextlib
import datetime as dt
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import massive
import pytest
from botocore.exceptions import ClientError
from multidict import CIMultiDictProxy
from yarl import URL

from polygon_async.sandbox import Bar, Market, Sandbox
from polygon_async.sandbox.__main__ import main
from polygon_async.sandbox.profile import MINUTE_MS, asset_type, day_start_ms, profile
from polygon_async.sandbox.trouble import KINDS, describe_kinds, parse

DAY = dt.date(2026, 3, 3)
TICKER = "MSFT"
SIZE = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def page(self) -> dict[str, Any]:
        """The body, every number as its text."""
        page: dict[str, Any] = json.loads(self.body, parse_int=str, parse_float=str, parse_constant=str)
        return page

    @property
    def stamps(self) -> list[int]:
        """The bars' times."""
        return [int(row["t"]) for row in self.page.get("results") or []]


class Browser:
    """Asks a sandbox as a careless client would, keeping to its base."""

    def __init__(self, box: Sandbox, session: aiohttp.ClientSession) -> None:
        self.box, self.session = box, session

    async def get(self, path: str, **headers: str) -> Reply:
        url = URL(self.box.base_url + path, encoded=True)
        sent = {"Authorization": f"Bearer {self.box.api_key}", **headers}
        async with self.session.get(url, headers=sent, allow_redirects=False) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def walk(self, path: str, *, most: int = 60) -> list[Reply]:
        replies = [await self.get(path)]
        while len(replies) < most and (onward := replies[-1].page.get("next_url")):
            replies.append(await self.get(local(onward)))
        return replies


def local(next_url: str) -> str:
    """Path and query of a next_url."""
    parts = urlsplit(next_url)
    return f"{parts.path}?{parts.query}"


def bars_path(ticker: str = TICKER, first: object = DAY, last: object = DAY, query: str = f"limit={SIZE}") -> str:
    return f"/v2/aggs/ticker/{ticker}/range/1/minute/{first}/{last}?{query}"


def rows(replies: list[Reply]) -> list[Bar]:
    found = [row for reply in replies for row in reply.page.get("results") or []]
    return [Bar(**{**row, "t": int(row["t"])}) for row in found]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture
async def browser(shared: Sandbox) -> AsyncIterator[Browser]:
    shared.set_troubles([])
    shared.forget_requests()
    async with aiohttp.ClientSession() as session:
        yield Browser(shared, session)
    shared.set_troubles([])


@contextlib.asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Browser]:
    with Sandbox(**options) as box:
        async with aiohttp.ClientSession() as session:
            yield Browser(box, session)


# The market


@pytest.mark.parametrize("ticker", ["AAPL", "QQ", "X:BTCUSD", "C:EURUSD", "I:SPX", "O:SPY251219C00650000", "GAPPY"])
def test_any_part_of_a_range_is_that_part_of_the_whole(ticker: str) -> None:
    market, chance = Market(), random.Random(ticker)
    start, end = day_start_ms(ticker, dt.date(2025, 10, 30)), day_start_ms(ticker, dt.date(2025, 11, 5)) - 1
    whole = market.bars(ticker, start, end)
    assert [bar.t for bar in whole] == sorted({bar.t for bar in whole})
    for _ in range(10):
        first, last = sorted(chance.randrange(start, end) for _ in range(2))
        expected = [bar for bar in whole if first <= bar.t <= last]
        assert market.bars(ticker, first, last) == expected
        cut = market.cut(ticker, first, last, limit=7, descending=True)
        assert [json.loads(row)["t"] for row in cut.split()] == [bar.t for bar in expected[::-1][:7]]
        assert cut.more == (len(expected) > 7)


def test_bars_are_the_same_on_every_machine() -> None:
    bar = Market().days("AAPL", DAY, DAY)[0]
    assert (bar.t, bar.o, bar.h, bar.l, bar.c) == (1772528400000, "336.01", "336.07", "335.92", "335.94")
    assert (bar.v, bar.vw, bar.n, bar.otc) == ("181034", "336.0491", "974", False)


@pytest.mark.parametrize("ticker", ["AAPL", "PENNY", "X:BTCUSD", "C:EURUSD", "SPLIT", "O:SPY251219C00650000"])
@pytest.mark.parametrize("adjusted", [True, False])
def test_bars_are_possible(ticker: str, adjusted: bool) -> None:
    for bar in Market().days(ticker, DAY, DAY + dt.timedelta(days=3), adjusted=adjusted):
        low, high = float(bar.l), float(bar.h)
        assert 0 < low <= min(float(bar.o), float(bar.c)) <= max(float(bar.o), float(bar.c)) <= high
        assert not bar.vw or low <= float(bar.vw) <= high
        assert float(bar.v) > 0
        assert not bar.n or int(bar.n) > 0
        assert re.fullmatch(r"\d+(\.\d{1,6})?", bar.v)
        assert all(re.fullmatch(r"\d+(\.\d{1,4})?", text) for text in (bar.o, bar.h, bar.l, bar.c))


def test_numbers_come_in_all_forms() -> None:
    bars = Market().days("AAPL", DAY, DAY + dt.timedelta(days=9))
    assert any(bar.v.endswith(".0") for bar in bars)
    assert any("." not in bar.v for bar in bars)
    assert any(len(bar.v.partition(".")[2]) == 6 for bar in bars)
    assert any("." not in bar.c for bar in bars)


def test_sessions_follow_new_york_and_its_clocks() -> None:
    def first_and_last(day: dt.date) -> tuple[str, str]:
        stamps = [bar.t for bar in Market().days("AAPL", day, day)]
        ends = (dt.datetime.fromtimestamp(t / 1000, dt.UTC) for t in (min(stamps), max(stamps)))
        first, last = (f"{moment:%H:%M}" for moment in ends)
        return first[:4], last[:4]

    assert first_and_last(dt.date(2026, 3, 6)) == ("09:0", "00:5")
    assert first_and_last(dt.date(2026, 3, 9)) == ("08:0", "23:5")
    assert not Market().days("AAPL", dt.date(2026, 3, 7), dt.date(2026, 3, 8))
    assert Market().days("X:BTCUSD", dt.date(2026, 3, 7), dt.date(2026, 3, 8))
    friday = Market().days("C:EURUSD", dt.date(2026, 3, 6), dt.date(2026, 3, 8))
    hours = {dt.datetime.fromtimestamp(bar.t / 1000, dt.UTC).strftime("%a %H") for bar in friday}
    assert {"Fri 21", "Sun 21", "Sun 22"} <= hours
    assert not {hour for hour in hours if hour.startswith("Sat")} | ({"Fri 22", "Sun 20"} & hours)


def test_a_busy_ticker_fills_nine_tenths_of_a_day() -> None:
    assert 0.87 * 960 < len(Market().days("AAPL", DAY, DAY)) < 0.95 * 960


def test_names_decide() -> None:
    market, year = Market(), (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
    assert not market.days("NODATA7", *year)
    assert not market.days("X:NODATA", *year)
    late = market.days("LATE3", *year)
    assert day_start_ms("LATE3", dt.date(2025, 11, 3)) <= late[0].t < day_start_ms("LATE3", dt.date(2025, 11, 4))
    assert all(bar.otc for bar in market.days("OTCX", DAY, DAY))
    assert not any(bar.otc for bar in market.days("AAPL", DAY, DAY))
    gappy = market.days("GAPPY", DAY, DAY + dt.timedelta(days=5))
    assert {(bool(bar.vw), bool(bar.n)) for bar in gappy} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    assert {bar.v + bar.vw + bar.n for bar in market.days("I:SPX", DAY, DAY)} == {""}
    types = [asset_type(name) for name in ("X:A", "C:A", "I:A", "O:A", "A", "AX:B")]
    assert types == ["crypto", "forex", "indices", "options", "stocks", "stocks"]


def test_a_split_shows_in_unadjusted_prices_before_its_day() -> None:
    before, after = dt.date(2025, 6, 6), dt.date(2025, 6, 9)
    market = Market()
    for day, ratio in ((before, 4), (after, 1)):
        pairs = zip(market.days("SPLIT", day, day), market.days("SPLIT", day, day, adjusted=False), strict=True)
        assert all(round(float(a.c) * ratio, 4) == float(b.c) for a, b in pairs)
    assert not profile("MSFT").split


# Pages


@pytest.mark.parametrize("ticker", ["MSFT", "X:BTCUSD", "I:SPX", "BRK.B", "AMpB", "C:EURUSD"])
async def test_pages_hold_the_truth(browser: Browser, ticker: str) -> None:
    last = DAY + dt.timedelta(days=1)
    replies = await browser.walk(bars_path(ticker, DAY, last, "limit=251"), most=99)
    truth = browser.box.market.days(ticker, DAY, last)
    assert rows(replies) == truth
    assert len(replies) == -(-len(truth) // 251)
    assert [record.page for record in browser.box.requests] == list(range(1, len(replies) + 1))
    assert {record.ticker for record in browser.box.requests} == {ticker}


async def test_a_descending_walk_is_the_ascending_one_backwards(browser: Browser) -> None:
    replies = await browser.walk(bars_path(query=f"limit={SIZE}&sort=desc"))
    assert rows(replies) == browser.box.market.days(TICKER, DAY, DAY)[::-1]
    last = replies[0].stamps[-1]
    assert f"/{DAY}/{last - 1}?cursor={cursor('desc')}" in replies[0].page["next_url"]


def cursor(sort: str) -> str:
    return base64.urlsafe_b64encode(f"limit={SIZE}&sort={sort}".encode()).rstrip(b"=").decode()


async def test_an_answer_has_the_keys_of_the_real_one_in_their_order(browser: Browser) -> None:
    reply = await browser.get(bars_path())
    ends = ["status", "request_id", "count", "next_url"]
    assert list(reply.page) == ["ticker", "queryCount", "resultsCount", "adjusted", "results", *ends]
    assert list(reply.page["results"][0]) == ["v", "vw", "o", "c", "h", "l", "t", "n"]
    onward = f"/v2/aggs/ticker/MSFT/range/1/minute/{reply.stamps[-1] + MINUTE_MS}/{DAY}?cursor={cursor('asc')}"
    assert reply.page["next_url"] == "https://api.polygon.io" + onward
    assert reply.page["count"] == str(SIZE)
    assert reply.headers["X-Request-Id"] == reply.page["request_id"]
    assert reply.headers["Content-Type"] == "application/json"
    index = await browser.get(bars_path("I:SPX"))
    assert "adjusted" not in index.page
    assert list(index.page["results"][0]) == ["o", "c", "h", "l", "t"]
    empty = await browser.get(bars_path("NODATA"))
    assert list(empty.page) == ["ticker", "queryCount", "resultsCount", "adjusted", "status", "request_id"]


async def test_both_ends_are_inclusive_and_snapped(browser: Browser) -> None:
    truth = browser.box.market.days(TICKER, DAY, DAY)
    first, last = truth[3].t, truth[9].t
    for start, end in ((first, last), (first + 59_999, last + 59_999)):
        assert rows([await browser.get(bars_path(first=start, last=end))]) == truth[3:10]
    mixed = await browser.walk(bars_path(first=truth[-5].t, last=DAY))
    assert rows(mixed) == truth[-5:]


async def test_a_percent_encoded_ticker_is_the_same_ticker(browser: Browser) -> None:
    plain, encoded = [await browser.get(bars_path(ticker)) for ticker in ("X:BTCUSD", "X%3ABTCUSD")]
    assert plain.body == encoded.body


async def test_bodies_are_compressed_for_those_who_ask(browser: Browser) -> None:
    big, small = bars_path(last=DAY + dt.timedelta(days=2), query="limit=50000"), bars_path(query="limit=5")
    for accepted in ("gzip", "identity"):
        chunked = await browser.get(big, **{"Accept-Encoding": accepted})
        counted = await browser.get(small, **{"Accept-Encoding": accepted})
        assert chunked.headers["Transfer-Encoding"] == "chunked"
        assert int(counted.headers["Content-Length"]) <= len(counted.body)
        for reply in (chunked, counted):
            assert reply.headers.get("Content-Encoding", "identity") == accepted
    assert [record.headers["Accept-Encoding"] for record in browser.box.requests] == ["gzip"] * 2 + ["identity"] * 2


async def test_adjusted_holds_for_the_whole_chain() -> None:
    day = dt.date(2025, 6, 6)
    async with opened(page_size=200) as browser:
        replies = await browser.walk(bars_path("SPLIT", day, day, "adjusted=false"))
        assert len(replies) > 1
        assert {reply.page["adjusted"] for reply in replies} == {False}
        assert rows(replies) == browser.box.market.days("SPLIT", day, day, adjusted=False)


def test_the_official_client_reads_all_pages() -> None:
    with Sandbox(page_size=100) as box:
        client = massive.RESTClient(api_key=box.api_key, base=box.base_url, retries=0)
        found = list(client.list_aggs(TICKER, 1, "minute", str(DAY), str(DAY), limit=50_000))
        client.client.clear()
        truth = box.market.days(TICKER, DAY, DAY)
    assert [bar.timestamp for bar in found] == [bar.t for bar in truth]
    assert [bar.close for bar in found] == [float(bar.c) for bar in truth]
    assert {record.auth for record in box.requests} == {"bearer"}


# Refusals and plans


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (bars_path(first="2026-13-01"), 400, "Could not parse the time parameter: 'from'"),
        (bars_path(last="soon"), 400, "Could not parse the time parameter: 'to'"),
        (bars_path(last="2026-03-02"), 400, "The parameter 'to' cannot be a time that occurs before 'from'"),
        (bars_path(query="limit=none"), 400, "'limit'"),
        (bars_path(query="sort=up"), 400, "'sort'"),
        (bars_path(query="cursor=%C3%BC"), 400, "Invalid cursor"),
        (bars_path().replace("minute", "day"), 400, "1/day"),
        (bars_path().replace("/range/", "/RANGE/"), 404, "404 page not found"),
        ("/v3/reference/splits", 404, "404 page not found"),
    ],
)
async def test_a_bad_request_is_refused_as_the_api_does(browser: Browser, path: str, status: int, text: str) -> None:
    reply = await browser.get(path)
    assert (reply.status, text in reply.body.decode()) == (status, True)
    if status == 400:
        assert reply.page["status"] == "ERROR"
        assert re.fullmatch("[0-9a-f]{32}", reply.page["request_id"])


async def test_keys_are_checked_in_both_forms(browser: Browser) -> None:
    box = browser.box
    assert (await browser.get(bars_path())).status == 200
    assert (await browser.get(bars_path() + f"&apiKey={box.api_key}", Authorization="")).status == 200
    unknown = await browser.get(bars_path(), Authorization="Bearer nonsense")
    missing = await browser.get(bars_path(), Authorization="")
    assert (unknown.status, unknown.page["error"]) == (401, "Unknown API Key")
    assert (missing.status, missing.page["error"]) == (401, "API Key was not provided")
    assert [record.auth for record in box.requests] == ["bearer", "query", "bearer", "none"]
    assert [record.status for record in box.requests] == [200, 200, 401, 401]


async def test_a_plan_has_an_edge() -> None:
    async with opened(history_from=str(DAY)) as browser:
        early = DAY - dt.timedelta(days=4)
        before = await browser.get(bars_path(first=early, last=DAY - dt.timedelta(days=1)))
        across = await browser.walk(bars_path(first=early))
        assert (before.status, before.page["status"]) == (403, "NOT_AUTHORIZED")
        assert "timeframe" in before.page["message"]
        assert rows(across) == browser.box.market.days(TICKER, DAY, DAY)


async def test_a_plan_has_a_pace() -> None:
    async with opened(rate_limit="2/h") as browser:
        replies = [await browser.get(bars_path()) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[2].page["error"].startswith("You've exceeded the maximum requests per minute")


@pytest.mark.parametrize("rate", ["5", "5/day", "0/s", "x/s"])
def test_a_bad_rate_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="N/s, N/min or N/h"):
        Sandbox(rate_limit=rate)


# Troubles: one line each, and what a client meets

Check = Callable[[Browser], Any]
PATH = bars_path()


async def meet(browser: Browser) -> Reply:
    return await browser.get(PATH)


async def second(browser: Browser) -> tuple[Reply, Reply]:
    first, after = (await browser.walk(PATH, most=2))[:2]
    return first, after


def answers_with(status: int, text: str, **headers: str) -> Check:
    async def check(browser: Browser) -> None:
        reply = await meet(browser)
        assert reply.status == status
        assert text in reply.body.decode()
        assert headers.items() <= {name.replace("-", "_"): value for name, value in reply.headers.items()}.items()
        assert browser.box.requests[-1].status == status

    return check


def fails_with(problem: type[Exception]) -> Check:
    async def check(browser: Browser) -> None:
        with pytest.raises(problem):
            await meet(browser)

    return check


async def retry_after_is_a_date(browser: Browser) -> None:
    reply = await meet(browser)
    moment = dt.datetime.strptime(reply.headers["Retry-After"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=dt.UTC)
    assert 3500 < (moment - dt.datetime.now(dt.UTC)).total_seconds() <= 3600


async def silence(browser: Browser) -> None:
    url = URL(browser.box.base_url + PATH, encoded=True)
    patience = aiohttp.ClientTimeout(sock_read=0.1)
    headers = {"Authorization": f"Bearer {browser.box.api_key}"}
    with pytest.raises(aiohttp.SocketTimeoutError):
        async with browser.session.get(url, timeout=patience, headers=headers) as answer:
            await answer.read()


async def json_is_cut(browser: Browser) -> None:
    reply = await meet(browser)
    assert reply.body.startswith(b'{"ticker":"MSFT"')
    with pytest.raises(json.JSONDecodeError):
        _ = reply.page


async def all_is_there(browser: Browser) -> None:
    assert rows(await browser.walk(PATH)) == browser.box.market.days(TICKER, DAY, DAY)


async def is_empty_without_next(browser: Browser) -> None:
    reply = await meet(browser)
    assert (reply.page["resultsCount"], reply.page.get("results")) == ("0", None)
    assert "next_url" not in reply.page


async def is_null(browser: Browser) -> None:
    keys = {"status": "OK", "queryCount": "0", "resultsCount": "0", "adjusted": True, "results": None}
    assert (await meet(browser)).page == keys


async def is_empty_and_goes_on(browser: Browser) -> None:
    replies = await browser.walk(PATH)
    assert "results" not in replies[1].page
    assert rows(replies) == browser.box.market.days(TICKER, DAY, DAY)


def says(**values: object) -> Check:
    async def check(browser: Browser) -> None:
        page = (await meet(browser)).page
        assert values.items() <= page.items()
        assert page["count"] == str(SIZE)

    return check


async def repeats_itself(browser: Browser) -> None:
    replies = await browser.walk(PATH, most=6)
    assert len({reply.body for reply in replies[1:]}) == 1
    assert [record.page for record in browser.box.requests] == [1, 2, 2, 2, 2, 2]


async def goes_back(browser: Browser) -> None:
    replies = await browser.walk(PATH, most=7)
    assert replies[2].stamps == replies[0].stamps
    assert len(replies) == 7


async def goes_round(browser: Browser) -> None:
    replies = await browser.walk(PATH, most=8)
    first, after = replies[1].stamps, replies[2].stamps
    assert first != after
    assert [reply.stamps for reply in replies[1:]] == [first, after, first, after, first, after, first]


def leads_to(start: str) -> Check:
    async def check(browser: Browser) -> None:
        url = (await meet(browser)).page["next_url"]
        assert url.startswith(start)
        assert browser.box.api_key not in url

    return check


async def next_carries_the_key(browser: Browser) -> None:
    url = (await meet(browser)).page["next_url"]
    assert url.endswith(f"&apiKey={browser.box.api_key}")
    await all_is_there(browser)


async def has_one_row_more(browser: Browser) -> None:
    first, after = await second(browser)
    assert (len(first.stamps), len(after.stamps)) == (SIZE, SIZE + 1)
    await all_is_there(browser)


async def overlaps(browser: Browser) -> None:
    first, after = await second(browser)
    assert rows([after])[:3] == rows([first])[-3:]
    assert len(after.stamps) == SIZE + 3


async def contradicts(browser: Browser) -> None:
    first, after = await second(browser)
    last, again = rows([first])[-1], rows([after])[0]
    assert (last.t, last.o) == (again.t, again.o)
    assert last.c != again.c


async def has_a_bar_twice(browser: Browser) -> None:
    stamps = (await meet(browser)).stamps
    assert (stamps[0], len(stamps)) == (stamps[1], SIZE + 1)


async def is_out_of_order(browser: Browser) -> None:
    stamps = (await meet(browser)).stamps
    assert stamps != sorted(stamps)
    assert sorted(stamps) == [bar.t for bar in browser.box.market.days(TICKER, DAY, DAY)[:SIZE]]


async def begins_before_the_range(browser: Browser) -> None:
    assert (await second(browser))[1].stamps[0] == day_start_ms(TICKER, DAY) - MINUTE_MS


async def ends_beyond_the_range(browser: Browser) -> None:
    assert (await meet(browser)).stamps[-1] == day_start_ms(TICKER, DAY + dt.timedelta(days=1))


async def begins_with_a_stranger(browser: Browser) -> None:
    assert (await meet(browser)).page["results"][0]["T"] == "OTHER"


def one_bar_has(field: str, *values: object) -> Check:
    """Just one bar of the page has one of these values in a field (None first: it is absent)."""

    async def check(browser: Browser) -> None:
        page = json.loads((await meet(browser)).body, parse_constant=str)
        odd = [row.get(field, "absent") for row in page["results"] if not isinstance(row.get(field), int | float)]
        odd += [row[field] for row in page["results"] if row.get(field) is True]
        assert odd == list(values)

    return check


async def one_bar_is_text(browser: Browser) -> None:
    page = json.loads((await meet(browser)).body)
    odd = [row["c"] for row in page["results"] if isinstance(row["c"], str)]
    assert odd == [browser.box.market.days(TICKER, DAY, DAY)[SIZE // 2].c]


async def one_row_is_null(browser: Browser) -> None:
    assert [row for row in (await meet(browser)).page["results"] if row is None] == [None]


async def volumes_are_huge(browser: Browser) -> None:
    bars = rows([await meet(browser)])
    assert [bar.v for bar in bars[:2]] == ["1.23456789012345e+22", "100000000000000000000"]


async def vwap_is_outside(browser: Browser) -> None:
    bar = rows([await meet(browser)])[0]
    assert float(bar.vw) > float(bar.h)


async def holds_the_key(browser: Browser) -> None:
    reply = await meet(browser)
    assert reply.status in {400, 500}
    assert browser.box.api_key in reply.page["error"]


TROUBLES: list[tuple[str, Check]] = [
    ("MSFT 1 status=503", answers_with(503, "nginx", Content_Type="text/html")),
    ("MSFT 1 status=500", answers_with(500, '"status":"ERROR"', Content_Type="application/json")),
    ("MSFT 1 status=408", answers_with(408, '"status":"ERROR"')),
    ("MSFT 1 status=499", answers_with(499, "")),
    ("MSFT 1 status=504", answers_with(504, "504 Gateway Time-out")),
    ("MSFT 1 status=404", answers_with(404, "404 page not found")),
    ("MSFT 1 rate429", answers_with(429, "exceeded the maximum requests")),
    ("MSFT 1 rate429=17", answers_with(429, "exceeded", Retry_After="17")),
    ("MSFT 1 rate429date=3600", retry_after_is_a_date),
    ("MSFT 1 empty429", answers_with(429, "", Content_Length="0")),
    ("MSFT 1 plan403", answers_with(403, "doesn't include this data timeframe")),
    ("MSFT 1 not_found", answers_with(404, "Ticker not found.")),
    ("MSFT 1 not_authorized_200", answers_with(200, '"status":"NOT_AUTHORIZED"')),
    ("MSFT 1 error_200", answers_with(200, '"status":"ERROR"')),
    ("MSFT 1 html_200", answers_with(200, "<html>", Content_Type="text/html")),
    ("MSFT 1 blank_200", answers_with(200, "", Content_Length="0")),
    ("MSFT 1 wrong_type", answers_with(200, '"ticker":"MSFT"', Content_Type="text/plain; charset=utf-8")),
    (
        "MSFT 1 redirect=http://127.0.0.1:9",
        answers_with(302, "", Location=f"http://127.0.0.1:9{urlsplit(PATH).path}"),
    ),
    ("MSFT 1 reset", fails_with(aiohttp.ClientOSError)),
    ("MSFT 1 drop", fails_with(aiohttp.ClientPayloadError)),
    ("MSFT 1 drop_chunked", fails_with(aiohttp.ClientPayloadError)),
    ("MSFT 1 cut_gzip", json_is_cut),
    ("MSFT 1 bad_gzip", fails_with(aiohttp.ClientPayloadError)),
    ("MSFT 1 cut_json", json_is_cut),
    ("MSFT 1 stall", silence),
    ("MSFT 1 stall_body", silence),
    ("MSFT * latency=0.01", all_is_there),
    ("MSFT * drip=0.01", all_is_there),
    ("MSFT 1 empty", is_empty_without_next),
    ("MSFT 1 null_results", is_null),
    ("MSFT 2 empty_next", is_empty_and_goes_on),
    ("MSFT 1 status_word=PENDING", says(status="PENDING")),
    ("MSFT 1 delayed", says(status="DELAYED")),
    ("MSFT 2 next_same", repeats_itself),
    ("MSFT 2 next_back", goes_back),
    ("MSFT 2 next_loop", goes_round),
    ("MSFT 1 next_ticker", leads_to("https://api.polygon.io/v2/aggs/ticker/OTHER/range/1/minute/")),
    ("MSFT 1 next_path", leads_to("https://api.polygon.io/v2/other/ticker/MSFT/range/1/minute/")),
    (
        "MSFT 1 next_host=https://api.polygon.io:443:443",
        leads_to("https://api.polygon.io:443:443/v2/aggs/ticker/MSFT/"),
    ),
    ("MSFT * next_key", next_carries_the_key),
    ("MSFT 2 extra_rows", has_one_row_more),
    ("MSFT 2 overlap=3", overlaps),
    ("MSFT 2 contradict", contradicts),
    ("MSFT 1 duplicate", has_a_bar_twice),
    ("MSFT 1 disorder", is_out_of_order),
    ("MSFT 2 backwards", begins_before_the_range),
    ("MSFT 1 outside", ends_beyond_the_range),
    ("MSFT 1 other_ticker", says(ticker="OTHER")),
    ("MSFT 1 foreign_bar", begins_with_a_stranger),
    ("MSFT 1 adjusted_flip", says(adjusted=False)),
    ("MSFT 1 no_field=c", one_bar_has("c", "absent")),
    ("MSFT 1 text_field=c", one_bar_is_text),
    ("MSFT 1 null_field=v", one_bar_has("v", None)),
    ("MSFT 1 nan_field=t", one_bar_has("t", "NaN")),
    ("MSFT 1 bool_field=o", one_bar_has("o", True)),
    ("MSFT 1 null_row", one_row_is_null),
    ("MSFT 1 count_lie", says(resultsCount=str(SIZE + 1))),
    ("MSFT 1 huge", volumes_are_huge),
    ("MSFT 1 vwap_outside", vwap_is_outside),
    ("MSFT 1 key_echo", holds_the_key),
    ("MSFT 1 key_echo_500", holds_the_key),
]


@pytest.mark.parametrize(("line", "check"), TROUBLES, ids=[line.split(" ", 1)[1] for line, _ in TROUBLES])
async def test_a_trouble_is_what_its_line_says(browser: Browser, line: str, check: Check) -> None:
    browser.box.set_troubles([line])
    await check(browser)
    assert line in {record.trouble for record in browser.box.requests}


def test_every_kind_is_tried_and_described() -> None:
    assert {parse(line).kind for line, _ in TROUBLES} == {kind.name for kind in KINDS}
    assert len(describe_kinds().splitlines()) == len(KINDS)


@pytest.mark.parametrize("kind", ["overlap=3", "extra_rows", "duplicate", "next_key", "delayed", "wrong_type"])
async def test_benign_troubles_lose_no_bar(browser: Browser, kind: str) -> None:
    browser.box.set_troubles([f"* * {kind}"])
    found = rows(await browser.walk(PATH))
    assert list(dict.fromkeys(found)) == browser.box.market.days(TICKER, DAY, DAY)


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_empty_pages_everywhere_lose_no_bar(browser: Browser, sort: str) -> None:
    browser.box.set_troubles(["* 1 empty_next", "* 3 empty_next", "* 4 empty_next"])
    found = rows(await browser.walk(bars_path(query=f"limit=400&sort={sort}")))
    assert sorted(found, key=lambda bar: bar.t) == browser.box.market.days(TICKER, DAY, DAY)


async def test_a_trouble_counts_for_each_ticker_and_page(browser: Browser) -> None:
    browser.box.set_troubles(["M* * status=503 1x", "MSFT 1 status=500 1x", "* * latency=0"])
    first = [(await browser.get(PATH)).status for _ in range(3)]
    other = [(await browser.get(bars_path("MMM"))).status for _ in range(2)]
    untouched = await browser.get(bars_path("AAPL"))
    assert (first, other, untouched.status) == ([503, 500, 200], [503, 200], 200)
    assert browser.box.requests[0].trouble == "M* * status=503 1x; * * latency=0"


BAD_LINES = (
    "MSFT",
    "MSFT x status=503",
    "MSFT 0 reset",
    "MSFT 1 nonsense",
    "MSFT 1 status",
    "MSFT 1 status=wet",
    "MSFT 1 reset=3",
    "MSFT 1 reset 0x",
    "MSFT 1 latency=nan",
    "MSFT 1 overlap=0",
    "MSFT 1 reset 3x more",
)


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_refused_with_the_list_of_kinds(line: str) -> None:
    with pytest.raises(ValueError, match=r"MSFT.*status=CODE.*key_echo_500"):
        Sandbox(troubles=[line])


async def test_a_stop_does_not_wait_for_the_stalled() -> None:
    async with aiohttp.ClientSession() as session:
        with Sandbox(troubles=["* * stall_body"]) as box:
            headers = {"Authorization": f"Bearer {box.api_key}"}
            answer = await session.get(box.base_url + PATH, headers=headers)
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


# The store and the command


@pytest.fixture(scope="module")
def stored() -> Iterator[Sandbox]:
    with Sandbox(s3=True) as box:
        yield box


def test_the_store_keeps_what_it_is_given(stored: Sandbox) -> None:
    with contextlib.closing(stored.s3_client()) as client:
        client.put_object(Bucket=stored.bucket, Key="a/b", Body=b"text", Tagging="symbol=BRK.B")
        assert client.get_object_tagging(Bucket=stored.bucket, Key="a/b")["TagSet"] == [
            {"Key": "symbol", "Value": "BRK.B"}
        ]
    assert stored.bucket == "mochi-tickdata-historical"


def test_the_store_checks_signatures(stored: Sandbox) -> None:
    stored.s3.secret_key, right = "wrong", stored.s3.secret_key
    try:
        with (
            contextlib.closing(stored.s3_client()) as client,
            pytest.raises(ClientError, match="SignatureDoesNotMatch"),
        ):
            client.put_object(Bucket=stored.bucket, Key="c", Body=b"text")
    finally:
        stored.s3.secret_key = right


def test_a_store_can_be_shared(stored: Sandbox) -> None:
    with Sandbox(s3=stored.s3, bucket="another-bucket") as box, contextlib.closing(box.s3_client()) as client:
        assert box.environment["S3_BUCKET"] == "another-bucket"
        assert box.environment["AWS_ACCESS_KEY_ID"] == stored.environment["AWS_ACCESS_KEY_ID"]
        assert client.list_objects_v2(Bucket="another-bucket")["KeyCount"] == 0
    with contextlib.closing(stored.s3_client()) as client:
        assert client.list_buckets()["Buckets"]


CHILD = """
import json, os, sys, urllib.request
names = ("POLYGON_BASE_URL", "S3_BUCKET", "AWS_PROFILE", "MASSIVE_API_KEY", "NO_PROXY", "AWS_CA_BUNDLE")
url = os.environ["POLYGON_BASE_URL"] + "/v2/aggs/ticker/MSFT/range/1/minute/2026-03-03/2026-03-03"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["POLYGON_API_KEY"]})
try:
    status = urllib.request.urlopen(request).status
except urllib.error.HTTPError as refused:
    status = refused.code
print(json.dumps({"status": status, "stdin": sys.stdin.read()} | {name: os.environ.get(name) for name in names}))
sys.exit(7)
"""


def inside(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygon_async.sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **options)


def test_a_command_runs_inside() -> None:
    given = {**os.environ, "AWS_PROFILE": "p", "MASSIVE_API_KEY": "k", "NO_PROXY": "inner", "AWS_CA_BUNDLE": "/ca"}
    ran = inside("--trouble", "MSFT 1 status=503", "--", sys.executable, "-c", CHILD, env=given, input="typed")
    seen = json.loads(ran.stdout)
    assert seen.pop("POLYGON_BASE_URL").startswith("http://127.0.0.1:")
    assert seen == {
        "status": 503,
        "stdin": "typed",
        "S3_BUCKET": "mochi-tickdata-historical",
        "AWS_PROFILE": None,
        "MASSIVE_API_KEY": None,
        "NO_PROXY": "inner,127.0.0.1,localhost",
        "AWS_CA_BUNDLE": "/ca",
    }
    assert (ran.returncode, ran.stderr) == (7, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "COMMAND"),
        (["--trouble", "nonsense", "--", "true"], "TICKER PAGE KIND"),
        (["--page-size", "x", "--", "true"], "--page-size"),
        (["--page-size", "0", "--", "true"], "--page-size"),
        (["--history-from", "x", "--", "true"], "x"),
        (["--rate-limit", "5", "--", "true"], "N/min"),
        (["true"], "true"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    told = capsys.readouterr()
    assert (left.value.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert text in told.err


@pytest.mark.parametrize(("command", "code"), [("no-such-command-here", 127), (os.devnull, 126)])
def test_a_command_that_cannot_run_is_one_line(command: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--", command]) == code
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert command in told.err


def test_the_kinds_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-troubles"]) == 0
    assert capsys.readouterr() == (describe_kinds() + "\n", "")


def test_a_termination_is_passed_on_and_waited_for() -> None:
    waiting = "import signal, sys; print('up', flush=True); signal.pause()"
    command = [sys.executable, "-m", "polygon_async.sandbox", "--", sys.executable, "-c", waiting]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 128 + signal.SIGTERM


def test_the_listing_shows_objects_tags_and_lines(stored: Sandbox) -> None:
    packed = subprocess.run(["lzop", "-c"], input=b"a,b\n1,2\n", capture_output=True, check=True).stdout
    with contextlib.closing(stored.s3_client()) as client:
        client.put_object(Bucket=stored.bucket, Key="z.csv.lzo", Body=packed, Tagging="symbol=Z&date=2026-03-03")
    listing = [sys.executable, "-m", "polygon_async.sandbox.listing"]
    variables = {**os.environ, **stored.environment}
    shown = subprocess.run(listing, env=variables, capture_output=True, text=True, check=True).stdout
    assert f"z.csv.lzo  {len(packed)} bytes" in shown
    assert "symbol=Z date=2026-03-03" in shown
    assert shown.endswith("z.csv.lzo begins with\na,b\n1,2\n")
