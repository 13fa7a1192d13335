"""A function's arguments in, checked settings out; what is wrong is said in Python's names, not the command line's."""

from __future__ import annotations

import contextlib
import operator
import os
import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, PolygonAsyncError, one_line
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from polygon_async.settings.settings import Settings

__all__ = ["day_text", "named_as_in_python", "number_text", "settings_of", "symbols_of", "text_of"]

_NAMES = {
    "from": "start",
    "to": "end",
    "universe": "universe_file",
    "no-upload": "upload=False",
    "no-adjusted": "adjusted=False",
    "no-reference": "reference=False",
    "no-keep-csv": "keep_csv=False",
    "force": "force=True",
}
"""What a flag is called in Python, where it is not its own name with underscores."""
_FLAG = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)( (?='))?")
_DATES = "a date, a datetime, or text such as '2026-01-31', 'yesterday', '-30d' or '2024-03'"


def settings_of(flags: Mapping[str, object], api_key: str | None, *, needs_key: bool = True) -> Settings:
    """Settings from arguments and the process's environment; only the command line reads `.env`.

    Raises:
        ConfigError: an argument or a variable cannot be used.
    """
    own = dict(os.environ)
    if api_key is not None:
        own["POLYGON_API_KEY"] = text_of("api_key", api_key) or ""
    return settings_from(flags, Environment(own, {}), needs_key=needs_key)


@contextlib.contextmanager
def named_as_in_python() -> Iterator[None]:
    """Errors that leave the block name arguments, and not flags."""
    try:
        yield
    except PolygonAsyncError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (_FLAG.sub(_argument, error.args[0]), *error.args[1:])
        raise


def _argument(flag: re.Match[str]) -> str:
    name = _NAMES.get(flag[1], flag[1].replace("-", "_"))
    return f"{name}=" if flag[2] else name


def day_text(name: str, value: object) -> str | None:
    """A date's text as the settings read it; None stays None. A datetime counts by its own calendar day.

    Raises:
        ConfigError: it is no date.
    """
    if value is None or isinstance(value, str):
        return value
    # NaT is a datetime by its class, and unequal to itself.
    if isinstance(value, date) and value == value:
        return (value.date() if isinstance(value, datetime) else value).isoformat()
    if (type(value).__module__, type(value).__name__) == ("numpy", "datetime64"):
        text = str(value)[:10]
        if text != "NaT":
            return text
    raise _wrong(name, value, _DATES)


def symbols_of(name: str, value: object) -> list[str]:
    """One ticker, or several, as a list of texts, each once and in order.

    Raises:
        ConfigError: it is neither, or there is none.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, bytes | dict):
        raise _wrong(name, value, "a ticker, or several in a list")
    symbols = list(value)
    for each in symbols:
        if not isinstance(each, str):
            raise _wrong(name, each, "text, as in 'AAPL'")
    if not symbols:
        raise ConfigError(f"{name}: there is no ticker")
    return list(dict.fromkeys(symbols))


def text_of(name: str, value: object) -> str | None:
    """A text, or None.

    Raises:
        ConfigError: it is anything else.
    """
    if value is None or isinstance(value, str):
        return value
    raise _wrong(name, value, "text")


def number_text(name: str, value: object) -> str | None:
    """A number as the settings read it; None stays None, and a text is read like the command line's.

    Raises:
        ConfigError: it is no number.
    """
    if value is None or isinstance(value, str):
        return value
    number: Any = value
    # numpy's numbers are numbers, too.
    for kind in (operator.index, float):
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(value, bool):
                return str(kind(number))
    raise _wrong(name, value, "a number")


def _wrong(name: str, value: object, expected: str) -> ConfigError:
    kind = type(value).__name__
    return ConfigError(f"{name}={one_line(repr(value))}: must be {expected}, and is of type {kind}")
