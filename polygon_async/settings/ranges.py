"""The days of a run, from flags, variables and today's date."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError
from polygon_async.model.units import today
from polygon_async.settings.environment import Environment
from polygon_async.settings.sources import chosen
from polygon_async.settings.values import default_range, parse_date, parse_from, parse_last_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

__all__ = ["given", "is_last", "range_from", "range_of"]

_LAST = "last"
"""Instead of a first day: the day after the last one that the ledger holds."""


def given(flags: Mapping[str, Any], environment: Environment, end: str) -> str | None:
    """What was said of one end of the range, `from` or `to`."""
    variable = environment.get(f"POLYGON_{end.upper()}")
    return flags.get(end) or (variable and variable[1])


def is_last(flags: Mapping[str, Any], environment: Environment) -> bool:
    return (given(flags, environment, "from") or "").strip().lower() == _LAST


def range_of(first: str, last: str) -> tuple[date, date]:
    """The days of a range of which both ends are told.

    Raises:
        ConfigError: they are not such a range.
    """
    ends = {"from": first, "to": last}
    return range_from(ends, Environment({}, {}), since_last=False, parse_first=parse_date)


def range_from(
    flags: Mapping[str, Any],
    environment: Environment,
    *,
    since_last: bool,
    parse_first: Callable[[str], date] = parse_from,
) -> tuple[date, date]:
    this_day = today()
    first, last = default_range(this_day)
    start = first
    if not since_last:
        start = chosen(flags, environment, "from", "POLYGON_FROM", parse_first, first.isoformat())
    end = chosen(flags, environment, "to", "POLYGON_TO", parse_last_date, last.isoformat())
    if since_last and start > end:
        # For tickers of which nothing is held: as long a range as the default one.
        start, _ = default_range(end + timedelta(days=1))
    if start > end:
        was_given = not since_last and given(flags, environment, "from")
        default = "" if was_given else " (the default)"
        raise ConfigError(f"the range ends before it starts: --from {start}{default} is after --to {end}")
    if start > this_day:
        raise ConfigError(f"--from {start} is in the future; today is {this_day} in New York")
    return start, end
