"""The pages of the sandbox: the truth, in the form of the real API."""

from __future__ import annotations

import base64
import datetime as dt

import massive
import pytest
from browser import DAY, SIZE, TICKER, Browser, bars_path, opened, rows

from polygon_async.sandbox import Sandbox
from polygon_async.sandbox.profile import MINUTE_MS


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
