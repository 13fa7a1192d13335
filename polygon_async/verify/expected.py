"""What objects should be, by the ledger, or by their own key and metadata. Pure."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.model.layout import CSV_SHA256, IDENTITY, metadata, parse_key, safe_name, symbol_of, tags
from polygon_async.model.states import UploadState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit
from polygon_async.verify.findings import Expected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polygon_async.ledger.inventory import RecordedUnit, Upload
    from polygon_async.store.objects import StoredObject

__all__ = ["CLAIMED", "as_it_says", "as_recorded"]

CLAIMED = frozenset({UploadState.UPLOADED, UploadState.LOST})
"""States of uploads whose object has been read back."""
_FORMS = {
    "bars": r"[1-9]\d*",
    "first": r"\d+",
    "last": r"\d+",
    "from": r"\d{4}-\d\d-\d\d",
    "to": r"\d{4}-\d\d-\d\d",
    "adjusted": "true|false",
    CSV_SHA256: "[0-9a-f]{64}",
}
"""The form of an object's metadata."""


def as_recorded(recorded: RecordedUnit, upload: Upload) -> Expected:
    """What the object of a confirmed upload should be."""
    assert upload.key is not None  # noqa: S101 (for the type checker; what was confirmed has one)
    parts = parse_key(upload.key)
    ticker = Ticker(
        symbol=recorded.symbol,
        asset_type=AssetType(upload.tags["asset_type"]),
        exchange=upload.tags["exchange"],
        currency=upload.tags["currency"],
    )
    unit = Unit(ticker=ticker, start=recorded.first_day, end=recorded.last_day, adjusted=recorded.adjusted)
    return Expected(
        ticker=ticker,
        key=upload.key,
        collected=parts.collected if parts else upload.collected,
        unit=unit,
        size=upload.size,
        checksum=upload.checksum,
        tags=upload.tags,
        metadata=_recorded_metadata(unit, recorded, upload),
        recorded=recorded,
    )


def _recorded_metadata(unit: Unit, recorded: RecordedUnit, upload: Upload) -> Mapping[str, str]:
    """Without the facts about the bars, if fetching the unit has started afresh since."""
    known = recorded.sha256 == upload.sha256
    told = metadata(unit, recorded.csv_in(Path(), upload.sha256))
    return told if known else {name: told[name] for name in (*IDENTITY, CSV_SHA256)}


def as_it_says(key: str, stored: StoredObject | None) -> Expected | None:
    """What an object should be by its key and its usable metadata; None if the key has another layout."""
    parts = parse_key(key)
    if parts is None or parts.asset_type not in set(AssetType):
        return None
    told = (stored.tags if stored else None) or {}
    said = stored.metadata if stored else {}
    symbol = told.get("symbol", "")
    ticker = Ticker(
        symbol=symbol if safe_name(symbol) == parts.name else symbol_of(parts),
        asset_type=AssetType(parts.asset_type),
        exchange=told.get("exchange", ""),
        currency=told.get("currency", ""),
    )
    words = {name: said[name] for name, form in _FORMS.items() if re.fullmatch(form, said.get(name, ""))}
    return Expected(
        ticker=ticker,
        key=key,
        collected=parts.collected,
        unit=_unit_of(ticker, words),
        tags=tags(ticker, parts.collected),
        metadata=words,
    )


def _unit_of(ticker: Ticker, said: Mapping[str, str]) -> Unit | None:
    """The unit that an object's metadata names; None if it names none."""
    try:
        start, end = date.fromisoformat(said["from"]), date.fromisoformat(said["to"])
        return Unit(ticker=ticker, start=start, end=end, adjusted=said["adjusted"] == "true")
    except (KeyError, ValueError):
        return None
