"""The troubles of the sandbox: each is what its line says."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from browser import DAY, SIZE, TICKER, Browser, Reply, bars_path, rows
from isal import igzip
from yarl import URL

from polygon_async.sandbox import Sandbox
from polygon_async.sandbox.profile import MINUTE_MS, day_start_ms
from polygon_async.sandbox.trouble import KINDS, describe_kinds, parse

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


async def ends_with_a_blank_next(browser: Browser) -> None:
    pages = [reply.page for reply in await browser.walk(PATH)]
    assert [bool(page["next_url"]) for page in pages] == [True] * (len(pages) - 1) + [False]
    assert pages[-1]["next_url"] == ""


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


async def next_skips_bars(browser: Browser) -> None:
    first, after = await second(browser)
    assert after.stamps[0] - first.stamps[-1] > 30 * MINUTE_MS


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


async def no_bar_can_be_so(browser: Browser) -> None:
    first = rows([await meet(browser)])[0]
    assert float(first.h) < float(first.l)
    assert float(first.v or "") < 0


async def is_leapt_over(browser: Browser) -> None:
    replies = await browser.walk(PATH)
    assert "results" not in replies[1].page
    truth = browser.box.market.days(TICKER, DAY, DAY)
    assert rows(replies) == truth[:SIZE] + truth[2 * SIZE :]


async def a_day_is_not_there(browser: Browser) -> None:
    first, second = (await browser.walk(bars_path(first=DAY, last=DAY + dt.timedelta(days=1)), most=2))[:2]
    assert (first.stamps, first.page["resultsCount"]) == ([], "0")
    assert second.stamps
    assert (await browser.get(bars_path(first=DAY + dt.timedelta(days=1), last=DAY + dt.timedelta(days=1)))).stamps


async def volumes_are_huge(browser: Browser) -> None:
    bars = rows([await meet(browser)])
    assert [bar.v for bar in bars[:2]] == ["1.23456789012345e+22", "100000000000000000000"]


async def vwap_is_outside(browser: Browser) -> None:
    bar = rows([await meet(browser)])[0]
    assert float(bar.vw) > float(bar.h)


def splits_are(shares: list[int]) -> Check:
    async def check(browser: Browser) -> None:
        reply = await browser.get("/v3/reference/splits?ticker=SPLITA")
        assert [row["split_to"] for row in json.loads(reply.body)["results"]] == shares

    return check


async def holds_the_key(browser: Browser) -> None:
    reply = await meet(browser)
    assert reply.status in {400, 500}
    assert browser.box.api_key in reply.page["error"]


def bursts_into(status: int, text: bytes, mib: int) -> Check:
    async def check(browser: Browser) -> None:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            reply = await Browser(browser.box, session).get(PATH)
        assert (reply.status, reply.headers["Content-Encoding"]) == (status, "gzip")
        assert len(reply.body) < mib * 1100 + 8000
        with igzip.open(io.BytesIO(reply.body)) as unpacked:  # type: ignore[no-untyped-call]  # isal has no type for it
            assert all(unpacked.read(2**20) == b" " * 2**20 for _ in range(mib))
            assert unpacked.read().startswith(text)

    return check


async def is_nested(browser: Browser) -> None:
    reply = await meet(browser)
    assert (reply.page["count"], reply.page["deep"]) == (str(SIZE), [[[]]])


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
    ("MSFT 1 blocked", answers_with(403, "<h1>403 Forbidden</h1>", Content_Type="text/html")),
    ("MSFT 1 not_found", answers_with(404, "Ticker not found.")),
    ("MSFT 1 not_authorized_200", answers_with(200, '"status":"NOT_AUTHORIZED"')),
    ("MSFT 1 error_200", answers_with(200, '"status":"ERROR"')),
    ("MSFT 1 exceeded_200", answers_with(200, "exceeded the maximum requests per minute")),
    ("MSFT 1 html_200", answers_with(200, "<html>", Content_Type="text/html")),
    ("MSFT 1 blank_200", answers_with(200, "", Content_Length="0")),
    ("MSFT 1 wrong_type", answers_with(200, '"ticker":"MSFT"', Content_Type="text/plain; charset=utf-8")),
    ("MSFT 1 bom", answers_with(200, '\ufeff{"ticker":"MSFT"', Content_Type="application/json")),
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
    ("MSFT 1 bomb=2", bursts_into(200, b'{"ticker":"MSFT"', 2)),
    ("MSFT 1 bomb_status=500", bursts_into(500, b'{"status":"ERROR"', 256)),
    ("MSFT 1 deep=3", is_nested),
    ("MSFT 1 no_count", answers_with(200, '{"status":"OK","request_id":"')),
    ("MSFT 1 stall", silence),
    ("MSFT 1 stall_body", silence),
    ("MSFT * latency=0.01", all_is_there),
    ("MSFT * drip=0.01", all_is_there),
    ("MSFT 1 empty", is_empty_without_next),
    ("MSFT 1 null_results", is_null),
    ("MSFT 2 empty_next", is_empty_and_goes_on),
    ("MSFT 2 hollow", is_leapt_over),
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
    ("MSFT 1 next_skip=30", next_skips_bars),
    ("MSFT * next_blank", ends_with_a_blank_next),
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
    (f"MSFT 1 late={DAY}", a_day_is_not_there),
    ("MSFT 1 impossible", no_bar_can_be_so),
    ("MSFT 1 vwap_outside", vwap_is_outside),
    ("splits 1 split_twice", splits_are([4, 4])),
    ("splits 1 split_differs", splits_are([4, 7])),
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


@pytest.mark.parametrize(
    "kind", ["overlap=3", "extra_rows", "duplicate", "next_key", "next_blank", "delayed", "wrong_type"]
)
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
