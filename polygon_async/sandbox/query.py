"""The address of a bars request in, what it asks for (or the API's refusal) out."""

import base64
import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from polygon_async.sandbox import answers
from polygon_async.sandbox.answers import RefusedError
from polygon_async.sandbox.profile import MINUTE_MS, day_start_ms

DEFAULT_LIMIT = 5_000
MAX_LIMIT = 50_000

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_STAMP = re.compile(r"\d{1,15}", re.ASCII)
_SEGMENTS = 9  # v2 aggs ticker T range M S from to


@dataclass(frozen=True, slots=True)
class Query:
    """One bars request, understood."""

    ticker: str
    first: str
    """`from` as sent: a date or a stamp. So is `last`, the address's `to`."""
    last: str
    first_ms: int
    """Start of the first minute asked for."""
    last_ms: int
    """Start of the last minute asked for, inclusive."""
    limit: int
    descending: bool
    adjusted: bool

    @property
    def cursor(self) -> str:
        """The cursor that continues this request: its limit and direction, nothing else."""
        return encode_cursor(self.limit, descending=self.descending)


def encode_cursor(limit: int, *, descending: bool) -> str:
    """Base64url without padding of a query string, as the API's own cursors are."""
    text = f"limit={limit}&sort={'desc' if descending else 'asc'}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode_cursor(cursor: str) -> dict[str, str]:
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except ValueError as problem:
        raise RefusedError(answers.error(400, "Invalid cursor")) from problem
    return {name: values[0] for name, values in parse_qs(text).items()}


def range_path(ticker: str, first: str | int, last: str | int) -> str:
    """The path of a one-minute range, with the ticker as the API writes it (a colon stays)."""
    return f"/v2/aggs/ticker/{quote(ticker, safe=':')}/range/1/minute/{first}/{last}"


def segments(raw_path: str) -> tuple[str, ...]:
    """The decoded parts of a bars path: ticker, multiplier, timespan, from, to."""
    parts = [unquote(part) for part in raw_path.split("/")[1:]]
    shape = (parts[:3], parts[4:5]) == (["v2", "aggs", "ticker"], ["range"])
    if not shape or len(parts) != _SEGMENTS or not parts[3]:
        raise RefusedError(answers.no_such_path())
    return (parts[3], *parts[5:])


def _day_or_stamp(ticker: str, text: str, name: str, *, end: bool) -> tuple[int, int]:
    """The moment that a text means, in ms: as it is, and snapped to the minute."""
    if _STAMP.fullmatch(text):
        return int(text), int(text) // MINUTE_MS * MINUTE_MS
    if not _DATE.fullmatch(text):
        raise RefusedError(answers.bad_time(name))
    try:
        day = dt.date.fromisoformat(text)
        start = day_start_ms(ticker, day + dt.timedelta(days=1)) - MINUTE_MS if end else day_start_ms(ticker, day)
    except (ValueError, OverflowError) as problem:
        raise RefusedError(answers.bad_time(name)) from problem
    return start, start


def _limit(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise RefusedError(answers.error(400, "The parameter 'limit' must be a positive integer"))
    return min(int(text), MAX_LIMIT)


def _flag(text: str, name: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise RefusedError(answers.error(400, f"The parameter '{name}' must be true or false"))
    return text.lower() == "true"


def read(raw_path: str, arguments: Mapping[str, str], *, adjusted: bool) -> Query:
    """Understand a request; `adjusted` holds where the address does not say.

    Raises:
        RefusedError: the API would not answer this with a page.
    """
    ticker, multiplier, timespan, first, last = segments(raw_path)
    if (multiplier, timespan) != ("1", "minute"):
        raise RefusedError(answers.error(400, f"Only 1/minute has data here, not {multiplier}/{timespan}"))
    # A cursor was written by the server: what it says goes before what the query says.
    said = {**arguments, **_decode_cursor(arguments["cursor"])} if "cursor" in arguments else arguments
    sort = said.get("sort", "asc")
    if sort not in {"asc", "desc"}:
        raise RefusedError(answers.error(400, "The parameter 'sort' must be asc or desc"))
    start, first_ms = _day_or_stamp(ticker, first, "from", end=False)
    end, last_ms = _day_or_stamp(ticker, last, "to", end=True)
    if end < start:
        raise RefusedError(answers.backwards())
    return Query(
        ticker=ticker,
        first=first,
        last=last,
        first_ms=first_ms,
        last_ms=last_ms,
        limit=_limit(said.get("limit", str(DEFAULT_LIMIT))),
        descending=sort == "desc",
        adjusted=_flag(said["adjusted"], "adjusted") if "adjusted" in said else adjusted,
    )
