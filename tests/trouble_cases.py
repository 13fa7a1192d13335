"""Every trouble that the sandbox plays, and how a ticker that meets it ends."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of

from polygon_async.model.states import OutcomeState
from polygon_async.polygon.windows import Slots
from polygon_async.run import pipeline
from polygon_async.sandbox import Bar, Market, Sandbox
from polygon_async.settings import universe
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from polygon_async.report.summary import Summary
DAY = dt.date(2026, 3, 3)
SIZE = 60
LATER = 2
"""The later page at which troubles are played; there are more behind it."""


async def download(
    box: Sandbox, tickers: Sequence[str], directory: Path, *, side_by_side: bool = False, **flags: Any
) -> Summary:
    """A whole run against a sandbox, without an upload unless `upload` says so.

    Page after page, so that a page's number is what a trouble's line means by it, or with windows
    `side_by_side` where there is room, as users have it.
    """
    given = {
        "from": str(DAY), "to": str(DAY), "rate": "unlimited", "concurrency": "16", "processes": "0",
        "patience": "0.5", "stall_timeout": "30", "upload": False, "output_dir": str(directory),
    }  # fmt: skip
    settings = settings_from({**given, **flags}, Environment(box.environment, {}))
    asked = universe.from_names(list(tickers), universe.Defaults())
    with pytest.MonkeyPatch.context() as patch:
        if not side_by_side:
            patch.setattr(Slots, "has_room", lambda *_: False)
        return await pipeline.download(settings, asked, redact=Redactor([box.api_key]))


def lively_tickers() -> Iterator[str]:
    """Invented tickers that fill three to five pages on the day."""
    for number in itertools.count():
        symbol = f"T{number:04}"
        if 2 * SIZE < len(Market().days(symbol, DAY, DAY)) <= 5 * SIZE:
            yield symbol


@dataclass(frozen=True, slots=True)
class Way:
    """How a ticker ends, and whether a request of it is sent again."""

    state: OutcomeState
    asked_again: bool = False
    whole: bool = True
    """False where the CSV holds what came before the trouble."""
    leaps: bool = False
    """Whether the CSV lacks the bars of the trouble's page."""


