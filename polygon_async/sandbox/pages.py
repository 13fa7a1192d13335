"""An understood request in, its page in the API's own JSON (plain or gzip) out."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from isal import igzip

from polygon_async.sandbox.market import Market
from polygon_async.sandbox.profile import MINUTE_MS, asset_type
from polygon_async.sandbox.query import Query, range_path

CACHE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """One page of bars, before it is written as JSON."""

    ticker: str
    adjusted: bool | None
    """None for indices, whose answers do not have the key."""
    rows: bytes
    """The bars as JSON objects, separated by commas."""
    count: int
    request_id: str
    next_url: str | None = None
    status: str = "OK"
    told: int | None = None
    """resultsCount where it is not the number of rows."""
    null: bool = False
    """Write an empty page as in 2020, with `"results":null`."""

    def split(self) -> list[bytes]:
        """One JSON text per bar."""
        return [b"{" + row + b"}" for row in self.rows[1:-1].split(b"},{")] if self.count else []

    def holding(self, rows: Iterable[bytes]) -> "Page":
        """The same page with other bars."""
        texts = list(rows)
        return replace(self, rows=b",".join(texts), count=len(texts))

    def json(self) -> bytes:
        """The body, its keys in the API's order."""
        told = self.count if self.told is None else self.told
        adjusted = {} if self.adjusted is None else {"adjusted": self.adjusted}
        counts = {"queryCount": self.count, "resultsCount": told, **adjusted}
        if self.null:
            return _object({"status": self.status, **counts, "results": None})
        head = {"ticker": self.ticker, **counts}
        tail: dict[str, object] = {"status": self.status, "request_id": self.request_id}
        if self.count:
            tail["count"] = self.count
        if self.next_url is not None:
            tail["next_url"] = self.next_url
        results = b'"results":[' + self.rows + b"]," if self.count else b""
        return _object(head)[:-1] + b"," + results + _object(tail)[1:]


def _object(values: dict[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def gzipped(body: bytes) -> bytes:
    """The body as a server in a hurry compresses it."""
    return igzip.compress(body, 1)


def next_url(query: Query, last_ms: int, host: str) -> str:
    """Where a page that ends with the bar at `last_ms` goes on."""
    if query.descending:
        path = range_path(query.ticker, query.first, last_ms - 1)
    else:
        path = range_path(query.ticker, last_ms + MINUTE_MS, query.last)
    return f"{host}{path}?cursor={query.cursor}"


class Pages:
    """Makes pages, and keeps the bodies of the most recent ones."""

    def __init__(self, market: Market, *, host: str, page_size: int | None, cache_bytes: int = CACHE_BYTES) -> None:
        """`page_size` caps the rows of a page below the limit that a request asks for."""
        self.market = market
        self.host = host
        self.page_size = page_size
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[Query, bool], tuple[Page, bytes]] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def page(self, query: Query, *, extra: int = 0) -> Page:
        """The page that answers a request; `extra` rows more than its limit allows."""
        limit = min(query.limit, self.page_size or query.limit) + extra
        cut = self.market.cut(
            query.ticker,
            query.first_ms,
            query.last_ms,
            limit=limit,
            descending=query.descending,
            adjusted=query.adjusted,
        )
        # The same request always gets the same id, so that a compressed body can be kept.
        request_id = hashlib.sha256(repr(query).encode()).hexdigest()[:32]
        adjusted = None if asset_type(query.ticker) == "indices" else query.adjusted
        onward = next_url(query, cut.last_ms, self.host) if cut.more else None
        return Page(query.ticker, adjusted, cut.rows, cut.count, request_id, onward)

    def body(self, query: Query, *, compressed: bool) -> tuple[Page, bytes]:
        """The page without its rows, and its body; from the cache where possible."""
        with self._lock:
            if (query, compressed) in self._cache:
                self._cache.move_to_end((query, compressed))
                return self._cache[query, compressed]
        page = self.page(query)
        body = gzipped(page.json()) if compressed else page.json()
        known = (replace(page, rows=b""), body)
        with self._lock:
            self._keep((query, compressed), known)
        return known

    def forget(self) -> None:
        """Make all pages anew: the market has changed."""
        with self._lock:
            self._cache.clear()
            self._cached = 0

    def _keep(self, key: tuple[Query, bool], known: tuple[Page, bytes]) -> None:
        if key in self._cache:
            return
        self._cache[key] = known
        self._cached += len(known[1])
        while self._cached > self._cache_bytes:
            _, (_, body) = self._cache.popitem(last=False)
            self._cached -= len(body)
