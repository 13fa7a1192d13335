"""What the sandbox refuses, and the plans that it plays."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from browser import DAY, TICKER, Browser, bars_path, opened, rows

from polygon_async.sandbox import Sandbox


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
        ("/v3/reference/dividends", 404, "404 page not found"),
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
