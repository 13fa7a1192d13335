"""All that a parsing process does: a page's body as received in, the page out, its rows in the part file."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from polygon_async.bars.part import append_rows
from polygon_async.errors import Retryable, one_line
from polygon_async.polygon.bar_pages import read_page
from polygon_async.polygon.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.bars.page import Border, Page
    from polygon_async.bars.part import Part
    from polygon_async.model.units import Unit

__all__ = ["place_page", "read_packed"]

_T = TypeVar("_T")


def read_packed(read: Callable[[bytes], _T], body: bytes, encoding: str, content_type: str | None) -> _T:
    """What `read` makes of a body that came with this Content-Encoding and Content-Type.

    Some gateways call JSON something else, or put a byte order mark before it. A body that is neither
    called JSON nor starts as an answer does is somebody else's page.

    Raises:
        Retryable: the body is not what its encoding says, or not JSON.
        WrongAnswer: it unpacks to more than any page needs.
    """
    text = unpack(body, encoding).removeprefix(codecs.BOM_UTF8)
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not text.lstrip().startswith(b"{"):
        found = one_line(content_type or "nothing")
        raise Retryable(f"HTTP 200 with {found} instead of JSON", reason="undecodable")
    return read(text)


def place_page(body: bytes, *, unit: Unit, border: Border, part: Part) -> Page:
    """Read a page as `read_page` does, and append its rows to the part file, so that they travel no further.

    Raises:
        DiskUnusable: the rows cannot be written.
    """
    page = read_page(body, unit=unit, border=border)
    return replace(page, rows=b"", part=append_rows(part, page.rows))
