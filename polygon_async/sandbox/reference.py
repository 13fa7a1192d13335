"""A question to the list of tickers in, the API's answer (a page of it, or one ticker's own) out."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from yarl import URL

from polygon_async.sandbox import answers
from polygon_async.sandbox.answers import Answer, RefusedError
from polygon_async.sandbox.trouble import Trouble

PATH = "/v3/reference/tickers"
SUBJECT = "reference"
"""What stands for the list where a trouble names a ticker; `reference/AAPL` is AAPL's own page."""

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_MARKETS = {"stocks", "crypto", "fx", "otc", "indices"}
_FILTERS = ("market", "type", "exchange")
_UPDATED = "2026-11-01T00:00:00Z"

Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class Listed:
    """One ticker that is, or was, traded."""

    ticker: str
    name: str
    type: str = "CS"
    exchange: str = "XNYS"
    since: str = "1999-11-18"
    until: str = ""
    """The day of its delisting."""
    market: str = "stocks"

    def was_active(self, day: str) -> bool | None:
        """Whether it was traded on a day; None before it was listed."""
        if day < self.since:
            return None
        return not self.until or day < self.until

    def row(self, day: str) -> Body:
        """The entry in the list, its keys in the API's order."""
        active = self.was_active(day) is True
        is_stock = self.market in {"stocks", "otc"}
        row: Body = {"ticker": self.ticker, "name": self.name, "market": self.market}
        row["locale"] = "us" if is_stock or self.market == "indices" else "global"
        if self.exchange and self.market == "stocks":
            row["primary_exchange"] = self.exchange
        if is_stock:
            row["type"] = self.type
        row["active"] = active
        if is_stock:
            row["currency_name"] = "usd"
        elif self.market in {"crypto", "fx"}:
            row |= {"currency_symbol": self.ticker[-3:], "currency_name": _CURRENCIES[self.ticker[-3:]]}
            row |= {"base_currency_symbol": self.ticker[2:-3], "base_currency_name": self.name.partition(" - ")[0]}
        if not active:
            row["delisted_utc"] = f"{self.until}T00:00:00Z"
        return {**row, "last_updated_utc": _UPDATED}


_CURRENCIES = {"USD": "United States Dollar", "GBP": "Great Britain Pound", "JPY": "Japanese Yen"}
LISTED = (
    # The first four are those of the API's documentation; AAAU stands twice, as many a real ticker does.
    Listed("A", "Agilent Technologies Inc."),
    Listed("AA", "Alcoa Corporation", since="2016-11-01"),
    Listed("AAA", "AAF First Priority CLO Bond ETF", "ETF", "ARCX", "2020-09-09"),
    Listed("AAAU", "Goldman Sachs Physical Gold ETF Shares", "ETF", "BATS", "2018-08-15"),
    Listed("AAAU", "Goldman Sachs Physical Gold ETF Shares", "ETF", "BATS", "2018-08-15"),
    Listed("AAPL", "Apple Inc.", exchange="XNAS", since="1980-12-12"),
    Listed("AMpB", "American Preferred, Series B", "PFD", since="2012-05-02"),
    Listed("AMPB", "Ampere Biologics, Inc.", exchange="XNAS", since="2019-02-14"),
    Listed("AMZN", "Amazon.Com Inc", exchange="XNAS", since="1997-05-15"),
    Listed("BABA", "Alibaba Group Holding Limited American Depositary Shares", "ADRC", since="2014-09-19"),
    Listed("BRK.B", "BERKSHIRE HATHAWAY Class B", since="1996-05-09"),
    Listed("GLDM", "SPDR Gold MiniShares", "ETF", "ARCX", "2018-06-26"),
    Listed("MSFT", "Microsoft Corp", exchange="XNAS", since="1986-03-13"),
    Listed("NA", 'Nano Labs "Class A", Ltd', exchange="XNAS", since="2022-07-12"),
    Listed("QQQ", "Invesco QQQ Trust, Series 1", "ETF", "XNAS", "1999-03-10"),
    Listed("ROVRW", "Rover Warrants", "WARRANT", "XNAS", "2021-08-02", "2024-02-27"),
    Listed("SHLD", "Sears Holdings Corporation", exchange="XNAS", since="2005-03-28", until="2018-10-24"),
    Listed("SHLD", "Global X Defense Tech ETF", "ETF", "ARCX", "2023-09-11"),
    Listed("SPY", "SPDR S&P 500 ETF Trust", "ETF", "ARCX", "1993-01-29"),
    Listed("TWTR", "Twitter, Inc.", since="2013-11-07", until="2022-10-28"),
    Listed("YHOO", "Yahoo! Inc", exchange="XNAS", since="1996-04-12", until="2017-06-19"),
    Listed("YHOO", "Yahoo Partners ETF", "ETF", "ARCX", "2019-01-15", "2021-06-30"),
    Listed("TCEHY", "Tencent Holdings Ltd.", "ADRC", "", "2010-01-04", market="otc"),
    Listed("X:BTCUSD", "Bitcoin - United States Dollar", "", "", "2013-01-01", market="crypto"),
    Listed("X:ETHUSD", "Ethereum - United States Dollar", "", "", "2016-03-09", market="crypto"),
    Listed("C:EURUSD", "Euro - United States Dollar", "", "", "2003-09-10", market="fx"),
    Listed("C:EURGBP", "Euro - Great Britain Pound", "", "", "2003-09-10", market="fx"),
    Listed("C:USDJPY", "United States Dollar - Japanese Yen", "", "", "2003-09-10", market="fx"),
    Listed("I:SPX", "S&P 500 Index", "", "", "2003-09-10", market="indices"),
)


