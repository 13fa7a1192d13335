"""A request for a list of the API's in; its pages, one after another, out, each checked to move forward."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from polygon_async.errors import WrongAnswer, one_line
from polygon_async.polygon.bar_requests import own_parts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Sequence

    from polygon_async.polygon.client import Client

__all__ = ["ListPage", "ListRequest", "list_pages"]

log = logging.getLogger(__name__)

_Row = TypeVar("_Row", bound="Hashable")


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One page's address."""

    path: str
    query: str
    """Percent-encoded."""


@dataclass(frozen=True, slots=True)
class ListPage(Generic[_Row]):
    """One page that has passed all checks."""

    rows: Sequence[_Row]
    next_url: str | None
    said_by: str
    """The end of a message about it."""


async def list_pages(
    request: ListRequest, *, read: Callable[[bytes], ListPage[_Row]], what: str, client: Client
) -> AsyncGenerator[ListPage[_Row]]:
    """All pages of a list, one after another, doubled rows included.

    A page with a next_url must have a new row, and must not lead back to an earlier page: cursors
    are opaque, and have been seen to stand still and to lead in circles.

    Args:
        request: The first page.
        read: Reads a body; it can be pickled.
        what: What the rows are, in the plural, for messages.
        client: The API.

    Raises:
        TickerError, RunError: as `Client.get`; an answer cannot be true, or does not move forward.
    """
    path, been = request.path, {request.query}
    seen: set[_Row] = set()
    while True:
        page = await client.get(request, read=read)
        if not page.rows:
            # Under load the API has given empty answers where there was something.
            page = await client.get(request, read=read)
        if not page.rows and len(been) > 1:
            log.warning(
                "a page of the list of %s was empty twice, though a next_url led there: the list may lack %s (GET %s)",
                what,
                what,
                path,
            )
        before = len(seen)
        seen.update(page.rows)
        if page.next_url is not None and len(seen) == before:
            raise WrongAnswer(f"a page of the list has a next_url but no new {what.removesuffix('s')}{page.said_by}")
        yield page
        if page.next_url is None:
            return
        request = ListRequest(*own_parts(page.next_url, base_path=client.base_path))
        if request.path != path:
            raise WrongAnswer(f"the next_url names another path: {one_line(request.path)}{page.said_by}")
        if request.query in been:
            raise WrongAnswer(f"the next_url does not move forward: it repeats an earlier one{page.said_by}")
        been.add(request.query)
