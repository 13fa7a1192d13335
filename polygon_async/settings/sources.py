"""One setting's value, from the first place that has it: the flag, the variable, the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from polygon_async.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polygon_async.settings.environment import Environment

__all__ = ["DEFAULTS", "chosen"]

DEFAULTS: Mapping[str, str] = {
    "universe": "tickers.csv",
    "concurrency": "8",
    "processes": "auto",
    "rate": "auto",
    "patience": "300",
    "stall_timeout": "30",
    "outage_patience": "600",
    "look_back": "10",
    "bucket": "mochi-tickdata-historical",
    "output_dir": "output",
    "log_level": "info",
    "log_format": "text",
    "base_url": "https://api.polygon.io",
}
"""The defaults, as a user would write them; flags, variables and `.env` override them."""

_T = TypeVar("_T")


def chosen(
    flags: Mapping[str, Any],
    environment: Environment,
    name: str,
    variable: str,
    parse: Callable[[str], _T],
    default: str | None = None,
) -> _T:
    """One setting's value from the first place that has it, parsed; errors name that place."""
    flag: str | None = flags.get(name)
    if flag is not None:
        where, text = f"--{name.replace('_', '-')}", flag
    elif found := environment.get(variable):
        where, text = found
    else:
        where, text = "default", DEFAULTS[name] if default is None else default
    try:
        return parse(text.strip())
    except ValueError as error:
        raise ConfigError(f"{where} {one_line(repr(text))}: {error}") from None
