"""JSON that is written piece by piece is the JSON that would have been written whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from polygon_async.report.json_stream import json_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.text(), PLAIN), st.dictionaries(st.text(), st.lists(PLAIN)))
def test_the_pieces_are_the_whole(values: dict[str, Any], lists: dict[str, list[Any]]) -> None:
    lists = {name: items for name, items in lists.items() if name not in values}
    assert "".join(json_pieces(values, lists)) == json.dumps({**values, **lists})


def test_an_item_is_read_when_its_turn_comes() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(3):
            read.append(number)
            yield number

    pieces = json_pieces({}, {"items": items()})
    assert (next(pieces), next(pieces), read) == ('{"items": [', "0", [0])
    assert ("".join(pieces), read) == (", 1, 2]}", [0, 1, 2])
