"""The page reader: what was in the page comes out letter for letter, or one of its own errors."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reading import DAY, OWN_ERRORS, read, unit_of

from polygon_async.bars.page import Border
from polygon_async.errors import Refused, Retryable, WrongAnswer
from polygon_async.polygon.bar_pages import read_page
from polygon_async.polygon.unpacking import LARGEST_BODY, unpack, unpack_text
from polygon_async.sandbox import Market

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygon_async.model.units import Unit

PAYLOADS = Path(__file__).parent.parent / "payloads"
FIRST = 1772514000000
"""The first minute of DAY in New York, ms UTC."""
MINUTE = 60_000
FEW = settings(deadline=None, max_examples=50)
MANY = settings(deadline=None, max_examples=150)


@dataclass(frozen=True, slots=True)
class Row:
    """A bar as JSON texts; what is None is absent."""

    t: int
    o: str = "1"
    h: str = "2.5"
    l: str = "0.5"  # noqa: E741 (the API's own name)
    c: str = "1.25"
    v: str | None = "100"
    vw: str | None = None
    n: str | None = None
    otc: str | None = None

    def json(self, *, space: str = "") -> str:
        names = ("v", "vw", "o", "c", "h", "l", "t", "n", "otc")
        there = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        return "{" + ",".join(f'{space}"{name}"{space}:{space}{text}{space}' for name, text in there) + "}"

    def csv(self) -> str:
        absent = {None, "null"}
        v, vw, n = ("" if text in absent else str(text) for text in (self.v, self.vw, self.n))
        otc = "True" if self.otc == "true" else ""
        return f"{self.o},{self.h},{self.l},{self.c},{v},{vw},{self.t},{n},{otc}\n"


def page(rows: Sequence[Row | str], *, symbol: str = "AAPL", space: str = "", **others: Any) -> str:
    texts = [row if isinstance(row, str) else row.json(space=space) for row in rows]
    envelope: dict[str, Any] = {"ticker": symbol, "adjusted": True, "status": "OK", **others}
    head = ",".join(f'"{key}":{json.dumps(value)}' for key, value in envelope.items() if value is not ...)
    return "{" + head + ',"results":[' + ",".join(texts) + "]}"


def csv(rows: Sequence[Row]) -> bytes:
    return "".join(row.csv() for row in rows).encode()


def payload(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


# Real answers


def test_a_real_page_comes_out_letter_for_letter() -> None:
    found = read(payload("aggs_day_2005.json"), unit_of(first=dt.date(2005, 4, 1), last=dt.date(2005, 4, 4)))
    assert found.rows == (
        b"1.5032,1.5064,1.4489,1.4604,642646396.0,1.469,1112331600000,82132,\n"
        b"1.4639,1.4754,1.4343,1.4675,578172308.0,1.4589,1112587200000,65543,\n"
    )
    assert (found.bars, found.first, found.border.last, found.next_url) == (2, 1112331600000, 1112587200000, None)


def test_a_real_delayed_page_counts_in_our_order_only() -> None:
    unit = unit_of(first=dt.date(2026, 3, 1), last=dt.date(2026, 3, 6))
    body = payload("aggs_day_desc_limit3_status_delayed.json").decode()
    with pytest.raises(WrongAnswer, match=r"2026-03-05 05:00:00 UTC comes after .*request_id e54ad52811c9d"):
        read(body, unit)
    start, end = body.index("[{") + 1, body.index("}]") + 1
    ascending = ",".join(f"{{{row}}}" for row in body[start + 1 : end - 1].split("},{")[::-1])
    found = read(body[:start] + ascending + body[end:], unit)
    assert found.rows.splitlines()[0] == b"263.48,265.56,260.13,263.75,38568921.672138,263.1124,1772514000000,627107,"
    assert (found.bars, found.next_url) == (
        4,
        "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/day/2026-03-01/1772513999999?cursor=bGltaXQ9MyZzb3J0PWRlc2M",
    )


@pytest.mark.parametrize(
    ("name", "symbol"), [("aggs_empty_2022.json", "X:ETHUSD"), ("aggs_empty_null_2020.json", "AAPL")]
)
def test_a_real_empty_page_is_empty(name: str, symbol: str) -> None:
    found = read(payload(name), unit_of(symbol))
    assert (found.bars, found.rows, found.border, found.next_url) == (0, b"", Border(), None)


def test_a_bar_may_say_whose_it_is() -> None:
    day = dt.date(2022, 4, 26)
    assert read(payload("aggs_prev.json"), unit_of(first=day, last=day)).bars == 1
    with pytest.raises(WrongAnswer, match="about None"):
        read(payload("aggs_grouped.json"), unit_of("GIK", dt.date(2020, 10, 14), dt.date(2020, 10, 14)))


@pytest.mark.parametrize("answer", json.loads(payload("errors.json")), ids=lambda answer: str(answer["http"]))
def test_a_real_error_inside_a_200_is_an_error(answer: dict[str, Any]) -> None:
    body = answer.get("body")
    told = (body or {}).get("error") or (body or {}).get("message")
    passing = body is None or answer["http"] == 429
    kind = Retryable if passing else Refused if body and body["status"] == "NOT_AUTHORIZED" else WrongAnswer
    with pytest.raises(kind) as caught:
        read(answer["body_text"] if body is None else json.dumps(body))
    assert told is None or told in str(caught.value)
    assert body is None or body["request_id"] in str(caught.value)


# One bar


GOOD: dict[str, Row] = {
    "whole": Row(FIRST, v="895345", vw="9.9979", n="96"),
    "fractions": Row(FIRST, v="9099.618093"),
    "dotted": Row(FIRST, v="642646396.0", o="18", h="18.0"),
    "huge": Row(FIRST, v="1.23456789012345e+22"),
    "huger": Row(FIRST, v="100000000000000000000"),
    "exponents": Row(FIRST, o="1E5", h="1e-7", l="-0", c="0.0"),
    "negative": Row(FIRST, o="-37.63", l="-40"),
    "endless exponent": Row(FIRST, c="1e99999999999999999999"),
    "otc": Row(FIRST, otc="true"),
    "not otc": Row(FIRST, otc="false"),
    "nulls": Row(FIRST, vw="null", n="null", otc="null"),
    "nothing optional": Row(FIRST),
}


@pytest.mark.parametrize("row", GOOD.values(), ids=GOOD)
def test_a_bar_comes_out_letter_for_letter(row: Row) -> None:
    assert read(page([row])).rows == csv([row])
    assert read(page([row, Row(FIRST + MINUTE)], space=" \n")).rows == csv([row, Row(FIRST + MINUTE)])


BAD: dict[str, tuple[str, str]] = {
    "no c": ('{"t":%d,"o":1,"h":1,"l":1,"v":1}', "required field `c`"),
    "no v": ('{"t":%d,"o":1,"h":1,"l":1,"c":1}', "no 'v'"),
    "no t": ('{"o":1,"h":1,"l":1,"c":1,"v":1}', "required field `t`"),
    "null c": ('{"t":%d,"o":1,"h":1,"l":1,"c":null,"v":1}', "'c' = null"),
    "null v": ('{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":null}', "'v' = null"),
    "text": ('{"t":%d,"o":1,"h":1,"l":1,"c":"1","v":1}', """'c' = "1\""""),
    "text vw": ('{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":1,"vw":"1"}', "'vw'"),
    "true": ('{"t":%d,"o":true,"h":1,"l":1,"c":1,"v":1}', "'o' = true"),
    "list": ('{"t":%d,"o":[1],"h":1,"l":1,"c":1,"v":1}', "'o' = [1]"),
    "object": ('{"t":%d,"o":{},"h":1,"l":1,"c":1,"v":1}', "'o' = {}"),
    "word for otc": ('{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":1,"otc":"True"}', "otc"),
    "fraction of t": ('{"t":%d.5,"o":1,"h":1,"l":1,"c":1,"v":1}', "`int`"),
    "null": ("null", "got `null`"),
    "number": ("5", "got `int`"),
    "of another": ('{"T":"MSFT","t":%d,"o":1,"h":1,"l":1,"c":1,"v":1}', "is of 'MSFT'"),
    "too early": ('{"t":1772513999999,"o":1,"h":1,"l":1,"c":1,"v":1}', "outside 2026-03-03"),
    "too late": ('{"t":1772600400000,"o":1,"h":1,"l":1,"c":1,"v":1}', "outside 2026-03-03"),
    "far away": ('{"t":9223372036854775807,"o":1,"h":1,"l":1,"c":1,"v":1}', "t=9223372036854775807"),
}


