"""Pages that are taken apart as a whole are read as those that are read bar by bar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reading import OWN_ERRORS, read, unit_of

from polygon_async.polygon import fast_pages
from polygon_async.polygon.fast_pages import plain_rows

if TYPE_CHECKING:
    from collections.abc import Callable


def usual(**changed: str) -> bytes:
    """A bar of the usual form, with some of its values changed."""
    bar = {"v": "100", "vw": "1.5", "o": "1", "c": "2", "h": "3", "l": "0.5", "t": "1772514000000", "n": "7"} | changed
    return ("{" + ",".join(f'"{key}":{value}' for key, value in bar.items()) + "}").encode()


NUMBER_TEXTS = st.one_of(
    st.integers(0, 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["0", "18", "18.0", "1e3", "1E-3", "1.23456789012345e+22", "-0.5", "00", "1.", "null", '"1"', "true", ""]
    ),
)
STAMP_TEXTS = st.one_of(
    st.integers(1772514000000, 1772534000000).map(str),
    st.sampled_from(
        ["177251400000", "17725140000000", "-1772514000000", "1772514000000.0", "1.772514e12", '"1772514000000"']
    ),
)
CHANGES = st.dictionaries(st.sampled_from(["v", "vw", "o", "c", "h", "l", "n"]), NUMBER_TEXTS, max_size=2)


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "usual": lambda bar: bar,
    "otc": lambda bar: bar[:-1] + b',"otc":true}',
    "no vwap": lambda bar: re.sub(rb'"vw":[^,]*,', b"", bar),
    "no trades": lambda bar: re.sub(rb',"n":[^,}]*', b"", bar),
    "no volume": lambda bar: re.sub(rb'"v":[^,]*,', b"", bar),
    "an index's": lambda bar: re.sub(rb'"(v|vw)":[^,]*,|,"n":[^,}]*', b"", bar),
    "another order": lambda bar: b"{" + b",".join(reversed(bar[1:-1].split(b","))) + b"}",
}
"""What all bars of a page are like."""
NEAR_MISSES: dict[str, Callable[[bytes], bytes]] = {
    "": lambda bar: bar,
    "space": lambda bar: bar.replace(b":", b": ", 1),
    "otc": lambda bar: bar[:-1] + b',"otc":true}',
    "not otc": lambda bar: bar.replace(b',"otc":true}', b"}"),
    "otc, or not": lambda bar: bar[:-1] + b',"otc":false}',
    "order": lambda bar: b"{" + b",".join(reversed(bar[1:-1].split(b","))) + b"}",
    "extra": lambda bar: bar[:-1] + b',"x":1}',
    "digit": lambda bar: bar.replace(b'"v"', b'"v1"').replace(b'"o"', b'"o1"'),
    "twice": lambda bar: bar[:-1] + b',"o":3}',
    "missing": lambda bar: bar.replace(b'"vw":1.5,', b""),
    "no trades": lambda bar: re.sub(rb',"n":[^,}]*', b"", bar),
    "lost": lambda bar: bar.replace(b'"c":2,', b""),
}
"""What single bars of a page are like."""
OFTEN_NONE = st.lists(st.sampled_from(["", "", "", *NEAR_MISSES]), min_size=6, max_size=6)


@settings(deadline=None, max_examples=600)
@given(
    changes=st.lists(st.tuples(CHANGES, STAMP_TEXTS), min_size=1, max_size=6),
    kind=st.sampled_from([*KINDS]),
    forms=st.one_of(st.just([""] * 6), OFTEN_NONE),
    symbol=st.sampled_from(["AAPL", "I:SPX"]),
    ordered=st.booleans(),
)
def test_pages_taken_apart_as_a_whole_are_read_as_bar_by_bar(
    changes: list[tuple[dict[str, str], str]], kind: str, forms: list[str], symbol: str, *, ordered: bool
) -> None:
    """Whatever the form of the bars, both ways of reading give the same page or the same kind of error."""
    stamps = sorted(stamp for _, stamp in changes) if ordered else [stamp for _, stamp in changes]
    texts = [KINDS[kind](usual(**change, t=t)) for (change, _), t in zip(changes, stamps, strict=True)]
    results = b"[" + b",".join(NEAR_MISSES[form](bar) for form, bar in zip(forms, texts, strict=False)) + b"]"
    head = b'{"ticker":"%b","resultsCount":%d,"adjusted":true,"status":"OK"' % (symbol.encode(), len(texts))
    body = head + b',"results":%b}' % results

    def page() -> object:
        try:
            return read(body, unit_of(symbol))
        except OWN_ERRORS as error:
            return type(error)

    as_a_whole = page()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_pages, "plain_rows", lambda *_, **__: None)
        bar_by_bar = page()
    assert as_a_whole == bar_by_bar


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("usual", ["1,3,0.5,2,100,1.5,1772514000000,7,", "1,3,0.5,2,1e3,1.5,1772514060000,7,"]),
        ("another order", ["1,3,0.5,2,100,1.5,1772514000000,7,", "1,3,0.5,2,1e3,1.5,1772514060000,7,"]),
        ("otc", ["1,3,0.5,2,100,1.5,1772514000000,7,True", "1,3,0.5,2,1e3,1.5,1772514060000,7,True"]),
        ("no vwap", ["1,3,0.5,2,100,,1772514000000,7,", "1,3,0.5,2,1e3,,1772514060000,7,"]),
        ("no trades", ["1,3,0.5,2,100,1.5,1772514000000,,", "1,3,0.5,2,1e3,1.5,1772514060000,,"]),
        ("an index's", ["1,3,0.5,2,,,1772514000000,,", "1,3,0.5,2,,,1772514060000,,"]),
    ],
)
def test_bars_of_the_same_form_are_taken_apart_as_a_whole(kind: str, rows: list[str]) -> None:
    bars = [KINDS[kind](bar) for bar in (usual(), usual(v="1e3", t="1772514060000"))]
    found = plain_rows(b"[" + b",".join(bars) + b"]", needs_volume=kind != "an index's")
    assert found is not None
    assert found[0].decode().splitlines() == rows
    assert found[1].tolist() == [1772514000000, 1772514060000]
    assert found[2] == {}


def test_bars_that_lack_a_vwap_or_a_number_of_trades_are_taken_apart_with_the_others() -> None:
    bars = [
        KINDS["no vwap"](usual()),
        usual(t="1772514060000", n="12.5"),
        KINDS["no trades"](usual(t="1772514120000")),
        KINDS["no vwap"](KINDS["no trades"](usual(t="1772514180000"))),
    ]
    for otc, tail in (("usual", ""), ("otc", "True")):
        found = plain_rows(b"[" + b",".join(KINDS[otc](bar) for bar in bars) + b"]")
        assert found is not None
        assert found[0].decode().splitlines() == [
            f"1,3,0.5,2,100,,1772514000000,7,{tail}",
            f"1,3,0.5,2,100,1.5,1772514060000,12.5,{tail}",
            f"1,3,0.5,2,100,1.5,1772514120000,,{tail}",
            f"1,3,0.5,2,100,,1772514180000,,{tail}",
        ]
        assert found[2] == {"number of trades that is not whole": 1}


@pytest.mark.parametrize(("high", "low"), [("9.9", "48"), ("2", "1e1"), ("9", "9.5")])
def test_a_short_number_at_the_very_end_is_compared_like_all_others(high: str, low: str) -> None:
    """Behind it is less than the eight letters that are compared at once."""
    for last in ("h", "l"):
        numbers = {"o": "1", "c": "2", "t": "1772514000000", "h": high, "l": low}
        numbers[last] = numbers.pop(last)
        bar = ("{" + ",".join(f'"{name}":{value}' for name, value in numbers.items()) + "}").encode()
        found = plain_rows(b"[" + bar + b"]", needs_volume=False)
        assert found is not None
        assert found[2] == {"high below low": 1}


@pytest.mark.parametrize("kind", ["no volume", "an index's"])
def test_bars_without_a_volume_are_looked_at_one_by_one_where_there_must_be_one(kind: str) -> None:
    assert plain_rows(b"[" + KINDS[kind](usual()) + b"]") is None
