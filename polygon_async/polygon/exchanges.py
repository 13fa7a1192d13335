"""Codes of exchanges (ISO 10383 MIC), and the names that people use."""

from __future__ import annotations

import re

__all__ = ["NAMES", "mic_of", "name_of"]

NAMES = {
    "ARCX": "NYSE ARCA",
    "BATS": "CBOE BZX",
    "BATY": "CBOE BYX",
    "EDGA": "CBOE EDGA",
    "EDGX": "CBOE EDGX",
    "EPRL": "MIAX PEARL",
    "IEXG": "IEX",
    "LTSE": "LTSE",
    "MEMX": "MEMX",
    "XASE": "NYSE AMERICAN",
    "XBOS": "NASDAQ BX",
    "XCHI": "NYSE CHICAGO",
    "XCIS": "NYSE NATIONAL",
    "XNAS": "NASDAQ",
    "XNYS": "NYSE",
    "XPHL": "NASDAQ PSX",
}
"""The US stock exchanges of the API's own list (v3/reference/exchanges, without reporting facilities)."""

_MIC = re.compile(r"[A-Z0-9]{4}")


def name_of(mic: str) -> str:
    """The exchange's name; a code that is not in the table is returned as it is."""
    return NAMES.get(mic, mic)


def mic_of(text: str) -> str:
    """The code of an exchange, given its name or its code, in any case.

    Raises:
        ValueError: the text is neither a name of the table nor has the form of a code.
    """
    asked = text.strip().upper()
    # A code first: IEX and MEMX are names, and MEMX is both.
    found = asked if asked in NAMES else {name: mic for mic, name in NAMES.items()}.get(asked)
    if found is not None:
        return found
    if not _MIC.fullmatch(asked) or not asked.isascii():
        raise ValueError(f"neither a code such as XNAS nor one of {', '.join(NAMES.values())}")
    return asked
