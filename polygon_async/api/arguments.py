"""A function's arguments, of any type, in; checked settings, days and choices out; errors name the arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import date, datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polygon_async.errors import ConfigError, one_line
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.settings.values import parse_date, parse_last_date

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from polygon_async.settings.settings import Settings

__all__ = ["Day", "choice_of", "day_of", "flag_of", "settings_of", "text_of"]

Day: TypeAlias = date | np.datetime64 | str
"""What stands for a calendar day; a datetime and a pandas Timestamp are dates."""

_DAYS = (
    "a date, a datetime, a pandas Timestamp, a numpy datetime64, or text such as 2026-01-31, 2026-01, 2026, today,"
    " yesterday or -30d"
)
_SINCE_LAST = "last"
_FLAGS = {"start": "from", "end": "to", "universe_file": "universe"}
"""Arguments whose settings have another name."""


def settings_of(
    arguments: Mapping[str, object],
    api_key: object,
    *,
    environment: Mapping[str, str] | None = None,
    required: Collection[str] = (),
    needs_key: bool = True,
) -> Settings:
    """Settings from a function's arguments and the process's environment; only the command line reads `.env`.

    Args:
        arguments: By their names; None stands for the environment's value or the default.
        api_key: Comes before the environment's.
        environment: In the place of the process's.
        required: Arguments that cannot be None.
        needs_key: Whether nothing can be done without the API's key.

    Raises:
        ConfigError: One line that names all arguments that cannot be used.
    """
    flags: dict[str, Any] = {}
    wrong: list[str] = []
    own = dict(os.environ if environment is None else environment)
    for name, value in arguments.items():
        try:
            if value is not None or name in required:
                # Only what may also be left out can begin where the ledger ends.
                is_last = name == "start" and name not in required and _is_last(value)
                flags[_FLAGS.get(name, name)] = _SINCE_LAST if is_last else _CHECKS[name](name, value)
        except ConfigError as error:
            wrong.append(str(error))
    try:
        if api_key is not None:
            own["POLYGON_API_KEY"] = _key(api_key)
    except ConfigError as error:
        wrong.append(str(error))
    if wrong:
        raise ConfigError("; ".join(wrong))
    return settings_from(flags, Environment(own, {}), needs_key=needs_key)


def day_of(name: str, value: object, *, is_last: bool = False) -> date:
    """A calendar day; a moment's is the one that it is written with, in whichever time zone.

    Args:
        name: The argument's.
        value: What was passed.
        is_last: Whether a month or a year stands for its last day, and not for its first.

    Raises:
        ConfigError: The value is no day.
    """
    # NaT is the only one that is not equal to itself, pandas' as well as numpy's.
    if isinstance(value, date | np.datetime64) and value != value:
        raise ConfigError(f"{name} must be {_DAYS}; it is NaT")
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, np.datetime64):
        text = str(value).partition("T")[0]
    elif isinstance(value, str):
        text = str(value)
    else:
        raise _mistaken(name, value, _DAYS)
    try:
        return parse_last_date(text) if is_last else parse_date(text)
    except ValueError as error:
        raise ConfigError(f"{name}={one_line(repr(text))}: {error}") from None


def choice_of(name: str, value: object, choices: Collection[str]) -> str:
    """One of some words.

    Raises:
        ConfigError: The value is none of them.
    """
    words = " or ".join(repr(str(choice)) for choice in choices)
    if not isinstance(value, str):
        raise _mistaken(name, value, words)
    if value not in choices:
        raise ConfigError(f"{name}={one_line(repr(value))}: must be {words}")
    return str(value)


def text_of(name: str, value: object) -> str:
    """A text.

    Raises:
        ConfigError: The value is none.
    """
    if not isinstance(value, str):
        raise _mistaken(name, value, "text")
    return str(value)


def flag_of(name: str, value: object) -> bool:
    """True or False; words such as `"no"`, which Python takes for true, are refused.

    Raises:
        ConfigError: The value is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise _mistaken(name, value, "True or False")
    return bool(value)


def _mistaken(name: str, value: object, accepted: str) -> ConfigError:
    """Of the value only its type is told: it may be long, or a secret."""
    kind = "None" if value is None else f"of type {type(value).__name__}"
    return ConfigError(f"{name} must be {accepted}; it is {kind}")


def _key(value: object) -> str:
    if not text_of("api_key", value).strip():
        raise ConfigError("api_key is empty")
    return text_of("api_key", value)


def _is_last(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() == _SINCE_LAST


def _first_day(name: str, value: object) -> str:
    return day_of(name, value).isoformat()


def _last_day(name: str, value: object) -> str:
    return day_of(name, value, is_last=True).isoformat()


def _symbols(name: str, value: object) -> list[str]:
    """A ticker, or several."""
    names = [value] if isinstance(value, str) else _items(name, value, "a ticker or several tickers, as text")
    if not names:
        raise ConfigError(f"{name} is empty")
    for place, each in enumerate(names):
        if not isinstance(each, str):
            raise _mistaken(f"{name}[{place}]", each, "text")
        if "," in each:
            apart = [part for part in each.replace(",", " ").split() if part]
            raise ConfigError(f"{name}: {one_line(repr(each))} is not one ticker; pass a list: {one_line(apart)}")
    return [str(each) for each in names]


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, str):
        return [str(value)]
    words = _items(name, value, "text, or several texts")
    return [text_of(f"{name}[{place}]", each) for place, each in enumerate(words)]


def _paths(name: str, value: object) -> list[str]:
    if isinstance(value, str | os.PathLike):
        return [_path(name, value)]
    paths = _items(name, value, "a path or several paths")
    return [_path(f"{name}[{place}]", each) for place, each in enumerate(paths)]


def _path(name: str, value: object) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(path, str):
        raise _mistaken(name, value, "a path")
    return path


def _items(name: str, value: object, accepted: str) -> list[object]:
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray):
        raise _mistaken(name, value, accepted)
    return list(value)


def _number(name: str, value: object) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _mistaken(name, value, "a number")
    try:
        return str(value)
    except ValueError:  # Python spells no int of thousands of digits
        raise ConfigError(f"{name} is too large") from None


def _rate(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _mistaken(name, value, "text such as 5/min, 100/s, unlimited or auto")
    return str(value)


_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "tickers": _symbols,
    "universe_file": _paths,
    "match": _words,
    "start": _first_day,
    "end": _last_day,
    "rate": _rate,
    "output_dir": _path,
    **dict.fromkeys(("concurrency", "limit", "max_failures", "patience", "processes", "workers"), _number),
    **dict.fromkeys(("bucket", "currency", "engine", "exchange", "key_prefix", "scheduler", "shard"), text_of),
    **dict.fromkeys(("adjusted", "force", "keep_csv", "reference", "upload"), flag_of),
}
"""How each argument's value becomes a flag's."""