UNHARMED = Way(OutcomeState.SAVED)
HEALED = Way(OutcomeState.SAVED, asked_again=True)
GIVEN_UP = Way(OutcomeState.FAILED, asked_again=True)
FAILED = Way(OutcomeState.FAILED)
EMPTY = Way(OutcomeState.NO_DATA, asked_again=True)
LEAPT = Way(OutcomeState.SAVED, asked_again=True, leaps=True)
BELIEVED = Way(OutcomeState.SAVED, asked_again=True, whole=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A trouble, and what it comes to: once and for ever, at a first and at a later page."""

    trouble: str
    once: Way
    ever: Way
    words: str = ""
    """What the error of a failed ticker says."""
    changed: Callable[[list[Bar]], list[Bar]] | None = None
    """What the trouble does to the bars of its page, where they are true all the same."""
    first: tuple[Way, Way] | None = None
    """Once and for ever at a first page, where that is another thing."""

    def way(self, page: int, times: str) -> Way:
        once, ever = self.first if self.first and page == 1 else (self.once, self.ever)
        return once if times else ever


def middle(bars: list[Bar], **values: Any) -> list[Bar]:
    at = len(bars) // 2
    return [*bars[:at], replace(bars[at], **values), *bars[at + 1 :]]


def no_bars(_bars: list[Bar]) -> list[Bar]:
    return []


def huge(bars: list[Bar]) -> list[Bar]:
    volumes = ("1.23456789012345e+22", "100000000000000000000")
    return [*(replace(bar, v=volume) for bar, volume in zip(bars, volumes, strict=False)), *bars[2:]]


def impossible(bars: list[Bar]) -> list[Bar]:
    return [replace(bars[0], h=f"{float(bars[0].l) / 2:.4f}", v="-5"), *bars[1:]]


def vwap_outside(bars: list[Bar]) -> list[Bar]:
    return [replace(bars[0], vw=str(round(float(bars[0].h) + 0.0123, 4))), *bars[1:]]


benign = partial(Line, once=UNHARMED, ever=UNHARMED)


transient = partial(Line, once=HEALED, ever=GIVEN_UP)


final = partial(Line, once=FAILED, ever=FAILED)
LINES = [
    # What may pass when it is asked for again.
    transient("status=408", words="HTTP 408: Request timed out"),
    transient("status=499", words="HTTP 499"),
    transient("status=500", words="HTTP 500: Internal server error"),
    transient("status=502", words="HTTP 502"),
    transient("status=503", words="HTTP 503"),
    transient("status=504", words="HTTP 504"),
    transient("key_echo_500", words="HTTP 500: Internal server error while serving key [redacted]"),
    transient("rate429", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("rate429=1", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("rate429date=1.5", words="HTTP 429: You've exceeded the maximum requests per minute"),
    transient("empty429", words="HTTP 429: no message"),
    transient("exceeded_200", words="says: You've exceeded the maximum requests per minute"),
    transient("html_200", words="HTTP 200 with text/html instead of JSON"),
    transient("blank_200", words="the body is not JSON"),
    transient("reset", words="broke"),
    transient("drop", words="the body was cut"),
    transient("drop_chunked", words="the body was cut"),
    transient("cut_gzip", words="the gzip body cannot be unpacked"),
    transient("bad_gzip", words="the gzip body cannot be unpacked"),
    transient("cut_json", words="the body is not JSON"),
    transient("no_count", words="the answer has neither results nor a count of them (request_id "),
    transient("nan_field=t", words="the body is not JSON"),
    transient("nan_field=vw", words="the body is not JSON"),
    transient("stall", words="the answer stalled"),
    transient("stall_body", words="the answer stalled"),
    # Answers that would be the same again.
    final("status=400", words="HTTP 400: Could not parse the time parameter"),
    final("status=403", words="HTTP 403: You are not entitled to this data"),
    final("status=404", words="HTTP 404: 404 page not found"),
    final("status=418", words="HTTP 418"),
    final("status=204", words="HTTP 204 instead of a page"),
    final("plan403", words="HTTP 403: Your plan doesn't include this data timeframe"),
    final("blocked", words="HTTP 403 from a gateway, not from the API itself"),
    final("not_found", words="HTTP 404: Ticker not found."),
    final("key_echo", words="HTTP 400: Bad request for key [redacted]"),
    final("redirect=http://127.0.0.1:9", words="HTTP 302: redirects are not followed"),
    final("not_authorized_200", words="NOT_AUTHORIZED: You are not entitled to this data"),
    transient("error_200", words="status is 'ERROR': Internal server error"),
    transient("status_word=PENDING", words="status is 'PENDING'"),
    # Bodies that no page needs.
    final("bomb", words="the body unpacks to more than 64 MiB"),
    final("bomb_status=500", words="the body unpacks to more than 64 MiB"),
    final("deep", words="the answer is nested too deeply to be a page"),
    # Whole answers that cannot be true; those that cannot belong to the request may be right the next time.
    final("next_same", words="the next_url does not move forward"),
    final("next_back", words="the next_url does not move forward"),
    final("next_loop", words="the next_url does not move forward"),
    final("next_ticker", words="the next_url names another path or ticker: /v2/aggs/ticker/OTHER/"),
    final("next_path", words="the next_url names another path or ticker: /v2/other/"),
    transient("contradict", words="there are two different bars at", first=(UNHARMED, UNHARMED)),
    transient("disorder", words="comes after"),
    transient("backwards", words="lies outside 2026-03-03 to 2026-03-03"),
    transient("outside", words="lies outside 2026-03-03 to 2026-03-03"),
    transient("other_ticker", words="the answer is about 'OTHER'"),
    transient("foreign_bar", words="is of 'OTHER'"),
    transient("adjusted_flip", words="asked for adjusted=True, the answer says adjusted=False"),
    final("no_field=c", words="required field `c`"),
    final("no_field=t", words="required field `t`"),
    final("no_field=v", words="has no 'v'"),
    final("text_field=c", words="has 'c' = \""),
    final("text_field=t", words="Expected `int`, got `str`"),
    final("null_field=v", words="has 'v' = null"),
    final("bool_field=o", words="has 'o' = true"),
    final("null_row", words="Expected `object`, got `null`"),
    transient("count_lie", words="bars and holds"),
    # What only looks like trouble.
    benign("latency=0.01"),
    benign("drip=0.1"),
    benign("delayed"),
    benign("wrong_type"),
    benign("bom"),
    Line("empty_next", once=HEALED, ever=HEALED),
    Line("hollow", once=HEALED, ever=LEAPT),
    benign("next_skip=30"),
    benign("extra_rows"),
    benign("overlap"),
    benign("overlap=50"),
    benign("duplicate"),
    benign("next_host=https://api.polygon.io:443:443"),
    benign("next_host=ftp://elsewhere.invalid"),
    benign("next_host=http://"),
    benign("next_key"),
    benign("next_blank"),
    benign("huge", changed=huge),
    benign(f"late={DAY - dt.timedelta(days=30)}"),
    benign("impossible", changed=impossible),
    benign("vwap_outside", changed=vwap_outside),
    # Of the list of splits only.
    benign("split_twice"),
    benign("split_differs"),
    benign("no_field=vw", changed=partial(middle, vw="")),
    benign("no_field=n", changed=partial(middle, n="")),
    benign("null_field=vw", changed=partial(middle, vw="")),
    benign("null_field=n", changed=partial(middle, n="")),
    # An answer without bars is requested once more; then it is believed, and told where a next_url promised bars.
    Line("empty", once=HEALED, ever=BELIEVED, first=(HEALED, EMPTY)),
    Line("null_results", once=HEALED, ever=BELIEVED, first=(HEALED, EMPTY)),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A line at a page, once or for ever, played to a ticker of its own."""

    line: Line
    page: int
    times: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.line.trouble} at page {self.page} {'once' if self.times else 'for ever'}"

    @property
    def trouble(self) -> str:
        """The line for the sandbox."""
        return f"{self.symbol} {self.page} {self.line.trouble} {self.times}".strip()

    @property
    def way(self) -> Way:
        """What is to come of it."""
        return self.line.way(self.page, self.times)

    def csv(self) -> str:
        """The CSV that it has to end with, where it ends well."""
        bars = Market().days(self.symbol, DAY, DAY)
        before, after = (self.page - 1) * SIZE, self.page * SIZE
        if not self.way.whole:
            return csv_of(bars[:before])
        change = no_bars if self.way.leaps else self.line.changed or list
        return csv_of([*bars[:before], *change(bars[before:after]), *bars[after:]])


_SYMBOLS = lively_tickers()
CASES = [Case(line, page, times, next(_SYMBOLS)) for line in LINES for page in (1, LATER) for times in ("1x", "")]
BYSTANDERS = [next(_SYMBOLS) for _ in range(3)]