@pytest.mark.parametrize(("row", "words"), BAD.values(), ids=BAD)
def test_a_bar_that_cannot_be_true_spoils_the_page(row: str, words: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        read(page([Row(FIRST), row.replace("%d", str(FIRST + MINUTE)), Row(FIRST + 2 * MINUTE)], request_id="4f"))
    assert words in str(caught.value)
    assert str(caught.value).endswith("(request_id 4f)")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-", "+1", "01", ".5", "1.", "1e", "--1", "1-2", "0x1", "1_0"])
def test_what_is_no_json_number_is_no_json(number: str) -> None:
    with pytest.raises(Retryable, match="not JSON"):
        read(page([Row(FIRST, c=number)]))


def test_an_index_needs_neither_volume_nor_adjusted() -> None:
    rows = [Row(FIRST, v=None), Row(FIRST + MINUTE, v="null"), Row(FIRST + 2 * MINUTE, v="5")]
    assert read(page(rows, symbol="I:SPX", adjusted=...), unit_of("I:SPX")).rows == csv(rows)
    with pytest.raises(WrongAnswer, match="'v' = true"):
        read(page([Row(FIRST, v="true")], symbol="I:SPX"), unit_of("I:SPX"))


# The envelope


ENVELOPES: list[tuple[dict[str, Any], str]] = [
    ({"ticker": "MSFT"}, "about 'MSFT'"),
    ({"ticker": "aapl"}, "about 'aapl'"),
    ({"ticker": None}, "about None"),
    ({"ticker": ...}, "about None"),
    ({"adjusted": False}, "adjusted=False"),
    ({"adjusted": ...}, "adjusted=None"),
    ({"resultsCount": 2}, "counts 2 bars and holds 1"),
    ({"status": ...}, "status is None"),
    ({"status": "PENDING"}, "'PENDING'"),
    ({"status": "ok"}, "'ok'"),
    ({"status": "ERROR", "error": "over\x1b[31m\nlines"}, "over [31m lines"),
    ({"status": 5}, "shape of a page"),
    ({"next_url": 5}, "shape of a page"),
    ({"next_url": ["x"]}, "shape of a page"),
]


@pytest.mark.parametrize(("envelope", "words"), ENVELOPES, ids=[str(envelope) for envelope, _ in ENVELOPES])
def test_an_envelope_that_cannot_be_true_is_an_error(envelope: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        read(page([Row(FIRST)], **envelope))
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("others", [{}, {"next_url": "https://x/y"}, {"request_id": None}, {"new": [1]}])
def test_an_envelope_may_have_more_or_less(others: dict[str, Any]) -> None:
    found = read(page([Row(FIRST)], **others))
    assert (found.bars, found.next_url) == (1, others.get("next_url"))


@pytest.mark.parametrize("adjusted", [True, False])
def test_adjusted_is_what_was_asked(adjusted: bool) -> None:
    assert read(page([Row(FIRST)], adjusted=adjusted), unit_of(adjusted=adjusted)).bars == 1
    with pytest.raises(WrongAnswer, match=f"asked for adjusted={adjusted}"):
        read(page([Row(FIRST)], adjusted=not adjusted), unit_of(adjusted=adjusted))


@pytest.mark.parametrize("body", ["null", "[]", "5", '"OK"', "[" * 10_000, '{"status":"OK","results":{}}'])
def test_json_of_another_shape_is_wrong(body: str) -> None:
    with pytest.raises(WrongAnswer):
        read(body)


@pytest.mark.parametrize("space", ["", " "], ids=["as a whole", "bar by bar"])
def test_far_more_bars_than_were_asked_for_are_no_page(space: str) -> None:
    bar = f'{{"t":{space}1772514000000,"o":1,"h":1,"l":1,"c":1,"v":1}}'
    with pytest.raises(WrongAnswer, match="more than 200,000 bars, but 50,000 were requested"):
        read('{"ticker":"AAPL","adjusted":true,"status":"OK","results":[' + ",".join([bar] * 200_001) + "]}")


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        page(['{"t":1,"o":' + DEEP]),
        page([Row(FIRST)], more=0).replace('"more":0', f'"more":{DEEP}{"]" * len(DEEP)}'),
        '{"status":"OK","ticker":' + DEEP,
        '{"status":"OK","results":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
    ],
    ids=["in a bar", "beside the bars", "in another's place", "objects"],
)
def test_what_is_nested_without_end_is_wrong(body: str) -> None:
    with pytest.raises(WrongAnswer):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>",
        b"503 upstream",
        b"[cut",
        b"{",
        b'\xef\xbb\xbf{"status":"OK"}',
        '{"status":"OK"}'.encode("utf-16"),
        b'{"status":"OK"} x',
        b'{"status":"OK","ticker":"\xff"}',
        page([Row(FIRST)]).encode()[:-1],
        b'{"status":"OK"}',
        b'{"status":"OK","ticker":"AAPL","adjusted":true,"results":null,"queryCount":0}',
    ],
    ids=[
        "empty",
        "space",
        "html",
        "plain text",
        "list",
        "brace",
        "bom",
        "utf-16",
        "tail",
        "not utf-8",
        "cut",
        "nothing",
        "no count",
    ],
)
def test_what_is_no_json_may_be_asked_again(body: bytes) -> None:
    with pytest.raises(Retryable) as caught:
        read(body)
    assert caught.value.reason == "undecodable"


