"""A ticker's name and a time range in, its minute bars out: the same on every machine, every time.

Each bar is a pure function of the ticker's name and the minute. Nothing is drawn in sequence, so
any part of a range holds exactly the bars that the whole range holds there. All arithmetic is on
integers: no platform's mathematics library can change a digit.
"""

import datetime as dt
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polygon_async.sandbox.numerals import Mask, Whole, blank, decimal, join, literal, whole
from polygon_async.sandbox.profile import (
    DAY_MINUTES,
    END,
    EPOCH,
    MINUTE_MS,
    NEW_YORK,
    PRICE_PLACES,
    Event,
    Profile,
    Words,
    day_start_ms,
    profile,
)
from polygon_async.sandbox.splits import Splits

_END_MINUTE = (END - EPOCH).days * DAY_MINUTES - 1
_VOLUME_PLACES = 6
_VOLUME_UNIT = 10**_VOLUME_PLACES
_CENT = 10 ** (PRICE_PLACES - 2)

# The price wanders by value noise: each octave is 2**power minutes long and moves the price by
# at most so many millionths. Together they stay below one, hence no price reaches zero.
_OCTAVES = ((19, 350_000), (15, 110_000), (12, 40_000), (9, 12_000), (6, 4_000), (3, 1_500))
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar as the API prints it: every number is its JSON text, letter for letter."""

    t: int
    """Start of the bar, Unix milliseconds, UTC."""
    o: str
    h: str
    l: str  # noqa: E741 - the API's own name
    c: str
    v: str = ""
    """Empty when absent, as are vw and n."""
    vw: str = ""
    n: str = ""
    otc: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut of a ticker's bars, ready to be put between the brackets of `results`."""

    rows: bytes
    """The bars as JSON objects, separated by commas."""
    count: int
    first_ms: int
    """Start of the first row's bar; zero when there is no row."""
    last_ms: int
    more: bool
    """Whether the range holds bars behind the last row."""

    def split(self) -> list[bytes]:
        """One JSON text per bar."""
        if not self.count:
            return []
        return [b"{" + row + b"}" for row in self.rows[1:-1].split(b"},{")]


@functools.lru_cache(maxsize=16_384)
def _new_york_start(day_number: int) -> int:
    """UTC minute at which a New York day starts by the clock that it shows at noon.

    Clocks change on Sunday before anything trades, so noon's offset is right for all sessions.
    """
    noon = dt.datetime.combine(EPOCH + dt.timedelta(days=day_number), dt.time(12), NEW_YORK)
    return int(noon.timestamp()) // 60 - DAY_MINUTES // 2


def _draw(seed: int, places: Whole) -> Words:
    """One 64-bit random word per place: splitmix64, which needs no state."""
    words = places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words += np.uint64(seed)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def _bits(words: Words, start: int, size: int) -> Whole:
    """A field of the random words, as integers from 0 to 2**size - 1."""
    return ((words >> np.uint64(start)) & np.uint64((1 << size) - 1)).astype(np.int64)


