"""A ticker as other programs spell it in; how the API spells it, where that can be known, out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["likely", "told", "with_likely"]

_MOST_NAMED = 10

_FIAT = {"USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY"}
_FIAT |= {"ZAR", "MXN", "BRL", "CNY", "CNH", "HKD", "SGD", "INR", "KRW"}
_COINS = {"BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "DOT", "LTC", "BCH", "XLM", "LINK", "AVAX", "UNI", "ATOM", "ETC"}
_COINS |= {"TRX", "XMR", "ALGO", "NEAR", "FIL", "AAVE", "SHIB", "MATIC"}
_STABLE = {"USDT", "USDC"}

# In the API's spelling, a share's class comes after a dot (BRK.B), a preferred one after a small p (BACpL).
_PREFERRED = re.compile(r"([A-Z]{1,5})[-/. ]P([A-Z])")
_CLASS = re.compile(r"([A-Z]{1,5})[-/ ]([A-Z])")
_SMALL = re.compile(r"[a-z]{1,9}([./-][a-z]{1,4})?|[A-Z](?!p)[a-z]{2,4}")
_CONTRACT = re.compile(r"[A-Z]{1,6}\d{6}[CP]\d{8}")
_INDEX = {"^GSPC": "I:SPX", "^SPX": "I:SPX", "^NDX": "I:NDX", "^DJI": "I:DJI", "^VIX": "I:VIX", "^RUT": "I:RUT"}


def likely(symbol: str) -> str | None:
    """How the API spells what is meant by `symbol`; None if it may be right, or nothing can be known.

    No ticker of the API has a hyphen without a market's prefix, or only small letters.
    """
    if symbol in _INDEX:
        return _INDEX[symbol]
    if _SMALL.fullmatch(symbol):
        return likely(symbol.upper()) or (symbol.upper() if symbol.replace(".", "").isalpha() else None)
    prefix, colon, rest = symbol.partition(":")
    if colon:
        spelt = f"{prefix.upper()}:{rest.upper()}"
        return spelt if prefix in {"x", "c", "i", "o"} or (prefix in {"X", "C"} and rest.islower()) else None
    if _CONTRACT.fullmatch(symbol):
        return f"O:{symbol}"
    if found := _PREFERRED.fullmatch(symbol):
        return f"{found[1]}p{found[2]}"
    if found := _CLASS.fullmatch(symbol):
        return f"{found[1]}.{found[2]}"
    return _pair(symbol)


def _pair(symbol: str) -> str | None:
    """`BTC-USD` and `BTCUSD` as `X:BTCUSD`, `EURUSD=X` as `C:EURUSD`."""
    for length in (3, 4, 5):
        base, quote = symbol[:length], symbol[length:].removesuffix("=X").lstrip("-/")
        if base in _COINS and quote in _FIAT | _STABLE:
            return f"X:{base}{quote}"
        if base in _FIAT and quote in _FIAT:
            return f"C:{base}{quote}"
    return None


def with_likely(symbol: str) -> str:
    """The ticker, and what was probably meant: `BRK-B (did you mean BRK.B?)`; as it is where nothing is known."""
    spelt = likely(symbol)
    return symbol if spelt is None else f"{symbol} (did you mean {spelt}?)"


def told(symbols: Iterable[str]) -> str:
    """A sentence about the tickers that are probably misspelt; empty if there are none."""
    found = [with_likely(symbol) for symbol in symbols if likely(symbol) is not None]
    more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    return f"check the spelling of {', '.join(found[:_MOST_NAMED])}{more}" if found else ""