KEYS = ["v7", "v-", "ev", "1t", "t1", "o.", "c+", "nE", "0l", "h0", "vw1", "v0w"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_with_a_digit_is_another_key(key: str) -> None:
    bar = Row(FIRST, vw="1.5", n="3").json()
    right = "".join(letter for letter in key if letter.isalpha() and letter not in "eE")
    odd = bar.replace(f'"{right}":', f'"{key}":')
    if right in {"vw", "n"}:
        assert read(page([odd])).rows == csv([Row(FIRST, vw="1.5") if right == "n" else Row(FIRST, n="3")])
    else:
        with pytest.raises(WrongAnswer, match=rf"required field `{right}`|no '{right}'"):
            read(page([odd]))


# Random bars and borders


NUMBER = (
    st.integers(-(10**24), 10**24).map(str)
    | st.integers(0, 10**12).map(lambda millionths: f"{millionths // 10**6}.{millionths % 10**6:06}")
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
OPTIONAL = st.none() | st.just("null") | NUMBER


@st.composite
def random_rows(draw: st.DrawFn, least: int = 0) -> list[Row]:
    minutes = draw(st.lists(st.integers(0, 1439), min_size=least, max_size=6, unique=True).map(sorted))
    fields: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(("o", "h", "l", "c", "v"), NUMBER)
    if draw(st.booleans()):
        # The usual form, which is read as a whole.
        fields |= {"vw": NUMBER, "n": NUMBER}
    else:
        fields |= {"vw": OPTIONAL, "n": OPTIONAL, "otc": st.sampled_from([None, "null", "true", "false"])}
    return [Row(FIRST + minute * MINUTE, **draw(st.fixed_dictionaries(fields))) for minute in minutes]


@MANY
@given(rows=random_rows(), space=st.sampled_from(["", " ", "\n\t"]))
def test_any_bars_come_out_letter_for_letter(rows: list[Row], space: str) -> None:
    found = read(page(rows, space=space))
    assert found.rows == csv(rows)
    assert (found.bars, found.duplicates) == (len(rows), 0)
    assert (found.first, found.border.last) == ((rows[0].t, rows[-1].t) if rows else (None, None))


@FEW
@given(rows=random_rows(least=1), data=st.data())
def test_doubles_at_a_border_are_dropped_and_counted(rows: list[Row], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(rows)))
    overlap = data.draw(st.integers(0, cut))
    before = read(page(rows[:cut]))
    after = read(page(rows[cut - overlap :]), border=before.border)
    assert before.rows + after.rows == csv(rows)
    assert (after.duplicates, after.bars) == (overlap, len(rows) - cut)
    assert after.border.last == rows[-1].t


@FEW
@given(rows=random_rows(least=1), data=st.data())
def test_doubles_within_a_page_are_dropped_and_counted(rows: list[Row], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4))
    twice = [row for place, row in enumerate(rows) for _ in range(1 + again.count(place))]
    found = read(page(twice))
    assert (found.rows, found.duplicates) == (csv(rows), len(again))


