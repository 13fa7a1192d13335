"""What the version before has left, a ledger and a part, is gone on with: nothing is fetched twice."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import csv_of, names
from stored import decompressed, stored

from polygon_async.model.layout import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DUMP = Path(__file__).with_name("older_ledger.sql")
DAY = dt.date(2026, 3, 2)
COMMAND = (
    *("--tickers", "BAD", "NODATA", "QQ", "STUCK", "--from", f"{DAY}", "--to", f"{DAY}", "--no-adjusted"),
    *("--concurrency", "1", "--rate", "unlimited", "--json"),
)
SIZE = 100
"""Bars on a page, then and now."""
PAGES_IN_THE_PART = 2
COLLECTED = "202611252257"
"""The killed run's collection time, as keys spell it."""


def csv(box: Sandbox, symbol: str) -> bytes:
    return csv_of(box.market.days(symbol, DAY, DAY, adjusted=False)).encode()


def pages_of(box: Sandbox, symbol: str) -> int:
    return -(-len(box.market.days(symbol, DAY, DAY)) // SIZE)


def left_by_the_version_before(program: Program, box: Sandbox) -> None:
    """Its ledger, and the files that the killed run had."""
    output = program.directory / "output"
    output.mkdir()
    destination = f"{box.environment['AWS_ENDPOINT_URL_S3']}/{box.bucket}"
    with contextlib.closing(sqlite3.connect(output / LEDGER)) as ledger:
        ledger.executescript(DUMP.read_text(encoding="utf-8").replace("DESTINATION", destination))
        ((size, crc),) = ledger.execute("SELECT size, crc FROM unit WHERE ticker = 'STUCK'")
    part = csv(box, "STUCK")[:size]
    assert zlib.crc32(part) == crc, "the market is not the one of which the dump tells"
    (output / f"STUCK_{DAY}_{DAY}_unadjusted.csv.part").write_bytes(part)
    (output / "QQ_historical.csv").write_bytes(csv(box, "QQ"))


def test_a_killed_run_of_the_version_before_is_resumed(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=SIZE)
    left_by_the_version_before(program, box)
    ended = program(*COMMAND, box=box)
    assert ended.code == 0, ended.err
    asked = Counter(request.ticker for request in box.requests)
    assert asked == {"BAD": pages_of(box, "BAD"), "STUCK": pages_of(box, "STUCK") - PAGES_IN_THE_PART}
    told = {"total": 4, "done": 3, "earlier": 1, "no_data": 1, "failed": 0, "unfinished": 0}
    assert (ended.summary["tickers"], ended.summary["doubles"]) == (told, 1)
    # QQ's object is not asked for again; the others have the killed run's time in their keys.
    assert {(item.tags["symbol"], item.key[-20:]): decompressed(item) for item in stored(box)} == {
        (symbol, f"{COLLECTED}.csv.lzo"): csv(box, symbol) for symbol in ("BAD", "STUCK")
    }
    csvs = [f"{symbol}_historical.csv" for symbol in ("BAD", "QQ", "STUCK")]
    assert names(program.directory / "output") == [*csvs, "no_data.csv"]


def test_status_reads_the_ledger_of_the_version_before(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    left_by_the_version_before(program, sandbox())
    told = program("status", "--json").summary
    states = {"uploaded": 1, "saved": 0, "no_data": 1, "pending": 1, "abandoned": 0, "failed": 1}
    assert told["units"] == {"total": 4, **states}
    assert {unit["ticker"]: (unit["state"], unit["doing"]) for unit in told["tickers"]} == {
        "BAD": ("failed", None),
        "NODATA": ("no data", None),
        "QQ": ("uploaded", None),
        "STUCK": ("pending", "fetching"),
    }
    assert [run["state"] for run in told["runs"]] == ["done", "running"]
