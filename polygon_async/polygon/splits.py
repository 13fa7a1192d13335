"""The API's list of splits: days in, the splits executed since then out, page after page, each checked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from polygon_async.errors import Untrue, WrongAnswer, one_line
from polygon_async.model.splits import Split
from polygon_async.polygon.envelope import Head, check_head, check_speed, decode, unanswered
from polygon_async.polygon.lists import ListPage, ListRequest, list_pages

if TYPE_CHECKING:
    from polygon_async.polygon.client import Client

__all__ = ["SplitQuery", "read_splits", "splits_of"]

_PATH = "/v3/reference/splits"
_LIMIT = 1000
"""The most splits that one request may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitQuery:
    """One query of the list."""

    since: date
    """The first day of execution."""
    until: date
    """The last one."""
    ticker: str | None = None
    """None: all tickers."""

    def query(self) -> str:
        """Percent-encoded."""
        return urlencode(
            {
                **({} if self.ticker is None else {"ticker": self.ticker}),
                "execution_date.gte": self.since.isoformat(),
                "execution_date.lte": self.until.isoformat(),
                "order": "asc",
                "sort": "execution_date",
                "limit": str(_LIMIT),
            }
        )


class _Row(msgspec.Struct):
    ticker: str
    execution_date: str
    split_from: msgspec.Raw
    split_to: msgspec.Raw


class _Answer(Head):
    results: list[_Row] | msgspec.UnsetType | None = msgspec.UNSET
    """null also means an empty list."""
    count: int | None = None
    next_url: str | None = None


_answers = msgspec.json.Decoder(_Answer)


async def splits_of(asked: SplitQuery, *, client: Client) -> list[Split]:
    """All splits that the query asks for, in the order of the list, doubled rows included.

    Raises:
        TickerError, RunError: as `list_pages`; or a page that was promised stays empty.
    """
    request = ListRequest(_PATH, asked.query())
    read = partial(read_splits, asked=asked)
    found: list[Split] = []
    async with contextlib.aclosing(list_pages(request, read=read, what="splits", client=client)) as pages:
        async for page in pages:
            if found and not page.rows:
                # A split that is not known makes wrong prices out of right ones.
                raise WrongAnswer(f"a page of the list was empty twice, and a next_url promised more{page.said_by}")
            found += page.rows
    return found


def read_splits(body: bytes, *, asked: SplitQuery) -> ListPage[Split]:
    """Read one page of the list.

    Args:
        body: The JSON of one answer of /v3/reference/splits, unpacked.
        asked: The query.

    Raises:
        Retryable: The body is not JSON, or not an answer; another attempt may bring it complete.
        Refused: The body says that the key is not entitled to this.
        Untrue, WrongAnswer: The body is complete and cannot be the answer to the query.
    """
    answer = decode(_answers, body)
    check_head(answer)
    if not answer.results:
        check_speed(answer)
    if answer.results is msgspec.UNSET and answer.count is None:
        raise unanswered(answer)
    rows = answer.results or []
    return ListPage([_split(row, asked, answer) for row in rows], answer.next_url or None, answer.said_by)


def _split(row: _Row, asked: SplitQuery, answer: _Answer) -> Split:
    """The split of a row; one whose numbers cannot be true fails its own ticker, when it is needed."""
    said = f"{one_line(repr(row.ticker))} on {one_line(row.execution_date)}"
    if asked.ticker is not None and row.ticker != asked.ticker:
        raise Untrue(f"the list of splits has {said} where {asked.ticker} was asked for{answer.said_by}")
    shares = (one_line(bytes(number).decode(errors="replace")) for number in (row.split_from, row.split_to))
    try:
        day = date.fromisoformat(row.execution_date)
    except ValueError:
        return Split(row.ticker, asked.until, one_line(row.execution_date), "no day")
    if not asked.since <= day <= asked.until:
        raise Untrue(
            f"the list of splits has {said}, outside the requested {asked.since} to {asked.until}{answer.said_by}"
        )
    return Split(row.ticker, day, *shares)