@FEW
@given(rows=random_rows(least=1), field=st.sampled_from(["o", "h", "l", "c", "v", "vw", "n", "otc"]), data=st.data())
def test_doubles_that_contradict_each_other_are_an_error(rows: list[Row], field: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    other = "true" if field == "otc" else "98765432109876543210987654321.5"
    values: dict[str, Any] = {name: getattr(row, name) for name in Row.__dataclass_fields__}
    liar = Row(**{**values, field: "false" if values[field] == "true" else other})
    border = read(page(rows)).border
    with pytest.raises(WrongAnswer, match="two different bars"):
        read(page([liar, *rows[place + 1 :]]), border=border)


@pytest.mark.parametrize(
    ("one", "other"), [("18", "18.0"), ("642646396.0", "642646396"), ("1e2", "100"), ("1E+22", "1.0e22")]
)
def test_the_same_number_spelt_otherwise_is_a_double(one: str, other: str) -> None:
    found = read(page([Row(FIRST, v=one), Row(FIRST, v=other)]))
    assert (found.rows, found.duplicates) == (csv([Row(FIRST, v=one)]), 1)


@pytest.mark.parametrize("other", ["1", "2e99999999999999999999"])
def test_doubles_with_endless_exponents_contradict_each_other(other: str) -> None:
    with pytest.raises(WrongAnswer, match="two different bars"):
        read(page([Row(FIRST, v="1e99999999999999999999"), Row(FIRST, v=other)]))


@FEW
@given(rows=random_rows(least=2), data=st.data())
def test_disorder_is_an_error(rows: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows).filter(lambda order: order != rows))
    with pytest.raises(WrongAnswer, match="comes after"):
        read(page(shuffled))


