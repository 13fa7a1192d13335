"""Pages that are taken apart as a whole are read as those that are read bar by bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reading import OWN_ERRORS, read

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


@settings(deadline=None, max_examples=400)
@given(
    changes=st.lists(st.tuples(CHANGES, STAMP_TEXTS), min_size=1, max_size=6),
    forms=st.lists(
        st.sampled_from(["", "", "", "space", "otc", "order", "extra", "digit", "missing"]), min_size=6, max_size=6
    ),
    ordered=st.booleans(),
)
def test_pages_taken_apart_as_a_whole_are_read_as_bar_by_bar(
    changes: list[tuple[dict[str, str], str]], forms: list[str], *, ordered: bool
) -> None:
    """Whatever the form of the bars, both ways of reading give the same page or the same kind of error."""
    near_misses: dict[str, Callable[[bytes], bytes]] = {
        "": lambda bar: bar,
        "space": lambda bar: bar.replace(b":", b": ", 1),
        "otc": lambda bar: bar[:-1] + b',"otc":true}',
        "order": lambda bar: b"{" + b",".join(reversed(bar[1:-1].split(b","))) + b"}",
        "extra": lambda bar: bar[:-1] + b',"x":1}',
        "digit": lambda bar: bar.replace(b'"v"', b'"v1"'),
        "missing": lambda bar: bar.replace(b'"vw":1.5,', b""),
    }
    stamps = sorted(stamp for _, stamp in changes) if ordered else [stamp for _, stamp in changes]
    texts = [usual(**change, t=t) for (change, _), t in zip(changes, stamps, strict=True)]
    results = b"[" + b",".join(near_misses[form](bar) for form, bar in zip(forms, texts, strict=False)) + b"]"
    body = b'{"ticker":"AAPL","resultsCount":%d,"adjusted":true,"results":%b,"status":"OK"}' % (len(texts), results)

    def page() -> object:
        try:
            return read(body)
        except OWN_ERRORS as error:
            return type(error)

    as_a_whole = page()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_pages, "plain_rows", lambda _: None)
        bar_by_bar = page()
    assert as_a_whole == bar_by_bar


def test_the_usual_form_is_taken_apart_as_a_whole() -> None:
    found = plain_rows(b"[" + usual() + b"," + usual(v="1e3", t="1772514060000") + b"]")
    assert found is not None
    rows, stamps, odd = found
    assert odd == {}
    assert rows == b"1,3,0.5,2,100,1.5,1772514000000,7,\n1,3,0.5,2,1e3,1.5,1772514060000,7,\n"
    assert stamps.tolist() == [1772514000000, 1772514060000]
