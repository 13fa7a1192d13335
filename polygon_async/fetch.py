"""One unit of work in; its pages, or its whole CSV, out."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.bars import Border, read_page
from polygon_async.csvfile import PartFile
from polygon_async.errors import WrongAnswer, said_by
from polygon_async.layout import csv_name, part_name
from polygon_async.models import CsvFile
from polygon_async.pagination import first_request, next_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from polygon_async.bars import Page
    from polygon_async.models import Unit
    from polygon_async.offload import Offload
    from polygon_async.pagination import PageRequest
    from polygon_async.polygon import Polygon
    from polygon_async.tally import Tally

__all__ = ["fetch_csv", "pages"]

_MOST_EMPTY_PAGES = 10_000
"""In a row; twenty years of empty days are fewer."""


async def pages(unit: Unit, *, polygon: Polygon, tally: Tally) -> AsyncGenerator[Page]:
    """The unit's pages that hold bars, in order, each checked against those before.

    A whole range without a bar is asked for once more before it is believed: under load the API
    has answered so for tickers that had bars.

    Raises:
        TickerError, RunError: as `Polygon.get`.
    """
    for _ in range(2):
        border = Border()
        request: PageRequest | None = first_request(unit)
        empty_pages = 0
        while request is not None:
            page = await polygon.get(request, read=partial(read_page, unit=unit, border=border))
            border = page.border
            tally.pages += 1
            tally.doubles += page.doubles
            if page.bars:
                yield page
            if page.next_url is None:
                break
            empty_pages = 0 if page.bars else empty_pages + 1
            request = _next(unit, request, page, empty_pages)
        if border.last is not None:
            return


def _next(unit: Unit, request: PageRequest, page: Page, empty_pages: int) -> PageRequest | None:
    """The request that `page` asks for; its errors name the request and the answer that led there."""
    try:
        _check_emptiness(empty_pages)
        return next_request(unit, request, next_url=page.next_url or "", border=page.border, empty=not page.bars)
    except WrongAnswer as error:
        raise WrongAnswer(f"{error}{said_by(page.request_id)}", request=request.path) from error.__cause__


def _check_emptiness(empty_pages: int) -> None:
    if empty_pages > _MOST_EMPTY_PAGES:
        raise WrongAnswer(f"{empty_pages} empty pages in a row, and the next_url still goes on")


async def fetch_csv(
    unit: Unit, directory: Path, *, modified: float, polygon: Polygon, offload: Offload, tally: Tally
) -> CsvFile | None:
    """Fetch all bars of `unit` into its CSV in `directory`; None where there are none.

    The file has its final name when it is whole, and is dated `modified` (s UTC). Memory holds one
    page, whatever the range.

    Raises:
        TickerError, RunError: nothing of the unit is left in `directory`.
    """
    symbol = unit.ticker.symbol
    path = directory / csv_name(symbol)
    part = PartFile(directory / part_name(unit), path)
    bars = doubles = 0
    first = last = 0
    try:
        async with contextlib.aclosing(pages(unit, polygon=polygon, tally=tally)) as chain:
            async for page in chain:
                await offload(part.append, page.rows)
                first = first if bars else page.first or 0
                last = page.border.last or 0
                bars += page.bars
                doubles += page.doubles
                tally.bars += page.bars
                tally.csv_bytes += len(page.rows)
                tally.in_flight[symbol] = f"{bars:,} bars"
        if not bars:
            return None
        sha256 = await offload(part.finish, modified)
    finally:
        await offload(part.discard)
    return CsvFile(path=path, bars=bars, first=first, last=last, doubles=doubles, size=part.size, sha256=sha256)
