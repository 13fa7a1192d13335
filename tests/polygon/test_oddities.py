"""Values that no bar can have are counted, on whichever path a page is read, and stay as they are."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reading import read

from polygon_async.polygon.fast_pages import plain_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENS = 1_772_528_400_000
"""Tuesday, 3 March 2026, 04:00 in New York."""
SPELLINGS = st.one_of(
    st.decimals(min_value=0, max_value=10**10, places=0).map(str),
    st.decimals(min_value=0, max_value=200, places=4).map(str),
    st.decimals(min_value=0, max_value=20, places=2).map(str),
    st.decimals(min_value=12345678, max_value=12345679, places=6).map(str),
    st.sampled_from(["18", "18.0", "18.00", "0.12", "0.2", "9", "10", "9.99999999999", "123456789.1", "12345678.91"]),
)


def page(bars: Sequence[tuple[str, str]], *, n: str = "5", v: str = "10", usual: bool = True) -> bytes:
    """A page of bars with these highs and lows."""
    rows = [
        f'{{"v":{v},"vw":1.5,"o":1,"c":1,"h":{high},"l":{low},"t":{OPENS + 60_000 * number},"n":{n}}}'
        for number, (high, low) in enumerate(bars)
    ]
    if not usual:
        rows[0] = rows[0].replace('"v"', ' "v"', 1)
    head = {"ticker": "AAPL", "resultsCount": len(rows), "adjusted": True, "status": "OK"}
    return f'{json.dumps(head)[:-1]},"results":[{",".join(rows)}]}}'.encode()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(SPELLINGS, SPELLINGS), min_size=1, max_size=30), st.booleans())
def test_a_high_below_its_low_is_counted_however_the_two_are_spelt(bars: list[tuple[str, str]], usual: bool) -> None:
    wrong = sum(Decimal(high) < Decimal(low) for high, low in bars)
    assert read(page(bars, usual=usual)).odd == ({"high below low": wrong} if wrong else {})


@pytest.mark.parametrize("usual", [True, False], ids=["as a whole", "bar by bar"])
@pytest.mark.parametrize(
    ("text", "odd"),
    [
        (page([("2", "1")] * 3, n="1.2e+1"), {"number of trades that is not whole": 3}),
        (page([("2", "1")] * 3, n="12.5"), {"number of trades that is not whole": 3}),
        # The point is behind the eighth letter, or the sixteenth.
        (page([("2", "1")] * 3, n="-1000000.0"), {"number of trades that is not whole": 3}),
        (page([("2", "1")] * 3, n="1234567890123456.5"), {"number of trades that is not whole": 3}),
        (page([("2", "1")] * 3, n="1234567890123456"), {}),
        (page([("2", "1")] * 3, v="-4"), {"negative price or volume": 3}),
        (page([("2", "-1"), ("-2", "-1")]), {"negative price or volume": 2, "high below low": 1}),
        (page([("2e0", "1e0"), ("1e0", "2")]), {"high below low": 1}),
        (page([("2", "1"), ("2", "1")]).replace(b"60000", b"60001"), {"starts within a minute": 1}),
        (page([("2", "1"), ("2", "2.0")]), {}),
    ],
)
def test_what_no_bar_can_have_is_counted_and_kept(text: bytes, odd: dict[str, int], usual: bool) -> None:
    text = text.replace(str(OPENS + 60_000).encode(), str(OPENS + 60_001).encode()) if "within" in str(odd) else text
    text = text if usual else text.replace(b'[{"v"', b'[{ "v"')
    found = read(text)
    assert found.odd == odd
    results = text[text.index(b"[") : -1]
    assert (plain_rows(results) is not None) == usual
    assert found.bars == text.count(b'"t":')
