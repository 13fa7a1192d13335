"""A setting's text in, its value out; a ValueError says what the text must be."""

from __future__ import annotations

import ipaddress
import math
import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from polygon_async.model.units import today
from polygon_async.system.cores import usable_cores

__all__ = [
    "default_range",
    "is_loopback",
    "parse_concurrency",
    "parse_date",
    "parse_from",
    "parse_last_date",
    "parse_most_failures",
    "parse_place",
    "parse_positive_seconds",
    "parse_prefix",
    "parse_processes",
    "parse_seconds",
    "parse_sessions",
    "parse_shard",
    "parse_workers",
    "parse_zone",
]

_MOST_WORKERS = 256
_MOST_CONCURRENCY = 1000
_LONGEST_PREFIX = 512
"""Bytes of what keys are below; a key has at most 1,024, and our own part of it a few hundred."""
_MOST_SESSIONS = 250
"""A year; what is later than that is fetched with a range."""
_DAYS_AGO = {"today": 0, "yesterday": 1}
_YEAR, _MONTH, _AGO = r"\d{4}", r"\d{4}-\d\d", r"-(\d{1,5})([dwmy])"
_DATES = "must be an existing date, YYYY-MM-DD, a month or a year, today, yesterday, or -30d (also w, m, y)"
_OLDEST = date(1970, 1, 1)
_LATEST = date(2199, 12, 31)


def parse_date(text: str) -> date:
    """A calendar day: YYYY-MM-DD, `today`, `yesterday`, or so many days, weeks, months or years ago (-30d, -2y).

    A month (2024-03) or a year (2024) stands for its first day.

    Raises:
        ValueError: the text is not one.
    """
    day = _day(text.strip().lower())
    if not _OLDEST <= day <= _LATEST:
        raise ValueError(f"must be a date, YYYY-MM-DD, from {_OLDEST} to {_LATEST}")
    return day


def parse_last_date(text: str) -> date:
    """As `parse_date`, but a month or a year stands for its last day.

    Raises:
        ValueError: the text is not a day.
    """
    day = parse_date(text)
    if re.fullmatch(_YEAR, text.strip()):
        return day.replace(month=12, day=31)
    if re.fullmatch(_MONTH, text.strip()):
        return day.replace(day=monthrange(day.year, day.month)[1])
    return day


def _day(text: str) -> date:
    """What the words stand for; days are New York's."""
    if text in _DAYS_AGO:
        return today() - timedelta(days=_DAYS_AGO[text])
    if found := re.fullmatch(_AGO, text):
        return _ago(int(found[1]), found[2])
    parts = f"{text}-01-01" if re.fullmatch(_YEAR, text) else f"{text}-01" if re.fullmatch(_MONTH, text) else text
    try:
        day = datetime.strptime(parts, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError(_DATES) from None
    if parts != day.isoformat():
        raise ValueError(_DATES)
    return day


def _ago(number: int, unit: str) -> date:
    this_day = today()
    try:
        if unit in {"d", "w"}:
            return this_day - timedelta(days=number * (7 if unit == "w" else 1))
        months = this_day.year * 12 + this_day.month - 1 - number * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(this_day.day, monthrange(year, month + 1)[1]))
    except (ValueError, OverflowError):
        raise ValueError("reaches too far back") from None


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


def default_range(this_day: date) -> tuple[date, date]:
    """Two years before a day plus a day, and the day before: the free plan's history."""
    try:
        two_years_ago = this_day.replace(year=this_day.year - 2)
    except ValueError:  # 29 February
        two_years_ago = this_day.replace(year=this_day.year - 2, day=28)
    return two_years_ago + timedelta(days=1), this_day - timedelta(days=1)


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


def parse_most_failures(text: str) -> float | None:
    """How many tickers may fail; None for `auto`, infinity for `unlimited`.

    Raises:
        ValueError: the text is no such number.
    """
    if text in {"auto", "unlimited"}:
        return None if text == "auto" else math.inf
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not int(text):
        raise ValueError("must be a whole number, 1 or more, unlimited, or auto")
    return int(text)


def parse_workers(text: str) -> int:
    """How many worker processes; 0 for none.

    Raises:
        ValueError: the text is no such number.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > _MOST_WORKERS:
        raise ValueError(f"must be a whole number from 1 to {_MOST_WORKERS}")
    return int(text)


def parse_shard(text: str) -> tuple[int, int] | None:
    """Which part of how many: `3/16`; None for `1/1`, which is everything.

    Raises:
        ValueError: the text is no such part.
    """
    which, mark, count = text.partition("/")
    if not mark or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in (which, count)):
        raise ValueError("must be K/N, such as 3/16")
    if not 1 <= int(which) <= int(count):
        raise ValueError("must be K/N, with K from 1 to N")
    return None if int(count) == 1 else (int(which), int(count))


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


def parse_place(text: str) -> tuple[str, str]:
    """A bucket's name, and what its keys are below, from `bucket` or `s3://bucket/prefix/`.

    Raises:
        ValueError: it is neither.
    """
    scheme, is_address, rest = text.partition("://")
    if is_address and scheme.lower() != "s3":
        raise ValueError("must be a bucket name or s3://bucket/prefix; a store's address goes in AWS_ENDPOINT_URL_S3")
    name, _, prefix = (rest if is_address else text).partition("/")
    if not name:
        raise ValueError("names no bucket")
    if prefix and not is_address:
        if name.lower() == "s3:":
            raise ValueError(f"an address begins with two slashes: s3://{prefix.lstrip('/')}")
        raise ValueError(f"a bucket's name has no slash; write s3://{name}/{prefix}, or add --key-prefix {prefix}")
    return name, parse_prefix(prefix)


def parse_prefix(text: str) -> str:
    """What keys are below, without a slash at either end; empty for the bucket's root.

    Raises:
        ValueError: no key can be below it.
    """
    prefix = text.strip("/")
    if not prefix:
        return ""
    if {"", ".", ".."} & set(prefix.split("/")):
        raise ValueError("a part of the prefix is empty or only dots")
    if not prefix.isprintable() or "\\" in prefix:
        raise ValueError("the prefix contains characters that keys should not have")
    if len(prefix.encode()) > _LONGEST_PREFIX:
        raise ValueError(f"the prefix is longer than {_LONGEST_PREFIX} bytes")
    return prefix


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
