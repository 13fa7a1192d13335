"""Large JSON objects, piece by piece: their long lists are produced as they are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["json_pieces"]


def json_pieces(
    values: Mapping[str, Any],
    lists: Mapping[str, Iterable[Any]],
    last: Callable[[], Mapping[str, Any]] = dict,
) -> Iterator[str]:
    """The text of one JSON object.

    Args:
        values: Plain values.
        lists: Lists that are read one item at a time.
        last: Values that are known when the lists have been read.
    """
    start = "{"
    for name, value in values.items():
        yield f"{start}{json.dumps(name)}: {json.dumps(value)}"
        start = ", "
    for name, items in lists.items():
        yield f"{start}{json.dumps(name)}: ["
        for number, item in enumerate(items):
            yield f", {json.dumps(item)}" if number else json.dumps(item)
        yield "]"
        start = ", "
    for name, value in last().items():
        yield f"{start}{json.dumps(name)}: {json.dumps(value)}"
        start = ", "
    yield "}" if start == ", " else "{}"
