"""A number of units in; an output directory whose ledger has them, out."""

from __future__ import annotations

import datetime as dt
import itertools
import string
from typing import TYPE_CHECKING

from polygon_async.ledger.entries import RunRequest
from polygon_async.ledger.events import Begun, Fetched, Uploaded, Uploading
from polygon_async.ledger.ledger import open_ledger
from polygon_async.model.days import days_between, set_of
from polygon_async.model.sessions import Sessions, coverage
from polygon_async.model.states import RunState
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Receipt, Unit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_ledger"]

_FIRST, _LAST = dt.date(2024, 6, 3), dt.date(2026, 6, 2)
_SOURCE, _BUCKET = "local", "bucket"


def write_ledger(directory: Path, units: int) -> str:
    """Write the ledger of a run whose tickers have two bars each, two years apart, half of them uploaded.

    They lack every session in between. Returns one of the tickers.
    """
    directory.mkdir()
    order = RunRequest(
        source=_SOURCE,
        universe="",
        first_day=_FIRST,
        last_day=_LAST,
        adjusted=True,
        days_given=True,
        settings={},
    )
    now = dt.datetime(2026, 6, 3, tzinfo=dt.UTC)
    days = set_of((_FIRST, _LAST))
    found = coverage(Sessions(days_between(_FIRST, _LAST), 0), days)
    symbols = [
        "".join(letters) for letters in itertools.islice(itertools.product(string.ascii_uppercase, repeat=4), units)
    ]
    done = []
    with open_ledger(directory) as ledger:
        run = ledger.begin(order, now=now, force=True)
        for number, symbol in enumerate(symbols):
            ticker = Ticker(symbol, AssetType.STOCKS, "unknown", "USD")
            unit = Unit(ticker=ticker, start=_FIRST, end=_LAST, adjusted=True)
            first, last = unit.bounds()
            csv = CsvFile(
                path=directory,
                bars=2,
                first=first,
                last=last,
                duplicates=0,
                size=141,
                sha256=f"{number:064x}",
                days=days,
            )
            receipt = Receipt(bucket=_BUCKET, key=f"stocks/{symbol}", size=182, confirmed_by="etag", existed=False)
            events = [Begun(unit=unit, day=now.date()), Fetched(unit=unit, csv=csv)]
            if number % 2:
                events += [Uploading(unit=unit, csv=csv, collected=now), Uploaded(unit=unit, receipt=receipt, tags={})]
            for event in events:
                ledger.apply(event, run=run, source=_SOURCE, destination=_BUCKET)
            done.append((unit, found))
        ledger.covered(done, source=_SOURCE)
        ledger.end(run, RunState.DONE)
    return symbols[units // 2]
