"""From page to page: forward only, to the range's own end, whatever the next_url looks like."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import itertools
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import csv_of
from hypothesis import given, settings
from hypothesis import strategies as st

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.page import BEGINNING, MOST_BARS, Border, Start
from polygon_async.errors import TickerError, WrongAnswer
from polygon_async.model.counters import Counters
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit
from polygon_async.polygon.bar_requests import PageRequest, first_request, next_request
from polygon_async.polygon.session import open_polygon
from polygon_async.polygon.walk import RestSource
from polygon_async.sandbox import Sandbox
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.bars.page import Page

DAY = dt.date(2026, 3, 3)
OPENS = 1772514000000
"""The first minute of DAY in New York, ms UTC."""
ENDS = OPENS + 86_400_000 - 1
MINUTE = 60_000
NOON = OPENS + 12 * 60 * MINUTE
CURSOR = base64.urlsafe_b64encode(b"limit=50000&sort=asc").rstrip(b"=").decode()
RANGE = "/v2/aggs/ticker/AAPL/range/1/minute/"


def unit_of(symbol: str = "AAPL", first: dt.date = DAY, last: dt.date = DAY, *, adjusted: bool = True) -> Unit:
    ticker = Ticker(symbol, AssetType.of(symbol), "unknown", "USD")
    return Unit(ticker=ticker, start=first, end=last, adjusted=adjusted)


def follow(
    next_url: str,
    *,
    unit: Unit | None = None,
    done: PageRequest | None = None,
    last: int | None = NOON,
    empty: bool = False,
) -> PageRequest | None:
    """What comes after a page whose last bar is at `last`."""
    unit = unit or unit_of()
    border = Border(last=last)
    return next_request(unit, done or first_request(unit), next_url=next_url, border=border, empty=empty)


def good_url(start: object = NOON + MINUTE, end: object = DAY, *, host: str = "https://api.polygon.io") -> str:
    return f"{host}{RANGE}{start}/{end}?cursor={CURSOR}"


# The first request


@pytest.mark.parametrize(
    ("symbol", "path"),
    [
        ("AAPL", "AAPL"),
        ("BRK.B", "BRK.B"),
        ("AMpB", "AMpB"),
        ("X:BTCUSD", "X:BTCUSD"),
        ("O:SPY251219C00650000", "O:SPY251219C00650000"),
        ("A+B", "A+B"),
        ("A=B", "A=B"),
        ("A_B-C", "A_B-C"),
    ],
)
def test_a_ticker_stands_in_the_path_as_it_is(symbol: str, path: str) -> None:
    request = first_request(unit_of(symbol))
    assert request.path == f"/v2/aggs/ticker/{path}/range/1/minute/2026-03-03/2026-03-03"


@pytest.mark.parametrize("adjusted", [True, False])
def test_the_first_request_asks_for_all_in_order(adjusted: bool) -> None:
    query = parse_qs(first_request(unit_of(adjusted=adjusted)).query)
    assert query == {"adjusted": [str(adjusted).lower()], "sort": ["asc"], "limit": ["50000"]}
    assert MOST_BARS == 50_000


# A next_url


HOSTS = [
    "https://api.polygon.io",
    "https://api.massive.com",
    "https://api.polygon.io:443:443",
    "https://api.polygon.io:99999",
    "http://api.polygon.io",
    "ftp://elsewhere.invalid",
    "https://user:password@elsewhere.invalid",
    "//elsewhere.invalid",
    "https://",
    "",
    "HTTPS://[::1]:80",
]


@pytest.mark.parametrize("host", HOSTS)
def test_only_path_and_query_of_a_next_url_count(host: str) -> None:
    request = follow(good_url(host=host))
    assert request is not None
    assert (request.path, request.query) == (f"{RANGE}{NOON + MINUTE}/2026-03-03", f"cursor={CURSOR}")


@pytest.mark.parametrize(
    ("start", "end"),
    [(NOON, DAY), (NOON + MINUTE, DAY), (ENDS, DAY), (NOON, ENDS), (NOON, ENDS - 999), (ENDS - MINUTE + 1, ENDS)],
)
def test_any_later_minute_up_to_the_same_end_is_forward(start: int, end: object) -> None:
    request = follow(good_url(start, end), last=(start // MINUTE - 1) * MINUTE)
    assert request is not None
    assert (request.path, request.start) == (f"{RANGE}{start}/{end}", start)


WRONG = {
    "another ticker": (good_url().replace("AAPL", "MSFT"), "names another path or ticker"),
    "another case": (good_url().replace("AAPL", "aapl"), "names another path or ticker"),
    "more than the ticker": (good_url().replace("AAPL", "AAPL/x"), "names another path or ticker"),
    "another path": (good_url().replace("/v2/", "/v3/"), "names another path or ticker"),
    "another timespan": (good_url().replace("/minute/", "/hour/"), "names another path or ticker"),
    "another multiplier": (good_url().replace("/1/minute/", "/5/minute/"), "names another path or ticker"),
    "a path around": (good_url().replace("/v2/", "/v2/../v2/"), "names another path or ticker"),
    "nothing": ("", "names another path or ticker"),
    "no url": ("https://[half", "is not a URL"),
    "same": (good_url(DAY), "does not move forward"),
    "same minute": (good_url(OPENS), "does not move forward"),
    "same minute, later": (good_url(OPENS + MINUTE - 1), "does not move forward"),
    "backwards": (good_url(OPENS - MINUTE), "does not move forward"),
    "the day before": (good_url("2026-03-02"), "does not move forward"),
    "an earlier end": (good_url(end=ENDS - MINUTE), "ends the range at"),
    "a later end": (good_url(end="2026-03-04"), "ends the range at"),
    "an end just before": (good_url(end=OPENS - 1), "ends the range at"),
    "no end": (good_url(end=""), "has no valid time"),
    "no start": (good_url(""), "has no valid time"),
    "a word": (good_url("today"), "has no valid time"),
    "a negative start": (good_url(-5), "has no valid time"),
    "other digits": (good_url("１７７２"), "has no valid time"),  # noqa: RUF001 (that they look like it is the point)
    "too many digits": (good_url("9" * 16), "has no valid time"),
}


@pytest.mark.parametrize(("next_url", "words"), WRONG.values(), ids=WRONG)
def test_a_next_url_that_leads_elsewhere_is_an_error(next_url: str, words: str) -> None:
    with pytest.raises(WrongAnswer, match=words):
        follow(next_url)


@pytest.mark.parametrize("start", [NOON + 2 * MINUTE, ENDS - MINUTE, ENDS + 1, ENDS + 1 + MINUTE, "2026-03-04"])
def test_minutes_that_a_next_url_skips_are_requested(start: object) -> None:
    request = follow(good_url(start))
    assert request is not None
    assert (request.path, request.start) == (f"{RANGE}{NOON + MINUTE}/{DAY}", NOON + MINUTE)


def test_a_next_url_that_skips_the_rest_behind_an_empty_page_is_an_error() -> None:
    with pytest.raises(WrongAnswer, match="skips the rest of the range"):
        follow(good_url("2026-03-04"), last=None, empty=True)


def test_behind_the_last_minute_there_is_nothing_left() -> None:
    assert follow(good_url(ENDS + 1), last=ENDS + 1 - MINUTE) is None
    request = follow(good_url(ENDS + 1), last=ENDS + 1 - 2 * MINUTE)
    assert request is not None
    assert request.start == ENDS + 1 - MINUTE


def test_an_empty_page_may_move_on_by_less_than_a_minute_but_not_stay() -> None:
    here = follow(good_url(OPENS), last=None, empty=True)
    assert here is not None
    assert here.start == OPENS
    with pytest.raises(WrongAnswer, match="does not move forward"):
        follow(good_url(OPENS), done=here, last=None, empty=True)
    later = follow(good_url(OPENS + 1), done=here, last=None, empty=True)
    assert later is not None
    with pytest.raises(WrongAnswer, match="does not move forward"):
        follow(good_url(OPENS), done=later, last=None, empty=True)


def test_two_pages_that_name_each_other_are_no_chain() -> None:
    one = follow(good_url(NOON))
    assert one is not None
    other = follow(good_url(NOON + MINUTE), done=one)
    assert other is not None
    with pytest.raises(WrongAnswer, match="does not move forward"):
        follow(good_url(NOON), done=other)


@pytest.mark.parametrize(
    ("query", "adjusted", "kept"),
    [
        ("cursor=abc", True, "cursor=abc"),
        ("cursor=abc", False, "cursor=abc&adjusted=false"),
        ("cursor=abc&adjusted=false", False, "cursor=abc&adjusted=false"),
        ("adjusted=false&cursor=abc&limit=5", False, "adjusted=false&cursor=abc&limit=5"),
        ("apiKey=s3cret&cursor=abc", True, "cursor=abc"),
        ("cursor=abc&APIKEY=s3cret&&x=%20y", True, "cursor=abc&x=%20y"),
        ("apiKey=s3cret", True, ""),
        ("", False, "adjusted=false"),
    ],
)
def test_a_query_goes_on_without_a_key_and_with_what_was_asked(query: str, adjusted: bool, kept: str) -> None:
    request = follow(f"https://api.polygon.io{RANGE}{NOON}/{DAY}?{query}", unit=unit_of(adjusted=adjusted))
    assert request is not None
    assert request.query == kept


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(max_size=40)
    | st.builds(
        "{}{}{}/{}?{}".format,
        st.sampled_from(HOSTS),
        st.sampled_from([RANGE, RANGE.replace("AAPL", "%41APL"), RANGE.replace("AAPL", "%2e%2e")]),
        st.integers(OPENS - MINUTE, ENDS + 2 * MINUTE) | st.text(max_size=8) | st.dates(),
        st.sampled_from([DAY, ENDS, ENDS - MINUTE, ""]) | st.text(max_size=8),
        st.text(max_size=30),
    )
)
def test_any_next_url_is_a_request_of_the_same_chain_or_an_own_error(text: str) -> None:
    try:
        request = follow(text, last=OPENS)
    except WrongAnswer as error:
        told = str(error)
    else:
        told = f"{request.path}?{request.query}" if request else ""
        assert request is None or (request.path.startswith(RANGE) and OPENS < request.start <= ENDS)
        # It becomes a request line: nothing in it may end that.
        assert told.isascii()
        assert " " not in told
    assert told.isprintable()


# Through HTTP


def walk(unit: Unit, box: Sandbox, start: Start = BEGINNING) -> tuple[bytes, Counters]:
    """The CSV of a unit's pages, and what was counted."""
    pages, counters = walked(unit, box, start)
    return CSV_HEADER + b"".join(page.rows for page in pages), counters