def test_a_bar_from_long_before_the_border_is_an_error() -> None:
    first, after = [Row(FIRST), Row(FIRST + 2 * MINUTE)], [Row(FIRST + MINUTE), Row(FIRST + 3 * MINUTE)]
    border = read(page(first)).border
    with pytest.raises(WrongAnswer, match=r"05:01:00 UTC comes after the one at 2026-03-03 05:02:00 UTC"):
        read(page(after), border=border)


def test_an_empty_page_keeps_the_border() -> None:
    border = read(page([Row(FIRST)])).border
    assert read(page([]), border=border).border == border
    assert read(page([Row(FIRST)]), border=border).duplicates == 1


# Fuzz


BARS = Market().days("AAPL", DAY, DAY)[:4]
SEEDS = [
    *(path.read_bytes() for path in sorted(PAYLOADS.glob("aggs_*.json"))),
    page([Row(FIRST, vw="1.5", n="3", otc="true"), Row(FIRST + MINUTE), Row(FIRST + 2 * MINUTE)]).encode(),
    page([Row(FIRST), Row(FIRST), Row(FIRST + MINUTE, vw="null")], next_url="https://x/y", count=3).encode(),
    page([Row(bar.t, bar.o, bar.h, bar.l, bar.c, bar.v, bar.vw, bar.n) for bar in BARS]).encode(),
    page([Row(FIRST, vw="1", n="1"), Row(FIRST + MINUTE, vw="2", n="2")]).encode(),
]
UNITS = [
    unit_of(),
    unit_of(first=dt.date(2000, 1, 1), last=dt.date(2030, 1, 1)),
    unit_of("X:ETHUSD", dt.date(2000, 1, 1), dt.date(2030, 1, 1)),
    unit_of("I:SPX", dt.date(2000, 1, 1), dt.date(2030, 1, 1)),
]
SPLICES = [
    b"null", b"true", b"1e5", b"-1", b"NaN", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\xff",
    b"0", b"9" * 30, b"9" * 5000, b"1e99999999999999999999", b'"t":', b'"T":"AAPL",', b'"otc":true,', b"\n",
    str(FIRST).encode(), b"e", b".", b"+", b"-",
]  # fmt: skip


