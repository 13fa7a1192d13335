"""A good page and a kind of trouble in, the page with that trouble in it out."""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from polygon_async.sandbox.pages import Page, Pages
from polygon_async.sandbox.profile import MINUTE_MS, day_start_ms
from polygon_async.sandbox.query import Query, range_path
from polygon_async.sandbox.trouble import late_days

STRANGER = "OTHER"


@dataclass(frozen=True, slots=True)
class Scene:
    """What an edit may need to know beside the page."""

    pages: Pages
    query: Query
    origin: Query
    """The first request of the chain."""
    key: str
    argument: str

    def onward(self, first: str | int, last: str | int) -> str:
        """A next_url over another range."""
        return f"{self.pages.host}{range_path(self.query.ticker, first, last)}?cursor={self.query.cursor}"


Edit = Callable[[Page, Scene], Page]


def _impossible(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    if rows:
        low = float(_get(rows[0], "l"))
        rows[0] = _set(_set(rows[0], "h", f"{low / 2:.4f}"), "v", "-5")
    return page.holding(rows)


def _late(page: Page, scene: Scene) -> Page:
    """The page without the bars of days that have not arrived yet."""
    rows = page.split()
    for day in late_days(scene.argument):
        first, after = (day_start_ms(scene.query.ticker, at) for at in (day, day + dt.timedelta(days=1)))
        rows = [row for row in rows if not first <= int(_get(row, "t")) < after]
    return page.holding(rows)


def _set(row: bytes, field: str, text: str | None) -> bytes:
    """The bar with this text in a field; None takes the field away."""
    pattern = rb'"%s":[^,}]+,?' % re.escape(field.encode())
    if text is None:
        return re.sub(pattern, b"", row, count=1).replace(b",}", b"}")
    new = f'"{field}":{text}'.encode()
    if not re.search(pattern, row):
        return row[:-1] + b"," + new + b"}"
    return re.sub(rb'"%s":[^,}]+' % re.escape(field.encode()), lambda _: new, row, count=1)


def _get(row: bytes, field: str) -> str:
    match = re.search(rb'"%s":([^,}]+)' % re.escape(field.encode()), row)
    return match[1].decode() if match else "0"


def _one_field(change: Callable[[str], str | None]) -> Edit:
    """An edit of one field (the argument) of the bar in the middle."""

    def edit(page: Page, scene: Scene) -> Page:
        rows = page.split()
        if rows:
            middle = len(rows) // 2
            rows[middle] = _set(rows[middle], scene.argument, change(_get(rows[middle], scene.argument)))
        return page.holding(rows)

    return edit


def _before(scene: Scene, count: int) -> list[bytes]:
    """The last bars of the page before, in the chain's own order; none before the first page."""
    query, origin = scene.query, scene.origin
    if query.descending:
        reach = (query.last_ms + MINUTE_MS, origin.last_ms)
    else:
        reach = (origin.first_ms, query.first_ms - MINUTE_MS)
    cut = scene.pages.market.cut(
        query.ticker, *reach, limit=count, descending=not query.descending, adjusted=query.adjusted
    )
    return cut.split()[::-1]


def _empty(page: Page, _scene: Scene) -> Page:
    return replace(page, rows=b"", count=0, next_url=None)


def _hollow(page: Page, _scene: Scene) -> Page:
    return replace(page, rows=b"", count=0)


def _empty_next(page: Page, scene: Scene) -> Page:
    if not page.count:
        return page
    query, first = scene.query, int(_get(page.split()[0], "t"))
    sent = query.last if query.descending else query.first
    # Forward as far as no bar is lost. From the bar's own minute only milliseconds are left, which
    # the server snaps back to the minute.
    stamp = first + MINUTE_MS - 1 if query.descending else first
    if sent.isdecimal() and int(sent) // MINUTE_MS == first // MINUTE_MS:
        stamp = int(sent) - 1 if query.descending else int(sent) + 1
    if stamp // MINUTE_MS != first // MINUTE_MS:
        return page
    ends = (query.first, stamp) if query.descending else (stamp, query.last)
    return replace(page, rows=b"", count=0, next_url=scene.onward(*ends))


def _next_same(page: Page, scene: Scene) -> Page:
    return replace(page, next_url=scene.onward(scene.query.first, scene.query.last))


def _next_back(page: Page, scene: Scene) -> Page:
    return replace(page, next_url=scene.onward(scene.origin.first, scene.origin.last))


def _next_ticker(page: Page, scene: Scene) -> Page:
    own, other = (f"/ticker/{ticker}/" for ticker in (scene.query.ticker, scene.argument))
    return replace(page, next_url=page.next_url and page.next_url.replace(own, other))


def _next_path(page: Page, _scene: Scene) -> Page:
    return replace(page, next_url=page.next_url and page.next_url.replace("/v2/aggs/", "/v2/other/"))


def _next_host(page: Page, scene: Scene) -> Page:
    host = scene.argument.rstrip("/")
    return replace(page, next_url=page.next_url and host + page.next_url.removeprefix(scene.pages.host))


def _next_skip(page: Page, scene: Scene) -> Page:
    if page.next_url is None:
        return page
    behind = int(_get(page.split()[-1], "t")) + MINUTE_MS * (1 + int(scene.argument))
    return replace(page, next_url=scene.onward(min(behind, scene.query.last_ms), scene.query.last))


def _next_key(page: Page, scene: Scene) -> Page:
    return replace(page, next_url=page.next_url and f"{page.next_url}&apiKey={scene.key}")


def _overlap(page: Page, scene: Scene) -> Page:
    return page.holding(_before(scene, int(scene.argument)) + page.split())


def _contradict(page: Page, scene: Scene) -> Page:
    rows = [_set(row, "c", str(float(_get(row, "c")) + 1)) for row in _before(scene, 1)]
    return page.holding(rows + page.split())


def _duplicate(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    return page.holding(rows[:1] + rows)


def _disorder(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    return page.holding([*rows[1::-1], *rows[2:]])


def _beside(page: Page, row: bytes, stamp: int, *, front: bool) -> Page:
    """The page with a copy of one of its bars at another time, in front or at the end."""
    stray = _set(row, "t", str(stamp))
    return page.holding([stray, *page.split()] if front else [*page.split(), stray])


def _backwards(page: Page, scene: Scene) -> Page:
    origin = scene.origin
    stamp = origin.last_ms + MINUTE_MS if origin.descending else origin.first_ms - MINUTE_MS
    return _beside(page, page.split()[0], stamp, front=True) if page.count else page


def _outside(page: Page, scene: Scene) -> Page:
    origin = scene.origin
    stamp = origin.first_ms - MINUTE_MS if origin.descending else origin.last_ms + MINUTE_MS
    return _beside(page, page.split()[-1], stamp, front=False) if page.count else page


def _foreign_bar(page: Page, scene: Scene) -> Page:
    query = scene.query
    others = scene.pages.market.cut(STRANGER, query.first_ms, query.last_ms, limit=1).split() or page.split()[:1]
    marked = [b'{"T":"%s",' % STRANGER.encode() + row[1:] for row in others]
    return page.holding(marked + page.split())


def _null_row(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    middle = len(rows) // 2
    return page.holding([*rows[:middle], b"null", *rows[middle:]])


def _huge(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    for place, text in enumerate(("1.23456789012345e+22", "100000000000000000000")):
        if place < len(rows):
            rows[place] = _set(rows[place], "v", text)
    return page.holding(rows)


def _vwap_outside(page: Page, _scene: Scene) -> Page:
    rows = page.split()
    if rows:
        rows[0] = _set(rows[0], "vw", str(round(float(_get(rows[0], "h")) + 0.0123, 4)))
    return page.holding(rows)


EDITS: dict[str, Edit] = {
    "empty": _empty,
    "null_results": lambda page, scene: replace(_empty(page, scene), null=True),
    "empty_next": _empty_next,
    "hollow": _hollow,
    "status_word": lambda page, scene: replace(page, status=scene.argument),
    "delayed": lambda page, _: replace(page, status="DELAYED"),
    "next_same": _next_same,
    "next_back": _next_back,
    "next_ticker": _next_ticker,
    "next_path": _next_path,
    "next_host": _next_host,
    "next_key": _next_key,
    "next_skip": _next_skip,
    "next_blank": lambda page, _: replace(page, next_url=page.next_url or ""),
    "extra_rows": lambda _, scene: scene.pages.page(scene.query, extra=1),
    "overlap": _overlap,
    "contradict": _contradict,
    "duplicate": _duplicate,
    "disorder": _disorder,
    "backwards": _backwards,
    "outside": _outside,
    "other_ticker": lambda page, scene: replace(page, ticker=scene.argument),
    "foreign_bar": _foreign_bar,
    "adjusted_flip": lambda page, _: replace(page, adjusted=not page.adjusted),
    "no_field": _one_field(lambda _: None),
    "text_field": _one_field(lambda number: f'"{number}"'),
    "null_field": _one_field(lambda _: "null"),
    "nan_field": _one_field(lambda _: "NaN"),
    "bool_field": _one_field(lambda _: "true"),
    "null_row": _null_row,
    "count_lie": lambda page, _: replace(page, told=page.count + 1),
    "huge": _huge,
    "late": _late,
    "impossible": _impossible,
    "vwap_outside": _vwap_outside,
}
