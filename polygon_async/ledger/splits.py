"""Splits as the API listed them: kept in a ledger, with the day on which they were asked for. Blocking."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from polygon_async.model.splits import Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ALL", "SECONDS_KEPT", "KnownSplits", "keep_splits", "known_splits"]

SECONDS_KEPT = 86_400.0
"""How long an answer counts: the list changes once a day."""
ALL = ""
"""Instead of a ticker: a question about all of them."""


@dataclass(frozen=True, slots=True)
class KnownSplits:
    """What a ledger knows of some tickers' splits."""

    known: frozenset[str] = field(default=frozenset())
    """Tickers of which all splits are known."""
    splits: Mapping[str, Sequence[Split]] = field(default_factory=dict)
    """By ticker."""
    learned: Mapping[Split, float] = field(default_factory=dict)
    """When the list was first seen with it, s UTC."""
    until: date | None = None
    """The last day of execution up to which the splits of all tickers are known, however long ago that was asked."""


def known_splits(
    connection: sqlite3.Connection | sqlite3.Cursor,
    tickers: Sequence[str],
    *,
    source: str,
    since: date,
    until: date,
    asked_since: float,
) -> KnownSplits:
    """What the ledger knows of the splits of some tickers, executed from `since` to `until`.

    Args:
        connection: To the ledger.
        tickers: Their symbols.
        source: Where it was asked.
        since: The first day of execution.
        until: The last one.
        asked_since: Answers from before this moment, s UTC, do not count as complete any more.
    """
    values = {"source": source, "since": f"{since}", "until": f"{until}", "asked": asked_since}
    asked = connection.execute(
        "SELECT ticker FROM split_query"
        " WHERE source = :source AND since <= :since AND until >= :until AND asked >= :asked",
        values,
    )
    known = {row["ticker"] for row in asked}
    before = connection.execute(
        "SELECT until FROM split_query WHERE source = :source AND ticker = '' AND since <= :since", values
    ).fetchone()
    rows = connection.execute(
        "SELECT * FROM split WHERE source = :source AND day BETWEEN :since AND :until"
        " AND ticker IN (SELECT value FROM json_each(:tickers))",
        {**values, "tickers": json.dumps(list(tickers))},
    )
    splits: dict[str, list[Split]] = {}
    learned: dict[Split, float] = {}
    for row in rows:
        split = Split(row["ticker"], date.fromisoformat(row["day"]), row["split_from"], row["split_to"])
        splits.setdefault(split.ticker, []).append(split)
        learned[split] = row["learned"]
    return KnownSplits(
        known=frozenset(tickers if ALL in known else known.intersection(tickers)),
        splits=splits,
        learned=learned,
        until=before and date.fromisoformat(before["until"]),
    )


def keep_splits(
    connection: sqlite3.Connection, found: Iterable[Split], *, asked: str, source: str, since: date, until: date
) -> None:
    """Record a complete answer: what it does not list any more is forgotten.

    Args:
        connection: To the ledger, outside a transaction.
        found: All splits of the answer.
        asked: The ticker that was asked about, or `ALL`.
        source: Where it was asked.
        since: The first day of execution that was asked for.
        until: The last one.
    """
    now = time.time()
    span = {"source": source, "since": f"{since}", "until": f"{until}"}
    joins = "until >= :since AND :until >= since"
    listed = {(split.ticker, f"{split.day}", split.split_from, split.split_to) for split in found}
    connection.execute("BEGIN IMMEDIATE")
    try:
        kept = connection.execute(
            "SELECT ticker, day, split_from, split_to FROM split"
            " WHERE source = :source AND day BETWEEN :since AND :until AND (:asked = '' OR ticker = :asked)",
            {**span, "asked": asked},
        )
        gone = [tuple(row) for row in kept if tuple(row) not in listed]
        connection.executemany(
            "DELETE FROM split WHERE source = ? AND ticker = ? AND day = ? AND split_from = ? AND split_to = ?",
            [(source, *row) for row in gone],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO split (source, ticker, day, split_from, split_to, learned)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(source, *row, now) for row in sorted(listed)],
        )
        connection.execute(
            # An answer that goes on where the one before ended, goes back as far as that one.
            "INSERT INTO split_query (source, ticker, since, until, asked)"
            " VALUES (:source, :asked, :since, :until, :now) ON CONFLICT (source, ticker) DO UPDATE SET"
            f" since = iif({joins}, min(since, :since), :since), until = iif({joins}, max(until, :until), :until),"
            f" asked = iif({joins} AND until > :until, asked, :now)",
            {**span, "asked": asked, "now": now},
        )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