def mutated(body: bytes, chance: random.Random) -> bytes:
    """A copy with a few bytes deleted, changed, moved or doubled."""
    text = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        match chance.randrange(6):
            case 0:
                text[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                text[at:at] = chance.choice(SPLICES)
            case 2:
                del text[at : at + chance.randint(1, 8)]
            case 3:
                text[at : at + chance.randint(1, 8)] = chance.choice(SPLICES)
            case 4:
                text[at:at] = text[at : min(end, at + 200)]
            case _:
                # One digit more or less: the mutation that a checksum would notice and a parser cannot.
                digits = [place for place, letter in enumerate(text) if chr(letter).isdigit()]
                if digits:
                    text[chance.choice(digits)] = ord(str(chance.randrange(10)))
    return bytes(text)


def told_by(body: bytes) -> list[str]:
    """The rows that another reader (Python's own) finds in a page."""
    text = body.decode(errors="replace")
    answer = json.loads(text, parse_int=str, parse_float=str, parse_constant=str, strict=False)
    rows = []
    for bar in answer.get("results") or []:
        v, vw, n = ("" if bar.get(name) is None else str(bar[name]) for name in ("v", "vw", "n"))
        otc = "True" if bar.get("otc") else ""
        rows.append(f"{bar['o']},{bar['h']},{bar['l']},{bar['c']},{v},{vw},{bar['t']},{n},{otc}\n")
    return rows


def check_fuzzed(body: bytes, unit: Unit, border: Border) -> bool:
    """Whether the reader took the body as a page; which then must be what another reader finds."""
    try:
        found = read_page(body, unit=unit, border=border)
    except OWN_ERRORS:
        return False
    rows = found.rows.decode().splitlines(keepends=True)
    there = told_by(body)
    assert len(rows) == found.bars
    assert len(rows) + found.duplicates == len(there)
    assert [row for row in there if row in set(rows)][: len(rows)] or not rows
    assert set(rows) <= set(there)
    stamps = [int(row.split(",")[6]) for row in rows]
    first, last = unit.bounds()
    assert all(one < other for one, other in zip([border.last or 0, *stamps], [*stamps, last + 1], strict=True))
    assert all(stamp >= first for stamp in stamps)
    return True


@MANY
@given(body=st.binary(max_size=200), unit=st.sampled_from(UNITS))
def test_any_bytes_are_bars_or_an_own_error(body: bytes, unit: Unit) -> None:
    check_fuzzed(body, unit, Border())


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ohlctvnT"), inner, max_size=4),
    max_leaves=6,
)
ENVELOPE_KEYS = ["ticker", "adjusted", "status", "resultsCount", "results", "next_url", "request_id", "error"]


@MANY
@given(
    envelope=st.dictionaries(st.sampled_from(ENVELOPE_KEYS), JSON_VALUE, max_size=8),
    honest=st.booleans(),
    unit=st.sampled_from(UNITS),
)
def test_any_json_is_bars_or_an_own_error(envelope: dict[str, Any], honest: bool, unit: Unit) -> None:
    good = {"status": "OK", "ticker": unit.ticker.symbol, "adjusted": True} if honest else {}
    check_fuzzed(json.dumps({**envelope, **good}).encode(), unit, Border())


@pytest.mark.parametrize("seed", range(10))
def test_mutated_pages_are_bars_or_an_own_error(seed: int) -> None:
    chance = random.Random(seed)
    borders = [Border(), read(page([Row(FIRST)])).border]
    taken = sum(
        check_fuzzed(mutated(chance.choice(SEEDS), chance), chance.choice(UNITS[:2]), chance.choice(borders))
        for _ in range(2000)
    )
    # Enough of them must be pages, or nothing was tried but the errors.
    assert taken > 50


# The way