def subject(url: URL) -> str:
    """What the address is about, as troubles name it; empty where it is not the list."""
    if url.path == PATH:
        return SUBJECT
    return f"{SUBJECT}/{url.path[len(PATH) + 1 :]}" if url.path.startswith(f"{PATH}/") else ""


class Reference:
    """The list, page by page."""

    def __init__(self, *, host: str, page_size: int | None, key: str) -> None:
        """`page_size` caps the entries of a page below the limit that a request asks for."""
        self._host = host
        self._page_size = page_size or MAX_LIMIT
        self._key = key
        self._numbers: dict[str, int] = {}

    def page(self, url: URL) -> int:
        """An address's place in its chain of pages, from 1."""
        return self._numbers.get(url.query.get("cursor", ""), 1)

    def answer(self, url: URL, due: Iterable[Trouble]) -> Answer:
        """What the API answers, with the trouble that is due in it.

        Raises:
            RefusedError: it would not answer this with a page.
        """
        if url.path != PATH:
            return answered(_details(url.path[len(PATH) + 1 :], url.query.get("date")))
        asked = _asked(url.query)
        rows = _rows(asked)
        begin = _position(rows, asked.pop("page_marker", ""))
        end = begin + min(_limit(asked["limit"]), self._page_size)
        body: Body = {"results": rows[begin:end], "status": "OK"}
        body["request_id"] = hashlib.sha256(repr((asked, begin)).encode()).hexdigest()[:32]
        body["count"] = len(rows[begin:end])
        first = self._url(asked)
        if end < len(rows):
            body["next_url"] = self._url({**asked, "page_marker": _marker(rows, end - 1)})
            self._numbers.setdefault(URL(str(body["next_url"])).query["cursor"], self.page(url) + 1)
        for trouble in due:
            body = edited(body, trouble.kind, Scene(first, self._host, self._key, trouble.argument))
        return answered(body)

    def _url(self, asked: Mapping[str, str]) -> str:
        text = urlencode(sorted(asked.items()))
        return f"{self._host}{PATH}?cursor={base64.urlsafe_b64encode(text.encode()).rstrip(b'=').decode()}"


def _asked(query: Mapping[str, str]) -> dict[str, str]:
    """The parameters, of a cursor or as sent, with what the API takes where nothing is said."""
    given = {name: value for name, value in query.items() if name != "apiKey"}
    if "cursor" in given:
        text = given["cursor"] + "=" * (-len(given["cursor"]) % 4)
        try:
            given = dict(parse_qsl(base64.b64decode(text, altchars=b"-_", validate=True).decode("ascii")))
        except ValueError as problem:
            raise RefusedError(answers.error(400, "Invalid cursor")) from problem
    today = dt.datetime.now(dt.UTC).date().isoformat()
    defaults = {"active": "true", "date": today, "limit": str(DEFAULT_LIMIT), "order": "asc", "sort": "ticker"}
    asked = {**defaults, **given}
    if asked["active"] not in {"true", "false"} or asked.get("market", "stocks") not in _MARKETS:
        raise RefusedError(answers.error(400, "Invalid value for a query parameter"))
    _day(asked["date"])
    return asked