def _minutes(subject: Profile, first: int, last: int) -> Whole:
    """The minutes from first to last (inclusive) that have a bar, ascending."""
    first = max(first, subject.first_minute)
    if first > last:
        return np.empty(0, dtype=np.int64)
    # A New York day begins up to five hours after the UTC day of the same number.
    days = np.arange(first // DAY_MINUTES - 1, last // DAY_MINUTES + 1)
    if subject.asset_type == "crypto":
        starts = days * DAY_MINUTES
    else:
        starts = np.array([_new_york_start(day) for day in days.tolist()], dtype=np.int64)
    odds = subject.odds[(days + 3) % 7]  # 1 January 1970 was a Thursday
    grid = starts[:, None] + np.arange(DAY_MINUTES)
    near = (odds > 0) & (grid >= first) & (grid <= last)
    minutes: Whole = grid[near]
    lots = _draw(subject.seed, minutes) >> np.uint64(32)
    return minutes[lots < odds[near]]


def _price_at(subject: Profile, minutes: Whole) -> Whole:
    """The wandering price, in units of 1e-4."""
    millionths = np.full(len(minutes), _MILLION, dtype=np.int64)
    for power, reach in _OCTAVES:
        cells = minutes >> power
        low = int(cells.min())
        knots = _bits(_draw(subject.seed ^ power, np.arange(low, int(cells.max()) + 2)), 48, 16)
        left, right = knots[cells - low], knots[cells - low + 1]
        height = left + (((right - left) * (minutes & ((1 << power) - 1))) >> power)
        millionths += ((height - 32_768) * reach) >> 15
    return subject.price * millionths // _MILLION


def _volumes(subject: Profile, words: Words) -> tuple[Whole, Mask]:
    """Volumes in millionths, and where a whole number is printed with `.0`."""
    size = _bits(words, 0, 12)
    volumes = (1 + subject.crowd * size * size // (1 << 20)) * _VOLUME_UNIT
    form = _bits(words, 12, 3)
    fractional = form < 4
    if subject.fine:
        fractional |= True
    volumes += np.where(fractional, _bits(words, 16, 20) % _VOLUME_UNIT, 0)
    return volumes, form == 7


def _ohlc(subject: Profile, minutes: Whole, words: Words) -> tuple[Whole, Whole, Whole, Whole]:
    """Open, high, low and close in units of 1e-4; most bars trade in whole cents."""
    # Forex and every eighth bar elsewhere use all four decimals.
    tick = np.where(_bits(words, 0, 3) == 0, 1, 1 if subject.asset_type == "forex" else _CENT)
    open_ = _price_at(subject, minutes) // tick * tick
    close = _price_at(subject, minutes + 1) // tick * tick
    high = np.maximum(open_, close) + tick * _bits(words, 3, 3)
    low = np.minimum(open_, close) - tick * _bits(words, 6, 3)
    return open_, high, np.maximum(low, 1), close


def _shares(subject: Profile, splits: Sequence[Event], minutes: Whole) -> tuple[Whole, Whole]:
    """Shares today for shares of each minute: so many for so many, in whole numbers."""
    now, then = np.ones_like(minutes), np.ones_like(minutes)
    for split in splits:
        is_before = minutes < day_start_ms(subject.ticker, split.day) // MINUTE_MS
        now *= np.where(is_before, split.after, 1)
        then *= np.where(is_before, split.before, 1)
    common = np.gcd(now, then)
    return now // common, then // common


def _encode(subject: Profile, minutes: Whole, told: Sequence[Event], *, adjusted: bool) -> bytes:
    """The bars of these minutes as JSON objects separated by commas."""
    rows = len(minutes)
    if not rows:
        return b""
    prices, trades = (_draw(subject.seed ^ salt, minutes) for salt in (0xA11CE, 0xB0B))
    open_, high, low, close = _ohlc(subject, minutes, prices)
    vwap = low + (((high - low) * _bits(prices, 16, 16)) >> 16)
    volumes, dotted = _volumes(subject, trades)
    if subject.splits:
        # What was traded then is a whole number of units, whatever it is today.
        now, then = _shares(subject, subject.splits, minutes)
        factor = then if adjusted else now
        open_, high, low, close, vwap = (x * factor for x in (open_, high, low, close, vwap))
        volumes = volumes // now * (now if adjusted else then)
    if told and adjusted:
        # What was traded stays as it was; what it is today is rounded, as by the API.
        now, then = _shares(subject, told, minutes)
        open_, high, low, close, vwap = (np.maximum(x * then // now, 1) for x in (open_, high, low, close, vwap))
        volumes = volumes * now // then
    price = functools.partial(decimal, places=PRICE_PLACES)
    stamp = (literal(',"t":', rows), whole(minutes * MINUTE_MS))
    ohlc = [(f',"{name}":', price(units)) for name, units in zip("ochl", (open_, close, high, low), strict=True)]
    body = [cells for name, text in ohlc for cells in (literal(name, rows), text)]
    body += stamp
    if subject.asset_type == "indices":
        start = [literal(",{", rows), literal('"o":', rows), *body[1:]]
        return join([*start, literal("}", rows)])[1:]
    # Some bars of a gappy ticker lack vw, some n, some both.
    odd = _bits(trades, 40, 6)
    without_vwap = np.isin(odd, (0, 1)) & subject.gappy
    without_count = np.isin(odd, (1, 2)) & subject.gappy
    columns = [
        literal(',{"v":', rows),
        decimal(volumes, _VOLUME_PLACES, dotted),
        blank(literal(',"vw":', rows), without_vwap),
        blank(price(vwap), without_vwap),
        *body,
        blank(literal(',"n":', rows), without_count),
        blank(whole(1 + _bits(trades, 46, 10)), without_count),
        literal(',"otc":true}' if subject.otc else "}", rows),
    ]
    return join(columns)[1:]


class Market:
    """Every ticker's bars."""

    def __init__(self) -> None:
        """With the splits of the tickers' profiles."""
        self.splits = Splits()

    def cut(
        self, ticker: str, first_ms: int, last_ms: int, *, limit: int, descending: bool = False, adjusted: bool = True
    ) -> Cut:
        """At most `limit` bars that start within [first_ms, last_ms], from either end."""
        subject = profile(ticker)
        minutes = _at_most(subject, -(-first_ms // MINUTE_MS), last_ms // MINUTE_MS, limit + 1, descending=descending)
        kept = minutes[:limit]
        ends = (int(kept[0]) * MINUTE_MS, int(kept[-1]) * MINUTE_MS) if len(kept) else (0, 0)
        rows = _encode(subject, kept, self.splits.told(ticker), adjusted=adjusted)
        return Cut(rows, len(kept), ends[0], ends[1], more=len(minutes) > limit)

    def bars(self, ticker: str, first_ms: int, last_ms: int, *, adjusted: bool = True) -> list[Bar]:
        """All bars that start within [first_ms, last_ms], ascending: the truth for a test."""
        limit = max(0, last_ms // MINUTE_MS - first_ms // MINUTE_MS) + 1
        rows = self.cut(ticker, first_ms, last_ms, limit=limit, adjusted=adjusted).rows
        plain = json.loads(b"[" + rows + b"]", parse_int=str, parse_float=str)
        return [Bar(**{**row, "t": int(row["t"])}) for row in plain]

    def days(self, ticker: str, first: dt.date, last: dt.date, *, adjusted: bool = True) -> list[Bar]:
        """All bars of the calendar days first to last (inclusive), ascending."""
        end = day_start_ms(ticker, last + dt.timedelta(days=1)) - 1
        return self.bars(ticker, day_start_ms(ticker, first), end, adjusted=adjusted)


def _at_most(subject: Profile, first: int, last: int, limit: int, *, descending: bool) -> Whole:
    """The first (or last) `limit` minutes with a bar, found block by block."""
    if not subject.odds.any():
        return np.empty(0, dtype=np.int64)
    first = max(first, subject.first_minute)
    last = min(last, _END_MINUTE)
    stride = min(max(2 * DAY_MINUTES, limit * 2), 100 * DAY_MINUTES)
    found: list[Whole] = []
    missing = limit
    while missing > 0 and first <= last:
        if descending:
            block = _minutes(subject, max(first, last - stride + 1), last)[::-1]
            last -= stride
        else:
            block = _minutes(subject, first, min(last, first + stride - 1))
            first += stride
        found.append(block[:missing])
        missing -= len(block)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
