"""A setting's text in, its value out; a ValueError says what the text must be."""

from __future__ import annotations

import ipaddress
import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from polygon_async.system.cores import usable_cores

__all__ = [
    "default_range",
    "is_loopback",
    "parse_concurrency",
    "parse_date",
    "parse_from",
    "parse_positive_seconds",
    "parse_processes",
    "parse_seconds",
    "parse_sessions",
    "parse_text",
    "parse_zone",
]

_MOST_CONCURRENCY = 1000
_MOST_SESSIONS = 250
"""A year; what is later than that is fetched with a range."""
_OLDEST = date(1970, 1, 1)
_LATEST = date(2199, 12, 31)


def parse_date(text: str) -> date:
    """A calendar day, YYYY-MM-DD.

    Raises:
        ValueError: the text is not one.
    """
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError("must be an existing date, YYYY-MM-DD") from None
    if not _OLDEST <= day <= _LATEST or text != day.isoformat():
        raise ValueError(f"must be a date, YYYY-MM-DD, from {_OLDEST} to {_LATEST}")
    return day


def parse_zone(text: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        return ZoneInfo(text).key
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise ValueError("must be a time zone, such as America/New_York or UTC") from None


def parse_from(text: str) -> date:
    """The first day of a range; the message of the error also mentions `last`, which is handled elsewhere.

    Raises:
        ValueError: the text is not a day.
    """
    try:
        return parse_date(text)
    except ValueError as error:
        raise ValueError(f"{error}, or last") from None


def default_range(today: date) -> tuple[date, date]:
    """Two years before `today` plus a day, and yesterday: the free plan's history."""
    try:
        two_years_ago = today.replace(year=today.year - 2)
    except ValueError:  # 29 February
        two_years_ago = today.replace(year=today.year - 2, day=28)
    return two_years_ago + timedelta(days=1), today - timedelta(days=1)


def parse_processes(text: str) -> int:
    """How many processes; `auto` is one for each core that may be used.

    Raises:
        ValueError: the text is no such number.
    """
    if text == "auto":
        return usable_cores()
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > _MOST_CONCURRENCY:
        raise ValueError(f"must be a whole number from 0 to {_MOST_CONCURRENCY}, or auto")
    return int(text)


def parse_concurrency(text: str) -> int:
    """How many tickers at once.

    Raises:
        ValueError: the text is no such number.
    """
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= _MOST_CONCURRENCY:
        raise ValueError(f"must be a whole number from 1 to {_MOST_CONCURRENCY}")
    return int(text)


def parse_sessions(text: str) -> int:
    """How many sessions.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > _MOST_SESSIONS:
        raise ValueError(f"must be a whole number from 0 to {_MOST_SESSIONS}")
    return int(text)


def parse_seconds(text: str) -> float:
    """Seconds, 0 or more.

    Raises:
        ValueError: the text is no such number.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("must be a number of seconds, 0 or more")
    return seconds


def parse_positive_seconds(text: str) -> float:
    """Seconds, more than 0.

    Raises:
        ValueError: the text is no such number.
    """
    if not (seconds := parse_seconds(text)):
        raise ValueError("must be a number of seconds, more than 0")
    return seconds


def parse_text(text: str) -> str:
    """Any text that is not empty.

    Raises:
        ValueError: the text is empty.
    """
    if not text:
        raise ValueError("the value is empty")
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