WHOLE = b'{"status":"OK"}' * 100
PACKED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    ("body", "encoding", "unpacked"),
    [
        (WHOLE, "", WHOLE),
        (WHOLE, "identity", WHOLE),
        (PACKED, "gzip", WHOLE),
        (PACKED, " GZIP ", WHOLE),
        (PACKED, "x-gzip", WHOLE),
        (PACKED + PACKED, "gzip", WHOLE + WHOLE),
        (gzip.compress(b""), "gzip", b""),
    ],
    ids=["plain", "identity", "gzip", "spelling", "x-gzip", "two members", "nothing"],
)
def test_a_body_is_unpacked(body: bytes, encoding: str, unpacked: bytes) -> None:
    assert unpack(body, encoding) == unpacked


@pytest.mark.parametrize("end", range(1, len(PACKED), 3))
def test_a_gzip_stream_that_ends_early_is_noticed(end: int) -> None:
    with pytest.raises(Retryable, match="cannot be unpacked"):
        unpack(PACKED[:end], "gzip")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"this was never compressed", "gzip"),
        (PACKED + b"tail", "gzip"),
        (PACKED + PACKED[:-1], "gzip"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "gzip"),
        (PACKED[:-4] + b"\1\0\0\0", "gzip"),
        (WHOLE, "br"),
        (WHOLE, "gzip, br"),
    ],
    ids=["garbage", "tail", "cut second member", "checksum", "length", "brotli", "two encodings"],
)
def test_a_body_that_is_not_what_its_encoding_says_may_be_asked_again(body: bytes, encoding: str) -> None:
    with pytest.raises(Retryable) as caught:
        unpack(body, encoding)
    assert caught.value.reason == "undecodable"


MIB = 2**20
BLANKS = gzip.compress(b" " * MIB)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b" " * (LARGEST_BODY + 1)),
        BLANKS * 65,
        BLANKS * 2000,
        BLANKS * 64 + gzip.compress(b" "),
        gzip.compress(b" " * 2 * LARGEST_BODY)[:-9],
    ],
    ids=["one member", "many", "very many", "by a byte", "without an end"],
)
def test_of_a_body_that_needs_more_than_any_page_no_more_is_unpacked(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WrongAnswer, match="unpacks to more than 64 MiB"):
            unpack(body, "gzip")
        with pytest.raises(WrongAnswer, match="unpacks to more than 64 MiB"):
            unpack_text(body, "gzip", 1000)
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_BODY
    finally:
        tracemalloc.stop()


def test_the_largest_body_is_unpacked() -> None:
    assert len(unpack(gzip.compress(b" " * LARGEST_BODY), "gzip")) == LARGEST_BODY
    assert unpack(BLANKS * 64, "gzip") == b" " * LARGEST_BODY


@pytest.mark.parametrize("text", [b"", b"abc"])
def test_very_many_members_are_no_more_work_than_their_bytes(text: bytes) -> None:
    assert unpack(gzip.compress(text) * 200_000, "gzip") == text * 200_000


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        (b"no mood", "", b"no mo"),
        (gzip.compress(b"no mood"), "gzip", b"no mo"),
        (gzip.compress(b"no") + gzip.compress(b"body"), "gzip", b"nobod"),
        (gzip.compress(b"no")[:-1], "gzip", b""),
        (b"no mood", "gzip", b""),
        (b"no mood", "br", b""),
    ],
    ids=["plain", "gzip", "two members", "cut", "garbage", "brotli"],
)
def test_of_a_text_the_beginning_is_read(body: bytes, encoding: str, text: bytes) -> None:
    assert unpack_text(body, encoding, 5) == text


def test_an_empty_body_is_no_page_however_it_is_packed() -> None:
    for encoding in ("", "gzip"):
        with pytest.raises(Retryable):
            read(unpack(b"", encoding))


@MANY
@given(body=st.binary(max_size=300), flips=st.lists(st.integers(0, len(PACKED) - 1), max_size=3))
def test_any_gzip_is_unpacked_whole_or_an_own_error(body: bytes, flips: list[int]) -> None:
    changed = bytearray(PACKED)
    for place in flips:
        changed[place] ^= 0x10
    for packed in (body, bytes(changed), PACKED[:10] + body):
        try:
            found = unpack(packed, "gzip")
        except Retryable:
            continue
        assert found in {WHOLE, b""} or gzip.decompress(packed) == found
