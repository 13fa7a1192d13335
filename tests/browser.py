"""A careless client of the sandbox, and sandboxes for it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from polygon_async.sandbox import Bar, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from multidict import CIMultiDictProxy

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
