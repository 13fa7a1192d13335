"""An error that names the command line's flags in, the same error with Python's arguments out."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from polygon_async.errors import PolygonAsyncError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_python", "python_words"]

_OTHER_NAMES = {"from": "start", "to": "end", "universe": "universe_file"}
_SWITCHES = {
    "adjusted": "adjusted=True",
    "force": "force=True",
    "keep-csv": "keep_csv=True",
    "no-adjusted": "adjusted=False",
    "no-keep-csv": "keep_csv=False",
    "no-reference": "reference=False",
    "no-upload": "upload=False",
}
_SAME_NAMES = frozenset(
    {
        "as-of",
        "bucket",
        "concurrency",
        "currency",
        "engine",
        "exchange",
        "key-prefix",
        "limit",
        "match",
        "max-failures",
        "output-dir",
        "patience",
        "processes",
        "rate",
        "scheduler",
        "shard",
        "stored",
        "tickers",
        "workers",
    }
)
"""But for their hyphens."""
_NUMBERS = frozenset({"concurrency", "limit", "max-failures", "patience", "processes", "workers"})
_FLAG = re.compile(
    r"""(?<![\w'"-])--(?P<flag>[a-z]+(?:-[a-z]+)*)"""
    r"""(?:\ (?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?![\w.-])|(?:un)?adjusted\b|FILE\b))?"""
)
"""A flag, and the value or its placeholder after it; but none inside quotes, which is what somebody wrote."""
_NO_KEY = "export it or put it in .env (see .env.example)"
_KEPT = ", which docker's --env-file keeps"
"""What is told of a variable only."""


@contextlib.contextmanager
def in_python(api_key: object = None) -> Iterator[None]:
    """Within the context, the family's errors name Python's arguments; with an `api_key`, that is where the key is."""
    try:
        yield
    except PolygonAsyncError as error:
        text = python_words(str(error.args[0]))
        if api_key is not None:
            text = text.replace("POLYGON_API_KEY", "api_key").replace(_KEPT, "")
        error.args = (text, *error.args[1:])
        raise


def python_words(text: str) -> str:
    """A message as a Python programmer would write it: `--output-dir 'x'` becomes `output_dir='x'`."""
    return _FLAG.sub(_argument, text).replace(_NO_KEY, "export it, or pass api_key")


def _argument(found: re.Match[str]) -> str:
    flag, value = found["flag"], found["value"]
    if flag in _SWITCHES:
        return _SWITCHES[flag] if value is None else f"{_SWITCHES[flag]} {value}"
    if flag not in _OTHER_NAMES and flag not in _SAME_NAMES:
        return found[0]
    name = _OTHER_NAMES.get(flag, flag.replace("-", "_"))
    if value is None or value == "FILE":
        return name
    if value in {"adjusted", "unadjusted"}:
        return f"{name}={value!r}"
    bare = value.strip("'")
    is_number = flag in _NUMBERS and re.fullmatch(r"-?\d+(\.\d+)?|-?inf|nan", bare)
    return f"{name}={bare if is_number else value}"
