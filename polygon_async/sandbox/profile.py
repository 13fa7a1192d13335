"""A ticker's name in, what kind of instrument it is and when it trades out."""

import datetime as dt
import fnmatch
import functools
import hashlib
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

MINUTE_MS = 60_000
DAY_MINUTES = 1440
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = dt.date(1970, 1, 1)

BEGINNING = dt.date(2003, 9, 10)
"""No ticker has bars before this day, as in Polygon's own history."""

END = dt.date(2100, 1, 1)
"""No ticker has bars from this day on, which bounds every search."""

LATE_BEGINNING = dt.date(2025, 11, 3)
"""The first day of tickers named LATE*."""


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """A split of a ticker's shares."""

    day: dt.date
    """The first day on the new basis."""
    before: int
    """Shares before: 1 in a 4-for-1."""
    after: int


FOUR_FOR_ONE = Event(dt.date(2025, 6, 9), 1, 4)
"""The split of tickers named SPLIT*, and of a quarter of all others."""
ONE_FOR_TEN = Event(dt.date(2025, 6, 23), 10, 1)
"""The second split, a reverse one, of tickers named SPLITTWICE*."""

_PREFIXES = {"X:": "crypto", "C:": "forex", "I:": "indices", "O:": "options"}
_BUSY = {"AAPL", "AMZN", "GOOGL", "META", "MSFT", "NVDA", "QQQ", "SPY", "TSLA", "X:BTCUSD", "X:ETHUSD"}
_EMPTY_NAMES = "NODATA*"
_LATE_NAMES = "LATE*"
_OTC_NAMES = "OTC*"
_SPLIT_NAMES = "SPLIT*"
_TWICE_SPLIT_NAMES = "SPLITTWICE*"
_SPARSE_FIELD_NAMES = "GAPPY*"

PRICE_PLACES = 4
"""Decimals of a price."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What a ticker's name decides about its bars."""

    ticker: str
    asset_type: str
    seed: int
    odds: Words
    """Chance of a bar in 2**32nds, by weekday (Monday first) and minute of the day: (7, 1440)."""
    first_minute: int
    price: int
    """The price around which the ticker wanders, in units of 1e-4."""
    crowd: int
    """The scale of a bar's volume, in whole shares or coins."""
    fine: bool
    """Whether volumes are always fractional (coins) rather than now and then (shares)."""
    otc: bool
    gappy: bool
    """Whether bars lack vw or n now and then."""
    splits: tuple[Event, ...]
    """The earliest first."""


def asset_type(ticker: str) -> str:
    """crypto, forex, indices, options or stocks, by the ticker's prefix."""
    return _PREFIXES.get(ticker[:2], "stocks")


def day_start_ms(ticker: str, day: dt.date) -> int:
    """The first millisecond of a calendar day: New York's, or UTC's for crypto."""
    zone = dt.UTC if asset_type(ticker) == "crypto" else NEW_YORK
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp()) * 1000


def _odds(kind: str, open_chance: int, other_chance: int) -> Words:
    """The chance table of an asset type, from two chances in per cent."""
    odds = np.zeros((7, DAY_MINUTES), dtype=np.uint64)
    percent = (1 << 32) // 100
    if kind == "crypto":
        odds[:] = open_chance * percent
    elif kind == "forex":
        odds[:4] = open_chance * percent
        odds[4, :1020] = odds[6, 1020:] = open_chance * percent
    else:
        odds[:5, 240:1200] = other_chance * percent
        odds[:5, 570:960] = open_chance * percent
    return odds


def _chances(ticker: str, seed: int) -> tuple[int, int]:
    """Per cent of minutes with a bar: in the main session, and outside it."""
    if ticker in _BUSY:
        return 100, 84
    open_chance = 15 + seed % 80
    return open_chance, max(3, open_chance // 4)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is(ticker: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(ticker.partition(":")[2] or ticker, pattern)


@functools.lru_cache(maxsize=4096)
def profile(ticker: str) -> Profile:
    """What the name of a ticker says about its bars."""
    seed, kind = _seed(ticker), asset_type(ticker)
    begins = LATE_BEGINNING if _is(ticker, _LATE_NAMES) else BEGINNING
    open_chance, other_chance = _chances(ticker, seed)
    if _is(ticker, _EMPTY_NAMES):
        open_chance = other_chance = 0
    stock = kind == "stocks"
    dearest = {"crypto": 60_000, "forex": 3, "options": 30}.get(kind, 800)
    return Profile(
        ticker=ticker,
        asset_type=kind,
        seed=seed,
        odds=_odds(kind, open_chance, other_chance),
        first_minute=day_start_ms(ticker, begins) // MINUTE_MS,
        price=8_000 + (seed >> 8) % (dearest * 10**PRICE_PLACES),
        crowd=1 + (seed >> 16) % (40 if kind == "crypto" else 60_000),
        fine=kind == "crypto",
        otc=stock and (_is(ticker, _OTC_NAMES) or seed % 11 == 3),
        gappy=_is(ticker, _SPARSE_FIELD_NAMES) or (seed >> 5) % 5 == 1,
        splits=_splits(ticker, seed) if stock else (),
    )


def _splits(ticker: str, seed: int) -> tuple[Event, ...]:
    first = (FOUR_FOR_ONE,) if _is(ticker, _SPLIT_NAMES) or (seed >> 12) % 4 == 1 else ()
    return (*first, ONE_FOR_TEN) if _is(ticker, _TWICE_SPLIT_NAMES) else first
