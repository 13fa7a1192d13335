"""What the reference data said of tickers: kept in a ledger, with the moment at which it was asked. Blocking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from polygon_async.model.tickers import Listing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

__all__ = ["keep_listings", "listings"]


def listings(connection: sqlite3.Connection, *, source: str, since: float) -> dict[str, Listing]:
    """What has been looked up at a source since a moment (s UTC), by symbol."""
    rows = connection.execute(
        "SELECT ticker, exchange, currency FROM listing WHERE source = :source AND asked >= :since",
        {"source": source, "since": since},
    )
    return {row["ticker"]: Listing(exchange=row["exchange"], currency=row["currency"]) for row in rows}


def keep_listings(connection: sqlite3.Connection, found: Mapping[str, Listing], *, source: str) -> None:
    """Record what the reference data says, by symbol; the connection is outside a transaction."""
    asked = time.time()
    rows = [(source, ticker, listing.exchange, listing.currency, asked) for ticker, listing in found.items()]
    with connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT OR REPLACE INTO listing (source, ticker, exchange, currency, asked) VALUES (?, ?, ?, ?, ?)", rows
        )
