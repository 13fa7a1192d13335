"""A page's body as it came in; the page out, its rows where they belong: all that a reading process does."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from polygon_async.bars.part import append_rows
from polygon_async.polygon.bar_pages import read_page, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from polygon_async.bars.part import Place
    from polygon_async.model.units import Unit
    from polygon_async.polygon.bar_pages import Border, Page

__all__ = ["get_ready", "place_page", "read_packed"]

_T = TypeVar("_T")

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 * 2**20
_MOST_KEPT = 128 * 2**20


def read_packed(read: Callable[[bytes], _T], body: bytes, encoding: str) -> _T:
    """What `read` makes of a body that came with this Content-Encoding.

    Raises:
        Retryable: the body is not what its encoding says.
    """
    return read(unpack(body, encoding))


def place_page(body: bytes, *, unit: Unit, border: Border, place: Place) -> Page:
    """Read a page as `read_page` does, and append its rows to the part file: they travel no further.

    Raises:
        DiskUnusable: the rows cannot be written.
    """
    page = read_page(body, unit=unit, border=border)
    return replace(page, rows=b"", place=append_rows(place, page.rows))


def get_ready() -> None:
    """What a reading process does first: see to it that it does not outlive its parent, and import what is slow."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _keep_memory()
    import polygon_async.polygon.fast_pages  # noqa: F401  # now, when nobody waits for it


def _keep_memory() -> None:
    """Have the C library keep what one page has taken for the next one.

    By default it gives all of it back after each page, and the system clears it anew, which takes a
    third of the time that reading takes.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, with manners of its own
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