def walked(unit: Unit, box: Sandbox, start: Start) -> tuple[list[Page], Counters]:

    async def pages() -> tuple[list[Page], Counters]:
        flags = {"rate": "unlimited", "patience": "1", "stall_timeout": "30", "concurrency": "4", "processes": "0"}
        plain = settings_from(flags, Environment(box.environment, {}))
        counters = Counters()
        async with (
            Threads(2) as offload,
            open_polygon(plain.access, offload=offload, counters=counters) as polygon,
            contextlib.aclosing(RestSource(client=polygon, counters=counters).pages(unit, start)) as chain,
        ):
            return [page async for page in chain], counters

    return asyncio.run(pages())


SYMBOLS = [
    "AAPL",
    "PENNY",
    "GAPPY",
    "OTCX",
    "SPLIT",
    "AMpB",
    "BRK.B",
    "X:BTCUSD",
    "C:EURUSD",
    "I:SPX",
    "NODATA",
    "A+B=C",
]


@settings(deadline=None, max_examples=30)
@given(
    symbol=st.sampled_from(SYMBOLS),
    page_size=st.integers(40, 3000),
    first=st.dates(dt.date(2026, 2, 20), dt.date(2026, 3, 15)),
    days=st.integers(1, 3),
    adjusted=st.booleans(),
    trouble=st.sampled_from(["", "", "overlap=7", "duplicate", "extra_rows", "empty_next", "delayed", "next_key"]),
    page=st.sampled_from(["*", "1", "2", "3"]),
)
def test_the_pages_of_any_range_are_the_truth(
    symbol: str, page_size: int, first: dt.date, days: int, adjusted: bool, trouble: str, page: str
) -> None:
    unit = unit_of(symbol, first, first + dt.timedelta(days=days - 1), adjusted=adjusted)
    # Empty pages without end are an error, and the sandbox would never stop giving them.
    page = "2" if (trouble, page) == ("empty_next", "*") else page
    with Sandbox(page_size=page_size, troubles=[f"* {page} {trouble}"] if trouble else []) as box:
        csv, counters = walk(unit, box)
        # For forex a bar of either calendar's day counts; the sandbox has New York's.
        bars = box.market.days(symbol, unit.start, unit.end, adjusted=adjusted)
        assert csv.decode() == csv_of(bars)
        assert counters.requests == len(box.requests)
        assert all(request.auth == "bearer" for request in box.requests)
        requests = [request.path_qs for request in box.requests]
    if not bars:
        assert [start_of(request) for request in requests] == [0, 0]
        return
    # An answer without bars is requested once more.
    moments = [start_of(request) for request in dict.fromkeys(requests)]
    assert len(requests) - len(moments) <= (trouble == "empty_next")
    assert all(one < other for one, other in itertools.pairwise(moments))
    if trouble in {"", "duplicate", "overlap=7", "delayed", "next_key"}:
        assert len(moments) == -(-len(bars) // page_size)
    expected = (len(moments) - 1) * 7 if (trouble, page) == ("overlap=7", "*") else None
    assert expected in {None, counters.duplicates}


def start_of(path_qs: str) -> int:
    """Where a request begins: its `from` in ms, 0 for the first one's date."""
    text = urlsplit(path_qs).path.split("/")[-2]
    return int(text) if text.isdigit() else 0


@pytest.mark.parametrize("host", ["https://api.polygon.io:443:443", "gopher://x", "http://127.0.0.1:9", "https://"])
def test_a_broken_host_in_a_next_url_is_never_asked(host: str, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=100, next_host=host)
    csv, counters = walk(unit_of(), box)
    assert csv.decode() == csv_of(box.market.days("AAPL", DAY, DAY))
    assert (counters.requests, dict(counters.retries)) == (len(box.requests), {})


@pytest.mark.parametrize("trouble", [[], ["* * duplicate"]], ids=["plain", "with duplicates"])
def test_pages_go_on_wherever_one_has_ended(sandbox: Callable[..., Sandbox], trouble: list[str]) -> None:
    box = sandbox(*trouble, page_size=300)
    pages, _ = walked(unit_of(), box, BEGINNING)
    assert len(pages) > 2
    for number, page in enumerate(pages[:-1], start=1):
        rest, counters = walk(unit_of(), box, Start(moment=page.resume_at, border=page.border))
        assert rest == CSV_HEADER + b"".join(later.rows for later in pages[number:])
        assert counters.requests <= len(pages) - number + 1
    assert pages[-1].resume_at is None


def test_unadjusted_stays_unadjusted_on_later_pages(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=100)
    before_the_split = dt.date(2025, 6, 3)
    unit = unit_of("SPLIT", before_the_split, before_the_split, adjusted=False)
    csv, _ = walk(unit, box)
    bars = box.market.days("SPLIT", before_the_split, before_the_split, adjusted=False)
    assert csv.decode() == csv_of(bars)
    assert bars != box.market.days("SPLIT", before_the_split, before_the_split)
    assert len(box.requests) > 1
    assert all("adjusted=false" in request.path_qs for request in box.requests)


@pytest.mark.parametrize("symbol", ["X:BTCUSD", "AAPL"])
def test_an_empty_page_with_a_next_url_goes_on(symbol: str, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(*(f"{symbol} {page} empty_next" for page in (1, 2, 3, 5)), page_size=100)
    csv, _ = walk(unit_of(symbol), box)
    assert csv.decode() == csv_of(box.market.days(symbol, DAY, DAY))
    # Each of the four is requested once more before it is believed.
    asked = Counter(request.path_qs for request in box.requests)
    assert sorted(asked.values()) == [1] * (len(asked) - 4) + [2] * 4


@pytest.mark.parametrize("page", [1, 2, 3])
@pytest.mark.parametrize("kind", ["next_same", "next_back", "next_loop", "next_ticker", "next_path"])
def test_a_chain_that_leads_nowhere_ends(kind: str, page: int, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(f"AAPL {page} {kind}", page_size=100)
    with pytest.raises(TickerError, match=r"next_url .*/v2/aggs/ticker/AAPL/range/1/minute/"):
        walk(unit_of(), box)
    assert len(box.requests) <= page + 1
    assert all(request.ticker == "AAPL" for request in box.requests)
