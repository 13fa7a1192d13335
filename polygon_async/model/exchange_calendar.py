"""A range in; the New York Stock Exchange's sessions in it out, from its calendar or what was kept of it. Blocking."""

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

__all__ = ["trading_days"]

_NAME = "XNYS"
_FILE = "calendar-xnys.json"
_EARLIEST = date(2003, 1, 1)
"""From where on days are kept at least: the API's minute bars begin there."""
_AHEAD = timedelta(days=370)
_MARGIN = timedelta(days=10)
"""A calendar cannot be made for days without any session."""


def trading_days(first: date, last: date) -> tuple[int, int]:
    """The sessions from `first` to `last`, and those of them that end early, as sets of days (see `days`).

    Making a calendar takes most of a second, with all that has to be imported for it. Its days are kept
    in the user's cache directory until the library has another version.

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
    """What is kept, where it reaches far enough; whatever else is in the file counts for nothing."""
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
        return  # it costs the next run the same second again
