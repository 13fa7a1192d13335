"""A report's settings in; the flags and variables that say the same, in the words of the command line, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_flags"]

_SWITCHES = {
    "adjusted": ("--adjusted", "--no-adjusted"),
    "keep_csv": ("--keep-csv", "--no-keep-csv"),
    "reference": ("--reference", "--no-reference"),
    "upload": ("", "--no-upload"),
    "force": ("--force", ""),
}
"""A setting that is on, and off; nothing where that is how it is without any flag."""
_VALUES = {
    "universe": "--universe",
    "match": "--match",
    "limit": "--limit",
    "shard": "--shard",
    "start": "--from",
    "end": "--to",
    "look_back": "--look-back",
    "concurrency": "--concurrency",
    "rate": "--rate",
    "processes": "--processes",
    "patience": "--patience",
    "stall_timeout": "--stall-timeout",
    "outage_patience": "--outage-patience",
    "most_failures": "--max-failures",
    "bucket": "--bucket",
    "key_prefix": "--key-prefix",
    "output_dir": "--output-dir",
    "exchange": "--exchange",
    "currency": "--currency",
    "base_url": "POLYGON_BASE_URL",
}
_WHEN_NOT_SET = "auto"
"""What --max-failures is then."""


def as_flags(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each setting as a flag and its value, in the order of the help; what has no flag is left out.

    Args:
        settings: As the report has them.
    """
    told = dict(settings)
    if told.pop("since_last", False):
        told["start"] = "last"
    else:
        told.pop("look_back", None)
    if "most_failures" in told and told["most_failures"] is None:
        told["most_failures"] = _WHEN_NOT_SET
    if told.get("upload") is False:
        told = {name: value for name, value in told.items() if name not in {"bucket", "key_prefix", "keep_csv"}}
    found = [(flag, _spelt(name, told[name])) for name, flag in _VALUES.items() if told.get(name) not in (None, "", [])]
    found += [(told_as, "") for name, both in _SWITCHES.items() if name in told and (told_as := both[not told[name]])]
    return found


def _spelt(name: str, value: Any) -> str:
    if name == "shard":
        return "/".join(map(str, value))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
