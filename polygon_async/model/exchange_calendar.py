"""The New York Stock Exchange's sessions in a range, from its calendar or a cached copy of it. Blocking."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from polygon_async.model.days import days_between, from_text, set_of, to_text
from polygon_async.model.units import today
from polygon_async.system.files import cache_directory, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["outdated_calendar", "trading_days"]

_NAME = "XNYS"
_FILE = "calendar-xnys.json"
_EARLIEST = date(2003, 1, 1)
"""The cached days begin here at the latest, as the API's minute bars do."""
_AHEAD = timedelta(days=370)
_MARGIN = timedelta(days=10)
"""A calendar cannot be made for days without any session."""


def trading_days(first: date, last: date) -> tuple[int, int]:
    """The sessions from `first` to `last`, and which of them end early, as sets of days (see `days`).

    Making a calendar takes most of a second, including the imports. Its days are cached in the user's
    cache directory until the library's version changes.

    Raises:
        ValueError: the calendar does not reach there.
    """
    from importlib.metadata import version

    directory, release = cache_directory(), version("exchange_calendars")
    kept = None if directory is None else _kept(directory / _FILE, release, first, last)
    if kept is None:
        kept = _made(release, min(first, _EARLIEST), max(last, today() + _AHEAD))
        if directory is not None:
            _keep(directory / _FILE, kept)
    asked = days_between(first, last)
    return (from_text(kept["days"]) or 0) & asked, (from_text(kept["half_days"]) or 0) & asked


def outdated_calendar() -> Path | None:
    """The cached days, if they are another version's, or damaged: the next run makes them anew."""
    from importlib.metadata import version

    directory = cache_directory()
    if directory is None or not (path := directory / _FILE).is_file():
        return None
    return path if _kept(path, version("exchange_calendars"), today(), today()) is None else None


def _made(release: str, first: date, last: date) -> dict[str, Any]:
    from exchange_calendars import get_calendar

    calendar = get_calendar(_NAME, start=first - _MARGIN, end=last + _MARGIN)
    return {
        "library": release,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "days": _text(stamp.date() for stamp in calendar.sessions),
        "half_days": _text(stamp.date() for stamp in calendar.early_closes),
    }


def _text(days: Iterable[date]) -> str | None:
    return to_text(set_of(days))


def _kept(path: Path, release: str, first: date, last: date) -> dict[str, Any] | None:
    """The cached days, if they cover the range; a file of any other content is ignored."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        reaches = date.fromisoformat(kept["first"]) <= first and last <= date.fromisoformat(kept["last"])
        usable = kept["library"] == release and reaches
        from_text(kept["days"]), from_text(kept["half_days"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return kept if usable else None


def _keep(path: Path, kept: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(kept) + "\n", shared=True)
    except OSError:
        return  # the next run makes the calendar again
