"""HTTP requests for minute bars, or for the list of tickers, in; Polygon's answers (and the troubles asked for) out."""

import asyncio
import datetime as dt
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType

from aiohttp import web
from yarl import URL

from polygon_async.sandbox import answers, delivery, edits, query, reference, splits
from polygon_async.sandbox.answers import Answer, RefusedError
from polygon_async.sandbox.delivery import Parcel
from polygon_async.sandbox.edits import Scene
from polygon_async.sandbox.pages import Page, Pages
from polygon_async.sandbox.profile import day_start_ms
from polygon_async.sandbox.query import Query
from polygon_async.sandbox.reference import Reference
from polygon_async.sandbox.splits import SplitList
from polygon_async.sandbox.trouble import LATENCY, Trouble, Troubles

HOST = "https://api.polygon.io"
"""The host inside next_url: never this server's own, a client has to keep to its base."""

_REMEMBERED = 200_000
_NOTED_HEADERS = ("Accept-Encoding", "Accept", "Connection", "User-Agent")
_COMMON_HEADERS = {"Server": "nginx/1.19.2", "Vary": "Accept-Encoding"}
_UNITS = {"s": 1, "min": 60, "h": 3600}
_SILENT = {"reset", "stall"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received, and what was decided about it."""

    time: float
    """time.monotonic() at its arrival."""
    ticker: str
    page: int
    """Its place in its chain of pages, from 1."""
    path_qs: str
    """Path and query as received, an apiKey in it included."""
    auth: str
    """query, bearer, both or none."""
    status: int | None
    """None where no answer begins."""
    trouble: str
    """The lines that are played, joined by `; `."""
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which chain a next_url of ours leads."""

    page: int
    origin: Query
    adjusted: bool
    back: str | None = None
    """The next_url that this page must give, for a loop."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request gets."""

    place: Place | None
    """Its place in a chain of bars, if a next_url of ours led to it."""
    page: int
    due: tuple[Trouble, ...]
    outcome: Query | Answer
    """The page asked for, or the answer that it gets instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a key may do."""

    key: str
    history_from: dt.date | None
    requests: int | None
    """How many in any stretch of `window` seconds; None for as many as one likes."""
    window: float


def read_rate(text: str | None) -> tuple[int | None, float]:
    """Requests and seconds of a rate such as 5/min.

    Raises:
        ValueError: it is not of that form.
    """
    if text is None:
        return None, 1.0
    number, _, unit = text.partition("/")
    if unit not in _UNITS or not number.isdecimal() or int(number) < 1:
        message = f"rate limit {text!r} is not of the form N/s, N/min or N/h"
        raise ValueError(message)
    return int(number), float(_UNITS[unit])


def _address(url: URL) -> str:
    """What a next_url of ours is recognized by: its path and its cursor."""
    return f"{url.path}?{url.query.get('cursor', '')}"


class Polygon:
    """The API on a free local port, served by a thread of its own."""

    def __init__(self, plan: Plan, *, pages: Pages, latency: float = 0.0, troubles: Iterable[str] = ()) -> None:
        """Nothing is opened before start()."""
        self._plan = plan
        self._pages = pages
        self._reference = Reference(host=pages.host, page_size=pages.page_size, key=plan.key)
        self._splits = SplitList(pages.market.splits, host=pages.host, page_size=pages.page_size, key=plan.key)
        self._latency = latency
        self._troubles = Troubles(troubles)
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._answered: deque[float] = deque()
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def forget_requests(self) -> None:
        """Begin the list of requests anew."""
        with self._lock:
            self._requests.clear()

    def set_troubles(self, lines: Iterable[str]) -> None:
        """Replace the active troubles; what was played before does not count any more."""
        self._troubles = Troubles(lines)

    def start(self) -> int:
        """Open a free port on 127.0.0.1 and return it."""
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="sandbox-polygon", daemon=True)
        self._thread.start()
        return started.result()

    def stop(self) -> None:
        """End all exchanges and close the port."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._thread = self._loop = None

    def _run(self, started: "Future[int]") -> None:
        try:
            asyncio.run(self._serve(started))
        except OSError as problem:
            if started.done():
                raise
            started.set_exception(problem)

    async def _serve(self, started: "Future[int]") -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            started.set_result(runner.addresses[0][1])
            await self._closing.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        decision = self._decide(request, time.monotonic())
        latency = self._latency + sum(float(trouble.argument) for trouble in decision.due if trouble.kind == LATENCY)
        if latency:
            await asyncio.sleep(latency)
        others = [trouble for trouble in decision.due if trouble.kind != LATENCY]
        trouble = others[0] if others else None
        if isinstance(decision.outcome, Answer):
            return await self._send(request, decision.outcome, trouble)
        here = decision.place or Place(1, decision.outcome, decision.outcome.adjusted)
        if trouble or here.back:
            return await self._edited(request, decision.outcome, here, trouble)
        return await self._good(request, decision.outcome, here)

    def _decide(self, request: web.BaseRequest, arrived: float) -> Decision:
        """Find out what a request gets, and note it before anything is sent."""
        place = self._places.get(_address(request.rel_url))
        listed = _list_of(request.rel_url)
        lists = self._splits if listed == splits.SUBJECT else self._reference
        page = lists.page(request.rel_url) if listed else place.page if place else 1
        due: list[Trouble] = []
        outcome: Query | Answer
        try:
            subject = listed or query.segments(request.rel_url.raw_path)[0]
            self._admit(request, arrived)
            due = self._troubles.due(subject, page)
            outcome = self._played(request, due) or (
                lists.answer(request.rel_url, due) if listed else self._query(request, place)
            )
        except RefusedError as refused:
            outcome = refused.answer
        decision = Decision(place, page, tuple(due), outcome)
        self._note(request, arrived, decision)
        return decision

    def _admit(self, request: web.BaseRequest, arrived: float) -> None:
        """Check the key and the pace."""
        if request.method != "GET":
            raise RefusedError(answers.no_such_path())
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.query.get("apiKey", "")
        if not given:
            raise RefusedError(answers.missing_key())
        if given != self._plan.key:
            raise RefusedError(answers.unknown_key())
        if self._plan.requests is None:
            return
        while self._answered and self._answered[0] <= arrived - self._plan.window:
            self._answered.popleft()
        if len(self._answered) >= self._plan.requests:
            raise RefusedError(answers.too_fast())
        self._answered.append(arrived)

    def _played(self, request: web.BaseRequest, due: Iterable[Trouble]) -> Answer | None:
        """The answer of a trouble that needs no page."""
        path = request.rel_url.raw_path
        played = (answers.play(trouble.kind, trouble.argument, key=self._plan.key, path=path) for trouble in due)
        return next((answer for answer in played if answer), None)

    def _query(self, request: web.BaseRequest, place: Place | None) -> Query:
        adjusted = place.adjusted if place else True
        asked = query.read(request.rel_url.raw_path, request.query, adjusted=adjusted)
        if self._plan.history_from is None:
            return asked
        edge = day_start_ms(asked.ticker, self._plan.history_from)
        if asked.last_ms < edge:
            raise RefusedError(answers.outside_plan())
        return replace(asked, first_ms=max(asked.first_ms, edge))

    def _note(self, request: web.BaseRequest, arrived: float, decision: Decision) -> None:
        auth = ["bearer"] * bool(request.headers.get("Authorization")) + ["query"] * ("apiKey" in request.query)
        silent = any(trouble.kind in _SILENT for trouble in decision.due)
        status = decision.outcome.status if isinstance(decision.outcome, Answer) else 200
        noted = Request(
            time=arrived,
            ticker=_ticker(request.rel_url),
            page=decision.page,
            path_qs=request.raw_path,
            auth="both" if len(auth) > 1 else "".join(auth) or "none",
            status=None if silent else status,
            trouble="; ".join(trouble.text for trouble in decision.due),
            headers=MappingProxyType({name: request.headers.get(name, "") for name in _NOTED_HEADERS}),
        )
        with self._lock:
            self._requests.append(noted)

    async def _good(self, request: web.BaseRequest, asked: Query, here: Place) -> web.StreamResponse:
        """A page as it should be, from the cache where possible."""
        compressed = _takes_gzip(request)
        loop = asyncio.get_running_loop()
        page, body = await loop.run_in_executor(None, lambda: self._pages.body(asked, compressed=compressed))
        self._remember(page, here)
        answer = Answer(200, body, headers={"X-Request-Id": page.request_id})
        return await delivery.send(self._parcel(request, answer, compressed=compressed))

    async def _edited(
        self, request: web.BaseRequest, asked: Query, here: Place, trouble: Trouble | None
    ) -> web.StreamResponse:
        """A page with trouble in it or on its way."""
        page = await asyncio.get_running_loop().run_in_executor(None, self._pages.page, asked)
        own = f"{self._pages.host}{query.range_path(asked.ticker, asked.first, asked.last)}?cursor={asked.cursor}"
        if here.back:
            page = replace(page, next_url=here.back)
        if trouble and trouble.kind in edits.EDITS:
            scene = Scene(self._pages, asked, here.origin, self._plan.key, trouble.argument)
            page = edits.EDITS[trouble.kind](page, scene)
        # A page that is come back to is the same page again, so that its trouble can last.
        self._places[_next_address(own)] = here
        self._remember(page, here, back=own if trouble and trouble.kind == "next_loop" else None)
        answer = Answer(200, page.json(), headers={"X-Request-Id": page.request_id})
        return await self._send(request, answer, trouble)

    def _remember(self, page: Page, here: Place, *, back: str | None = None) -> None:
        """Know this page's next_url when it is asked for."""
        if not page.next_url:
            return
        address = _next_address(page.next_url)
        known = self._places.get(address)
        if known and known.origin == here.origin and known.page <= here.page:
            return
        self._places[address] = Place(here.page + 1, here.origin, here.adjusted, back)
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)

    async def _send(self, request: web.BaseRequest, answer: Answer, trouble: Trouble | None) -> web.StreamResponse:
        """Compress and deliver, with the trouble that concerns the way."""
        kind, argument = (trouble.kind, trouble.argument) if trouble else ("", "")
        wrapped = delivery.wrap(answer, kind, argument, gzip=_takes_gzip(request))
        parcel = self._parcel(request, wrapped[0], compressed=wrapped[1], argument=argument)
        return await delivery.DELIVERIES.get(kind, delivery.send)(parcel)

    def _parcel(self, request: web.BaseRequest, answer: Answer, *, compressed: bool, argument: str = "") -> Parcel:
        headers = {"Content-Type": answer.content_type, **_COMMON_HEADERS, **answer.headers}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        return Parcel(request, answer.status, answer.body, headers, argument, self._closing)


def _takes_gzip(request: web.BaseRequest) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _list_of(url: URL) -> str:
    """What stands for the list that an address asks; empty where it asks for bars."""
    return splits.SUBJECT if splits.is_asked(url) else reference.subject(url)


def _ticker(url: URL) -> str:
    """The ticker of a path of the form /v2/aggs/ticker/T/..., what stands for the list, else nothing."""
    try:
        return _list_of(url) or query.segments(url.raw_path)[0]
    except RefusedError:
        return ""


def _next_address(next_url: str) -> str:
    """As _address, of a next_url whose host may be broken."""
    path = next_url.partition("//")[2].partition("/")[2]
    return _address(URL("/" + path, encoded=True))
