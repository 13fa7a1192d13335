"""Tickers' splits, and a question to the list of splits in; the API's answer, page by page, out."""

import base64
import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from yarl import URL

from polygon_async.sandbox import answers, reference
from polygon_async.sandbox.answers import Answer, RefusedError
from polygon_async.sandbox.profile import Event, profile
from polygon_async.sandbox.reference import LISTED, Scene
from polygon_async.sandbox.trouble import Trouble

PATH = "/v3/reference/splits"
SUBJECT = "splits"
"""What stands for the list where a trouble names a ticker."""

DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
_FILTERS = {"gte": "__ge__", "gt": "__gt__", "lte": "__le__", "lt": "__lt__"}


class Splits:
    """Which tickers had which splits: those of their profiles, and those that were told."""

    def __init__(self) -> None:
        """Those of the profiles."""
        self._told: dict[str, tuple[Event, ...]] = {}
        self._asked_for: set[str] = set()

    def of(self, ticker: str) -> tuple[Event, ...]:
        """A ticker's, the earliest first; the list has them from now on, as it has all tickers that somebody knows."""
        self._asked_for.add(ticker)
        return tuple(sorted((*profile(ticker).splits, *self._told.get(ticker, ()))))

    def told(self, ticker: str) -> tuple[Event, ...]:
        """Those of a ticker that were told."""
        self._asked_for.add(ticker)
        return self._told.get(ticker, ())

    def tell(self, ticker: str, event: Event) -> None:
        """One more."""
        self._told[ticker] = (*self._told.get(ticker, ()), event)

    def rows(self) -> list[dict[str, object]]:
        """The list, in its usual order: the newest first."""
        symbols = {*self._asked_for, *self._told, *(listed.ticker for listed in LISTED)}
        found = [(event, symbol) for symbol in symbols for event in self.of(symbol)]
        return [_row(symbol, event) for event, symbol in sorted(found, reverse=True)]


def _row(ticker: str, event: Event) -> dict[str, object]:
    identity = hashlib.sha256(f"{ticker} {event}".encode()).hexdigest()
    day = event.day.isoformat()
    return {
        "id": f"E{identity}",
        "execution_date": day,
        "split_from": event.before,
        "split_to": event.after,
        "ticker": ticker,
    }


def is_asked(url: URL) -> bool:
    """Whether an address is that of the list."""
    return url.path == PATH


@dataclass(frozen=True, slots=True)
class _Asked:
    parameters: dict[str, str]
    limit: int
    offset: int


class SplitList:
    """The list, page by page."""

    def __init__(self, splits: Splits, *, host: str, page_size: int | None, key: str) -> None:
        """`page_size` caps the entries of a page below the limit that a request asks for."""
        self._splits = splits
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
        asked = _asked(url.query)
        if ticker := asked.parameters.get("ticker"):
            self._splits.of(ticker)
        rows = [row for row in self._splits.rows() if _fits(row, asked.parameters)]
        if asked.parameters.get("order") == "asc":
            rows.reverse()
        end = asked.offset + min(asked.limit, self._page_size)
        body: reference.Body = {"results": rows[asked.offset : end], "status": "OK"}
        body["request_id"] = hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
        if end < len(rows):
            body["next_url"] = self._url({**asked.parameters, "offset": str(end)})
            self._numbers.setdefault(URL(str(body["next_url"])).query["cursor"], self.page(url) + 1)
        first = self._url(asked.parameters)
        for trouble in due:
            scene = Scene(first, self._host, self._key, trouble.argument)
            body = _EDITS[trouble.kind](body) if trouble.kind in _EDITS else reference.edited(body, trouble.kind, scene)
        return reference.answered(body)

    def _url(self, parameters: Mapping[str, str]) -> str:
        text = urlencode(sorted(parameters.items()))
        return f"{self._host}{PATH}?cursor={base64.urlsafe_b64encode(text.encode()).rstrip(b'=').decode()}"


def _asked(query: Mapping[str, str]) -> _Asked:
    given = {name: value for name, value in query.items() if name != "apiKey"}
    if "cursor" in given:
        text = given["cursor"] + "=" * (-len(given["cursor"]) % 4)
        try:
            given = dict(parse_qsl(base64.b64decode(text, altchars=b"-_", validate=True).decode("ascii")))
        except ValueError as problem:
            raise RefusedError(answers.error(400, "Invalid cursor")) from problem
    offset, limit = given.pop("offset", "0"), given.get("limit", str(DEFAULT_LIMIT))
    if not limit.isdecimal() or not offset.isdecimal() or not int(limit):
        raise RefusedError(answers.error(400, "The parameter 'limit' must be a positive integer"))
    for name in given:
        if name.startswith("execution_date"):
            try:
                dt.date.fromisoformat(given[name])
            except ValueError as problem:
                text = "Could not parse the time parameter: 'execution_date'."
                raise RefusedError(answers.error(400, text)) from problem
    return _Asked(given, min(int(limit), MAX_LIMIT), int(offset))


def _fits(row: Mapping[str, object], asked: Mapping[str, str]) -> bool:
    day = str(row["execution_date"])
    if row["ticker"] != asked.get("ticker", row["ticker"]) or day != asked.get("execution_date", day):
        return False
    tests = ((f"execution_date.{word}", name) for word, name in _FILTERS.items())
    return all(getattr(day, name)(asked[parameter]) for parameter, name in tests if parameter in asked)


def _with_rows(body: reference.Body, **changed: object) -> reference.Body:
    """Each row twice, the second time as changed."""
    rows = body["results"]
    assert isinstance(rows, list)  # noqa: S101 (for the type checker)
    return {**body, "results": [each for row in rows for each in (row, {**row, "id": f"{row['id']}b", **changed})]}


_EDITS = {
    "split_twice": _with_rows,
    "split_differs": lambda body: _with_rows(body, split_to=7),
}
"""The kinds of trouble that only this list knows."""