def _day(text: str) -> str:
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError as problem:
        raise RefusedError(answers.error(400, "Could not parse the time parameter: 'date'.")) from problem


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not int(text[:9]) >= 1:
        raise RefusedError(answers.error(400, "The parameter 'limit' must be a positive integer"))
    return min(int(text[:9]), MAX_LIMIT)


def _rows(asked: Mapping[str, str]) -> list[Body]:
    names = {"market": "market", "type": "type", "exchange": "primary_exchange"}
    active = asked["active"] == "true"
    known = [listed for listed in LISTED if listed.was_active(asked["date"]) is active]
    rows = [listed.row(asked["date"]) for listed in sorted(known, key=lambda listed: listed.ticker)]
    return [row for row in rows if all(row.get(names[name]) == asked[name] for name in _FILTERS if name in asked)]


def _marker(rows: list[Body], place: int) -> str:
    ticker = str(rows[place]["ticker"])
    return f"{ticker}|{hashlib.sha256(f'{place} {ticker}'.encode()).hexdigest()}"


def _position(rows: list[Body], marker: str) -> int:
    """Where the page behind the marked entry begins."""
    if not marker:
        return 0
    places = [place for place in range(len(rows)) if _marker(rows, place) == marker]
    if not places:
        raise RefusedError(answers.error(400, "Invalid cursor"))
    return places[0] + 1


def _details(ticker: str, date: str | None) -> Body:
    """One ticker's own page: what the list says of it, and more."""
    day = _day(date or dt.datetime.now(dt.UTC).date().isoformat())
    found = next((listed for listed in LISTED if listed.ticker == ticker and listed.was_active(day)), None)
    if found is None:
        raise RefusedError(answers.error(404, "Ticker not found.", word="NOT_FOUND"))
    more = {"ticker_root": ticker, "round_lot": 100} if found.market == "stocks" else {}
    request_id = hashlib.sha256(f"{ticker} {day}".encode()).hexdigest()[:32]
    return {"request_id": request_id, "results": {**found.row(day), **more, "list_date": found.since}, "status": "OK"}


def answered(body: Body) -> Answer:
    """The answer with this body."""
    text = json.dumps(body, separators=(",", ":")).encode()
    return Answer(200, text, headers={"X-Request-Id": str(body["request_id"])})


@dataclass(frozen=True, slots=True)
class Scene:
    """What an edit may need to know beside the page."""

    first: str
    """A next_url back to the chain's first page."""
    host: str
    key: str
    argument: str


def _next(change: Callable[[str, Scene], str]) -> Callable[[Body, Scene], Body]:
    """An edit of the next_url, where there is one."""

    def edit(body: Body, scene: Scene) -> Body:
        return {**body, "next_url": change(str(body["next_url"]), scene)} if "next_url" in body else body

    return edit


def _empty(body: Body, results: object) -> Body:
    return {"results": results, "status": "OK", "request_id": body["request_id"]}


def _first_row(body: Body, **changed: object) -> Body:
    rows = body["results"]
    assert isinstance(rows, list)  # noqa: S101 (for the type checker)
    return {**body, "results": [{**rows[0], **changed}, *rows[1:]]}


_EDITS: dict[str, Callable[[Body, Scene], Body]] = {
    "next_back": _next(lambda _, scene: scene.first),
    "next_path": _next(lambda url, _: url.replace("/v3/reference/", "/v3/other/")),
    "next_host": _next(lambda url, scene: scene.argument.rstrip("/") + url.removeprefix(scene.host)),
    "next_key": _next(lambda url, scene: f"{url}&apiKey={scene.key}"),
    "next_blank": lambda body, _: {"next_url": "", **body},
    "count_lie": lambda body, _: {**body, "count": int(str(body["count"])) + 1},
    "status_word": lambda body, scene: {**body, "status": scene.argument},
    "empty": lambda body, _: _empty(body, []),
    "null_results": lambda body, _: _empty(body, None),
    "other_ticker": lambda body, scene: _first_row(body, ticker=scene.argument),
    "null_field": lambda body, scene: _first_row(body, **{scene.argument: None}),
    "bool_field": lambda body, scene: _first_row(body, **{scene.argument: False}),
    "text_field": lambda body, scene: _first_row(body, **{scene.argument: "elsewhere"}),
}
"""The kinds of trouble that mean something here; the others are the bars' own."""


def edited(body: Body, kind: str, scene: Scene) -> Body:
    """The body of a page with a trouble in it, if that means something here."""
    return _EDITS[kind](body, scene) if kind in _EDITS else body
