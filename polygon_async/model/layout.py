"""File names, object keys, tags and metadata: no other module knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polygon_async.model.tickers import Ticker
    from polygon_async.model.units import CsvFile, Unit

__all__ = [
    "CSV_SHA256",
    "FAILED_CSV",
    "IDENTITY",
    "LEDGER",
    "METADATA",
    "NO_DATA_CSV",
    "OBJECT_SUFFIX",
    "PROBE_KEY",
    "REPORT_HTML",
    "REPORT_JSON",
    "TIMEFRAME",
    "TRIAL_KEY",
    "VERIFY_CSV",
    "csv_name",
    "is_tag_value",
    "lzo_name",
    "metadata",
    "object_key",
    "parse_key",
    "parse_unit_csv",
    "part_name",
    "report_names",
    "safe_name",
    "symbol_of",
    "tags",
    "unit_csv_name",
]

FAILED_CSV = "failed.csv"
NO_DATA_CSV = "no_data.csv"
VERIFY_CSV = "verify.csv"
REPORT_HTML = "report.html"
REPORT_JSON = "report.json"
"""A run's report, for people and for programs."""
LEDGER = "ledger.sqlite"
TIMEFRAME = "1min"
OBJECT_SUFFIX = ".csv.lzo"
PROBE_KEY = "stocks/.polygon_async/tagging-probe"
"""Below the prefix of all keys. No object is meant to be there: what a store answers about it tells what it can do."""
TRIAL_KEY = "stocks/.polygon_async/doctor"
"""How the key of the object begins on which rights are tried, below the prefix of all keys."""
IDENTITY = ("from", "to", "adjusted")
"""The metadata that distinguishes units whose objects could share a key."""
CSV_SHA256 = "csv-sha256"
"""The metadata that distinguishes different contents of one unit."""
METADATA = (*IDENTITY, "bars", "first", "last", CSV_SHA256)

_SOURCE = "polygon"
_QUALITY = "raw"
# What S3 accepts as the value of a tag.
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
_KEY = re.compile(
    r"(?:.+/)?(?P<type>[a-z]+)/(?P<name>[A-Za-z0-9._=+-]{1,64})/(?P<source>[a-z]+)"
    r"/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/(?P<hour>\d\d)"
    r"/(?P=name)_(?P=source)_(?P<minute>(?P=year)(?P=month)(?P=day)(?P=hour)\d\d)\.csv\.lzo"
)
_UNIT_CSV = re.compile(
    r"(?P<name>[A-Za-z0-9._=+-]{1,64})_(?P<first>\d{4}-\d\d-\d\d)_(?P<last>\d{4}-\d\d-\d\d)"
    r"_(?P<prices>adjusted|unadjusted)\.csv"
)
_PREFIXES = {"crypto": "X-", "forex": "C-", "indices": "I-", "options": "O-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyParts:
    """The parts of an object's key."""

    asset_type: str
    name: str
    """The ticker as spelt in keys."""
    source: str
    collected: datetime
    """UTC, to the minute."""


def is_tag_value(text: str) -> bool:
    """Whether an S3 store accepts `text` as the value of a tag."""
    return _TAG_VALUE.fullmatch(text) is not None


def safe_name(symbol: str) -> str:
    """The ticker as spelt in file names and keys: `X:BTCUSD` -> `X-BTCUSD`."""
    return symbol.replace(":", "-")


def csv_name(symbol: str) -> str:
    """Name of the ticker's local history in the output directory."""
    return f"{safe_name(symbol)}_historical.csv"


def unit_csv_name(unit: Unit) -> str:
    """Name of a unit's own CSV, which lives until its bars are where they belong; it carries the unit's identity."""
    prices = "adjusted" if unit.adjusted else "unadjusted"
    return f"{safe_name(unit.ticker.symbol)}_{unit.start}_{unit.end}_{prices}.csv"


def parse_unit_csv(name: str) -> tuple[str, str, str, bool] | None:
    """The ticker as spelt in names, the first and last day, and whether prices are adjusted, of a unit's own CSV."""
    if (found := _UNIT_CSV.fullmatch(name)) is None:
        return None
    return found["name"], found["first"], found["last"], found["prices"] == "adjusted"


def part_name(unit: Unit) -> str:
    """Name of a unit's unfinished CSV."""
    return f"{unit_csv_name(unit)}.part"


def report_names(run: int | None = None) -> tuple[str, str]:
    """Names of a report's page and JSON: the newest run's, or those of an earlier run by its number."""
    if run is None:
        return REPORT_HTML, REPORT_JSON
    return f"report-run-{run}.html", f"report-run-{run}.json"


def lzo_name(symbol: str) -> str:
    """Name of the compressed file, which exists until its upload has ended."""
    return f"{csv_name(symbol)}.lzo"


def object_key(ticker: Ticker, collected: datetime) -> str:
    """Key of the ticker's object, below the prefix of all keys; `collected` is UTC, and counts to the minute."""
    name = safe_name(ticker.symbol)
    return (
        f"{ticker.asset_type}/{name}/{_SOURCE}/{collected:%Y/%m/%d/%H}/{name}_{_SOURCE}_{collected:%Y%m%d%H%M}.csv.lzo"
    )


def parse_key(key: str) -> KeyParts | None:
    """The parts of a key of this layout, below whatever prefix; None for any other key."""
    found = _KEY.fullmatch(key)
    if found is None or not found["name"].strip("."):
        return None
    try:
        collected = datetime.strptime(found["minute"], "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None
    return KeyParts(asset_type=found["type"], name=found["name"], source=found["source"], collected=collected)


def symbol_of(parts: KeyParts) -> str:
    """The ticker of a key, as far as the key shows it: `crypto`, `X-BTCUSD` -> `X:BTCUSD`."""
    prefix = _PREFIXES.get(parts.asset_type)
    named_by_market = prefix is not None and parts.name.startswith(prefix)
    return parts.name.replace("-", ":", 1) if named_by_market else parts.name


def tags(ticker: Ticker, collected: datetime) -> dict[str, str]:
    """The eight tags of the ticker's object; `date` is the key's date."""
    return {
        "asset_type": str(ticker.asset_type),
        "symbol": ticker.symbol,
        "source": _SOURCE,
        "exchange": ticker.exchange,
        "currency": ticker.currency,
        "timeframe": TIMEFRAME,
        "date": f"{collected:%Y-%m-%d}",
        "quality": _QUALITY,
    }


def metadata(unit: Unit, csv: CsvFile) -> dict[str, str]:
    """The object's metadata: what its CSV contains."""
    return {
        "bars": str(csv.bars),
        "first": str(csv.first),
        "last": str(csv.last),
        "from": unit.start.isoformat(),
        "to": unit.end.isoformat(),
        "adjusted": "true" if unit.adjusted else "false",
        CSV_SHA256: csv.sha256,
    }
