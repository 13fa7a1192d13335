"""A page's body in; its bars as CSV rows, and what is known about them, out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from polygon_async.bars.page import MOST_BARS, Border, Page, Table, new_rows, next_border, spell_moment
from polygon_async.errors import Untrue, WrongAnswer, one_line
from polygon_async.model.days import days_of
from polygon_async.model.tickers import AssetType
from polygon_async.polygon.envelope import Head, check_head, check_speed, decode, shapeless, unanswered
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygon_async.model.units import Unit

__all__ = ["read_page"]

_OF_NUMBERS = b"0123456789+-.eE,\n"
_LONGEST_NOTHING = 64
"""Bytes of an empty list, however it is spaced."""
_TOO_MANY_BARS = 4 * MOST_BARS
"""Parsed one by one, each takes some 600 bytes; pages with a few more bars than requested do occur."""


class _Bar(msgspec.Struct, gc=False):
    """One bar as the API sends it; numbers stay as the bytes that were sent."""

    t: int
    o: msgspec.Raw
    h: msgspec.Raw
    l: msgspec.Raw  # noqa: E741 (the API's own name)
    c: msgspec.Raw
    v: msgspec.Raw = msgspec.Raw(b"")
    vw: msgspec.Raw = msgspec.Raw(b"")
    n: msgspec.Raw = msgspec.Raw(b"")
    otc: bool | None = None
    T: str | None = None


class _Answer(Head):
    ticker: str | None = None
    adjusted: bool | None = None
    resultsCount: int | None = None  # noqa: N815 (the API's own name)
    results: msgspec.Raw = msgspec.Raw(b"null")
    next_url: str | None = None


def read_page(body: bytes, *, unit: Unit, border: Border) -> Page:
    """Read one page of `unit`, which follows what `border` describes.

    Args:
        body: The JSON of one answer of /v2/aggs/ticker/.../range, unpacked.
        unit: What was requested.
        border: `Border()` for a first page, else that of the previous page.

    Raises:
        Retryable: The body is not JSON, or not an answer; another attempt may bring it complete.
        Refused: The body says that the key is not entitled to this.
        WrongAnswer: The body is complete and cannot be the answer to the request.
    """
    answer = decode(_answers, body)
    check_head(answer)
    results = bytes(answer.results)
    if len(results) <= _LONGEST_NOTHING and not results.strip(b"[] \t\r\n").removeprefix(b"null"):
        check_speed(answer)
    if results == b"null" and answer.resultsCount is None:
        raise unanswered(answer)
    try:
        table, odd = _table(results, unit)
        _check_envelope(answer, unit, len(table.stamps))
        new = new_rows(table, border)
    except WrongAnswer as error:
        raise type(error)(f"{error}{answer.said_by}") from error.__cause__
    bars = len(new.stamps)
    next_url = answer.next_url or None
    if len(table.stamps) and not bars and next_url is not None:
        raise WrongAnswer(f"a page has a next_url but no new bars{answer.said_by}")
    return Page(
        rows=new.rows,
        bars=bars,
        first=int(new.stamps[0]) if bars else None,
        border=next_border(border, new),
        days=days_of(new.stamps, unit.ticker.market),
        duplicates=len(table.stamps) - bars,
        next_url=next_url,
        request_id=answer.request_id,
        odd=odd,
    )


_answers = msgspec.json.Decoder(_Answer)
_bars = msgspec.json.Decoder(list[_Bar] | None)


def _check_envelope(answer: _Answer, unit: Unit, bars: int) -> None:
    if answer.ticker != unit.ticker.symbol and (answer.ticker is not None or bars):
        raise Untrue(f"the answer is about {one_line(repr(answer.ticker))}")
    # Index answers have no `adjusted`; every other one says what its prices are.
    silent = answer.adjusted is None and (unit.ticker.market is AssetType.INDICES or not bars)
    if answer.adjusted is not unit.adjusted and not silent:
        raise Untrue(f"asked for adjusted={unit.adjusted}, the answer says adjusted={answer.adjusted}")
    if answer.resultsCount is not None and answer.resultsCount != bars:
        raise Untrue(f"the answer counts {counted(answer.resultsCount, 'bar')} and holds {bars}")


def _table(results: bytes, unit: Unit) -> tuple[Table, dict[str, int]]:
    """The page's bars, all of them within the range; and how many have values that no bar can have."""
    import numpy as np

    from polygon_async.polygon.fast_pages import plain_rows
    from polygon_async.polygon.oddities import found_in_bars

    index = unit.ticker.market is AssetType.INDICES
    if (plain := plain_rows(results, needs_volume=not index)) is not None:
        rows, stamps, odd = plain
        _check_number(len(stamps))
        _check_range(int(stamps.min()), int(stamps.max()), unit)
        return Table(rows, stamps), odd
    _check_number(results.count(b"{"))
    try:
        bars = _bars.decode(results) or []
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise shapeless(error) from error
    for bar in bars:
        if bar.T is not None and unit.ticker.symbol != bar.T:
            raise Untrue(f"the bar at {spell_moment(bar.t)} is of {one_line(repr(bar.T))}")
    if bars:
        _check_range(min(bar.t for bar in bars), max(bar.t for bar in bars), unit)
    lines = _rows(bars, index=index)
    stamps = np.array([bar.t for bar in bars], dtype=np.int64)
    odd = found_in_bars(bars, stamps, has_signs=b"-" in results)
    return Table(b"\n".join((*lines, b"")), stamps), odd


def _rows(bars: Sequence[_Bar], *, index: bool) -> list[bytes]:
    """The bars as CSV rows in the order of the header, numbers digit for digit."""
    rows = [b",".join((b.o, b.h, b.l, b.c, b.v, b.vw, b"%d" % b.t, b.n, b"True" if b.otc else b"")) for b in bars]
    # The JSON is well-formed, so what consists only of a number's characters is a number.
    whole = index or all(bytes(bar.v) for bar in bars)
    if whole and not b"\n".join(rows).replace(b",True", b"").translate(None, _OF_NUMBERS):
        return rows
    return [_checked_row(bar, index=index) for bar in bars]


def _checked_row(bar: _Bar, *, index: bool) -> bytes:
    """One row, cell by cell; null means absent if a field is optional."""
    required = {"o": bar.o, "h": bar.h, "l": bar.l, "c": bar.c}
    optional = {"vw": bar.vw, "n": bar.n}
    (optional if index else required)["v"] = bar.v
    cells = {}
    for name, value in (required | optional).items():
        text = bytes(value)
        if name in optional and text in {b"", b"null"}:
            text = b""
        elif not text:
            raise WrongAnswer(f"the bar at {spell_moment(bar.t)} has no {name!r}")
        elif text.translate(None, _OF_NUMBERS):
            raise WrongAnswer(
                f"the bar at {spell_moment(bar.t)} has {name!r} = {one_line(text.decode(errors='replace'))}"
            )
        cells[name] = text
    row = [cells[name] for name in ("o", "h", "l", "c", "v", "vw")]
    return b",".join((*row, b"%d" % bar.t, cells["n"], b"True" if bar.otc else b""))


def _check_number(bars: int) -> None:
    if bars > _TOO_MANY_BARS:
        raise WrongAnswer(f"the answer has more than {_TOO_MANY_BARS:,} bars, but {MOST_BARS:,} were requested")


def _check_range(earliest: int, latest: int, unit: Unit) -> None:
    first, last = unit.bounds()
    outside = next((t for t in (earliest, latest) if not first <= t <= last), None)
    if outside is not None:
        raise Untrue(f"a bar at {spell_moment(outside)} lies outside {unit.start} to {unit.end}")
