"""How other programs spell a ticker, and how the API does."""

from __future__ import annotations

import pytest

from polygon_async.model.spelling import likely, told


@pytest.mark.parametrize(
    ("symbol", "spelt"),
    [
        ("BRK-B", "BRK.B"),
        ("BRK/B", "BRK.B"),
        ("brk.b", "BRK.B"),
        ("BAC-PL", "BACpL"),
        ("aapl", "AAPL"),
        ("BTCUSD", "X:BTCUSD"),
        ("BTC-USD", "X:BTCUSD"),
        ("btcusd", "X:BTCUSD"),
        ("X:btcusd", "X:BTCUSD"),
        ("EURUSD=X", "C:EURUSD"),
        ("EURUSD", "C:EURUSD"),
        ("^GSPC", "I:SPX"),
        ("AAPL240119C00150000", "O:AAPL240119C00150000"),
    ],
)
def test_what_other_programs_write_is_known(symbol: str, spelt: str) -> None:
    assert likely(symbol) == spelt


@pytest.mark.parametrize(
    "symbol",
    ["AAPL", "A", "F", "BRK.B", "BACpL", "TpA", "BRw", "NA", "TRUE", "X:BTCUSD", "X:ETH-USDT", "I:SPX", "ADAU"],
)
def test_what_may_be_right_is_left_alone(symbol: str) -> None:
    assert likely(symbol) is None


def test_ten_are_named_and_the_rest_is_counted() -> None:
    text = told(["MSFT", *(f"a{letter}" for letter in "bcdefghijklm")])
    assert text.startswith("check the spelling of ab (did you mean AB?), ")
    assert text.endswith(" and 2 more")
    assert told(["AAPL"]) == ""
