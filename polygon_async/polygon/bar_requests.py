"""A unit or a next_url in, the next request out. Pure; a chain of pages only ever moves forward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from polygon_async.bars.page import MOST_BARS
from polygon_async.errors import WrongAnswer, one_line
from polygon_async.model.units import MINUTE_MS

if TYPE_CHECKING:
    from polygon_async.bars.page import Border
    from polygon_async.model.units import Unit

__all__ = ["PageRequest", "first_request", "later_request", "next_request", "own_parts"]

_SECRET_PARAMETERS = frozenset({"apikey"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """One request of a chain."""

    path: str
    """Percent-encoded, from the root: /v2/aggs/ticker/..."""
    query: str
    """Percent-encoded, without the key."""
    start: int
    """The earliest bar that it requests, ms UTC."""
    is_first: bool = False
    """Whether it starts a chain."""


def first_request(unit: Unit) -> PageRequest:
    """The request that starts a unit's chain."""
    return _beginning(unit, unit.ends()[0], unit.bounds()[0])


def later_request(unit: Unit, start: int) -> PageRequest:
    """The request that continues a unit's chain from `start` (ms UTC), if all before is already there."""
    return _beginning(unit, str(start), start)


def next_request(
    unit: Unit, done: PageRequest, *, next_url: str, border: Border, empty: bool, base_path: str = ""
) -> PageRequest | None:
    """The request that follows `done`, whose page ended at `border` and named `next_url`.

    It requests a later minute than `done`, or what follows the page's last bar. After an `empty` page,
    which used up no minute, a later millisecond will do, or after the first request the very moment
    that its date means.

    Path and query count, whatever host, port or scheme stands before them; a gateway's `base_path`
    before the API's own path goes. Where it skips minutes behind the page's last bar, which no answer has
    covered, they are asked for: the request then begins there, and is a first one. None when the page's
    last bar is of the range's last minute: there is nothing left to ask for, and the API answers 400 to such
    a question.

    Raises:
        WrongAnswer: it names something else, or does not move forward.
    """
    path, query = own_parts(next_url, base_path=base_path)
    prefix, _, position = path.rpartition("/range/1/minute/")
    start_text, _, end_text = position.partition("/")
    if unquote(prefix) != f"/v2/aggs/ticker/{unit.ticker.symbol}":
        raise WrongAnswer(f"the next_url names another path or ticker: {one_line(path)}")
    last = unit.bounds()[1]
    if end_text != unit.ends()[1] and _moment(end_text, unit) // MINUTE_MS not in unit.last_minutes():
        raise WrongAnswer(f"the next_url ends the range at {one_line(end_text)}, expected {unit.end}")
    start = _moment(start_text, unit)
    if empty or border.last is None:
        earliest = done.start + (not done.is_first)
    else:
        earliest = min((done.start // MINUTE_MS + 1) * MINUTE_MS, border.last + 1)
    if start < earliest:
        raise WrongAnswer(f"the next_url does not move forward (from {one_line(start_text)})")
    if not empty and border.last is not None:
        behind = (border.last // MINUTE_MS + 1) * MINUTE_MS
        if behind > last:
            return None
        # Within a minute it makes no difference: the API goes back to its start.
        if start // MINUTE_MS * MINUTE_MS > behind:
            return later_request(unit, behind)
    if start > last:
        raise WrongAnswer(f"the next_url skips the rest of the range (from {one_line(start_text)})")
    return PageRequest(path=f"{_chain(unit)}{start_text}/{end_text}", query=_query(query, unit), start=start)


def _beginning(unit: Unit, spelt: str, start: int) -> PageRequest:
    query = {"adjusted": "true" if unit.adjusted else "false", "sort": "asc", "limit": str(MOST_BARS)}
    path = f"{_chain(unit)}{spelt}/{unit.ends()[1]}"
    return PageRequest(path=path, query=urlencode(query), start=start, is_first=True)


def _chain(unit: Unit) -> str:
    return f"/v2/aggs/ticker/{quote(unit.ticker.symbol, safe=':=+')}/range/1/minute/"


def _moment(text: str, unit: Unit) -> int:
    """A path's from or to as ms UTC."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise WrongAnswer(f"the next_url has no valid time: {one_line(repr(text))}") from error
    return replace(unit, start=day, end=day, window=None).bounds()[0]


def _query(query: str, unit: Unit) -> str:
    """The next_url's own query, with `adjusted` unless the API's default is wanted.

    The known cursors have limit and sort only; whether adjusted=false survives without being repeated
    is unknown. Every page's own `adjusted` is checked in any case.
    """
    if not unit.adjusted and "adjusted" not in dict(parse_qsl(query)):
        return "&".join(filter(None, (query, "adjusted=false")))
    return query


def own_parts(next_url: str, *, base_path: str = "") -> tuple[str, str]:
    """Path and query of a next_url, to be requested from the configured host, whatever host it names.

    A gateway's `base_path` is removed from the path, and a key from the query.

    Raises:
        WrongAnswer: it is not a usable URL.
    """
    try:
        parts = urlsplit(next_url)
    except ValueError as error:
        raise WrongAnswer("the next_url is not a URL") from error
    query = parts.query
    if not query.isascii() or not query.isprintable() or " " in query:
        raise WrongAnswer(f"the next_url has an invalid query: {one_line(repr(query))}")
    kept = [pair for pair in query.split("&") if pair.partition("=")[0].lower() not in _SECRET_PARAMETERS]
    return parts.path.removeprefix(base_path), "&".join(filter(None, kept))
