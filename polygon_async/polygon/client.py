"""The REST edge: a request in, its answer, read and checked, out. It sends with the key, through the gate."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import aiohttp
from yarl import URL

from polygon_async._version import __version__
from polygon_async.errors import ConfigError, KeyRefused, Refused, Retryable, WrongAnswer
from polygon_async.polygon.reading import read_packed
from polygon_async.polygon.refusals import (
    Said,
    broken_connection,
    error_text,
    is_proxys_own,
    retry_after_seconds,
    said_of_proxy,
)
from polygon_async.polygon.unpacking import LARGEST_BODY
from polygon_async.system.certificates import unusable_bundle
from polygon_async.system.machine import no_more
from polygon_async.system.proxies import proxy_for
from polygon_async.system.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from polygon_async.model.access import Access
    from polygon_async.model.counters import Pace
    from polygon_async.polygon.pace.gate import Gate
    from polygon_async.system.processes import Processes
    from polygon_async.system.threads import Threads

__all__ = ["Client"]

_T = TypeVar("_T")

_RETRIED = frozenset({408, 429, 499})
_NEW_WEIGHT = 0.2
"""Weight of the newest latency in the moving average."""
_LONGEST_ANSWER = 20
"""How many stall time-outs one answer may take in all, however it trickles."""


class Request(Protocol):
    """One request, as the edge sees it."""

    @property
    def path(self) -> str:
        """Percent-encoded, from the root: /v2/aggs/ticker/..."""

    @property
    def query(self) -> str:
        """Percent-encoded, without the key."""


class Client:
    """One session with the API: every request passes the gate, and carries the key in its header.

    It uses the proxy that the environment names, if any.

    Args:
        access: Address and key; no other address is ever contacted.
        gate: What all requests share: tokens, retries, counters.
        offload: Runs the reading of error bodies.
        readers: Runs the parsing of pages.

    Raises:
        ConfigError: the proxy, or the CA certificates, that the environment names cannot be used.
    """

    def __init__(self, access: Access, *, gate: Gate, offload: Threads, readers: Processes) -> None:
        self._base_url = access.base_url
        self._headers = {
            "Authorization": f"Bearer {access.api_key}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"polygon-async/{__version__}",
        }
        self._gate = gate
        self._offload = offload
        self._readers = readers
        self._stall_timeout = access.stall_timeout
        self._connections = access.connections
        if URL(access.base_url).scheme == "https" and (bundle := unusable_bundle("SSL_CERT_FILE")) is not None:
            # OpenSSL would take it for an empty one, and trust nobody.
            raise ConfigError(bundle)
        # aiohttp's own trust_env would also take a login from ~/.netrc in the place of the key.
        self._proxy = proxy_for(access.base_url)
        self._proxy_url = None if self._proxy is None else URL(self._proxy.url)
        self._sockets = Sockets()
        self._session: aiohttp.ClientSession | None = None
        self._latency = 0.0
        self._date: tuple[str, float] | None = None

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=75, socket_factory=self._sockets.open
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._stall_timeout * _LONGEST_ANSWER,
                sock_connect=self._stall_timeout,
                sock_read=self._stall_timeout,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Bodies are unpacked elsewhere, where a gzip stream that ends early is noticed.
            auto_decompress=False,
        )
        # aiohttp would silently send a GET again when a kept-alive connection turns out to be closed,
        # and that request would pay no token; there is no public switch.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._sockets:
            if self._session is not None:
                await self._session.close()

    @property
    def base_path(self) -> str:
        """The prefix of the API's paths, if it is reached through a gateway."""
        return URL(self._base_url).raw_path.rstrip("/")

    @property
    def ahead(self) -> float | None:
        """By how many seconds the API's clock is ahead of this machine's, by its last answer; None: unknown."""
        if self._date is None:
            return None
        try:
            return parsedate_to_datetime(self._date[0]).timestamp() - self._date[1]
        except ValueError:
            return None

    @property
    def pace(self) -> Pace:
        """How fast requests may be sent now."""
        return self._gate.tokens

    @property
    def parallel(self) -> float:
        """How many requests in flight use up the rate; more would only wait for tokens."""
        per_second = self.pace.per_second
        return math.inf if per_second is None else per_second * self._latency

    async def get(self, request: Request, *, read: Callable[[bytes], _T], priority: int = 0) -> _T:
        """What `read` makes of the body of the answer to `request`.

        `read` runs in an executor, perhaps in another process (it can be pickled), and within the retries:
        it raises Retryable if another attempt may bring a better body. Of the bodies that wait to be read,
        the one with the lowest `priority` goes first.

        Raises:
            TickerError: refused, untrue, or still failing when patience was used up.
            RunError: no request can succeed.
        """
        return await self._gate.run(
            partial(self._attempt, request, read, priority),
            request=request.path,
            # All pages and windows of a ticker count as that one ticker.
            subject=request.path.partition("/range/")[0],
        )

    async def _attempt(self, request: Request, read: Callable[[bytes], _T], priority: int) -> _T:
        with self._readers.expecting():
            return await self._ask(request, read, priority)

    async def _ask(self, request: Request, read: Callable[[bytes], _T], priority: int) -> _T:
        """One attempt."""
        assert self._session is not None  # noqa: S101 (for the type checker; used inside `async with` only)
        counters, sent = self._gate.counters, asyncio.get_running_loop().time()
        url = URL(f"{self._base_url}{request.path}?{request.query}", encoded=True)
        try:
            async with self._session.get(
                url, headers=self._headers, proxy=self._proxy_url, allow_redirects=False
            ) as response:
                counters.answers[response.status] += 1
                if (date := response.headers.get("Date")) is not None:
                    self._date = date, time.time()
                body = await _body(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError) as error:
            raise broken_connection(error, URL(self._base_url).host or "", self._proxy) from error
        except RuntimeError as error:
            # The event loop resolves names in threads.
            raise (no_more(error) or error) from None
        encoding = response.headers.get("Content-Encoding", "")
        took = asyncio.get_running_loop().time() - sent
        measures = counters.measures
        measures.seconds["network"] += took
        measures.latencies.note(took)
        self._latency += (took - self._latency) * (_NEW_WEIGHT if self._latency else 1)
        if response.status == 200:
            self._gate.tokens.succeeded(sent=sent)
            content_type = response.headers.get("Content-Type")
            try:
                found = await self._readers(
                    partial(read_packed, read, body, encoding, content_type),
                    size=len(body),
                    priority=priority,
                    subject=request.path,
                )
                counters.answered = max(counters.answered, sent)
                return found
            finally:
                measures.seconds["reading"] += asyncio.get_running_loop().time() - sent - took
        try:
            said = await self._offload(error_text, body, encoding, response.headers.get("X-Request-Id"))
        except WrongAnswer as bomb:
            # The status still counts (a pause, a refused key), but such a body is not requested again.
            meaning = self._no(response, Said(str(bomb), by_api=False), sent)
            raise (bomb if isinstance(meaning, Retryable) else meaning) from None
        raise self._no(response, said, sent)

    def _no(self, response: aiohttp.ClientResponse, said: Said, sent: float) -> Exception:
        """What an answer other than 200 means; a 429 or a Retry-After also pauses all requests."""
        status = response.status
        text = f"HTTP {status}: {said.text}"
        # Inside TLS, a proxy cannot answer for the API.
        via = self._proxy if response.url.scheme == "http" else None
        if via is not None and is_proxys_own(status, said):
            return said_of_proxy(via.answer(status, response.url.host or ""))
        if status in _RETRIED or status >= 500:
            retry_after = retry_after_seconds(response.headers)
            if status == 429:
                self._gate.tokens.refused(sent=sent, retry_after=retry_after, said=said.text)
            elif retry_after:
                self._gate.tokens.pause(retry_after)
            return Retryable(text, reason=str(status))
        if status == 401:
            return KeyRefused(f"the API does not accept the key in POLYGON_API_KEY ({text}); check it")
        if 300 <= status < 400:
            text = f"HTTP {status}: redirects are not followed; check POLYGON_BASE_URL"
            return Refused(text, status=status, by_api=False)
        if status < 300:
            return WrongAnswer(f"HTTP {status} instead of a page: {said.text}", by_api=said.by_api)
        if status == 403 and not said.by_api:
            text = f"HTTP 403 from a gateway, not from the API itself: {said.text}"
        return Refused(text, status=status, is_plan=status == 403 and said.is_plan, by_api=said.by_api)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise WrongAnswer(f"HTTP {response.status} with a body of more than {LARGEST_BODY // 2**20} MiB")
    return bytes(body)
