"""Flags or CSVs in, validated tickers out; an error names the file and the row."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import logging
import re
import sys
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, one_line
from polygon_async.model.layout import csv_name, is_tag_value, safe_name
from polygon_async.model.spelling import likely, told
from polygon_async.model.tickers import AssetType, Ticker, is_symbol
from polygon_async.system.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygon_async.settings.settings import Settings

__all__ = ["Choice", "Defaults", "from_csvs", "from_names", "of"]

log = logging.getLogger(__name__)

_TAG_COLUMNS = ("asset_type", "exchange", "currency")
_NO_TAG_COLUMNS = frozenset({"ticker", "error"})
_OTHER_NAMES = frozenset({"symbol", "symbols", "tickers", "code"})
"""What other programs call the column `ticker`."""
_STANDARD_INPUT = "-"
_GZIP = b"\x1f\x8b"
_BINARY = {
    b"PK\x03\x04": "a spreadsheet (.xlsx) or another archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
    b"PAR1": "a Parquet file",
}
"""How files begin that are taken for CSVs, and what they are."""
_LARGEST = 256 * 2**20
_TOO_MANY = re.compile(r"Expected \d+ fields in line \d+, saw \d+")
"""What pandas says of a row that has more values than the first."""
_MOST_NAMED = 10

_Row = tuple[str, str, "Mapping[str, str]"]
"""Where the row is, for messages; the ticker; the other columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """A ticker's tags where its row has none."""

    exchange: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which tickers of a universe are taken."""

    match: tuple[str, ...] = ()
    """Globs, one of which must fit the ticker; without any, every ticker fits."""
    limit: int | None = None
    """How many of the first that fit."""
    shard: tuple[int, int] | None = None
    """Which part of how many, from 1, is taken of those; None: all."""

    def takes(self, symbol: str, taken: int) -> bool:
        """Whether this ticker is taken, after `taken` others."""
        if self.limit is not None and taken >= self.limit:
            return False
        return not self.match or any(fnmatchcase(symbol, glob) for glob in self.match)

    def has_in_shard(self, symbol: str) -> bool:
        """Whether the ticker is of this part: the same one on every machine, for ever, whatever others there are."""
        if self.shard is None:
            return True
        which, count = self.shard
        # Not Python's own hash, which changes with every process.
        number = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8])
        return number % count == which - 1


_EVERYTHING = Choice()


def of(settings: Settings) -> list[Ticker]:
    """The tickers that the settings ask for.

    Raises:
        ConfigError: a ticker or a universe file cannot be used, or no ticker is left.
    """
    defaults = Defaults(exchange=settings.exchange, currency=settings.currency)
    choice = Choice(match=settings.match, limit=settings.limit, shard=settings.shard)
    if settings.tickers is not None:
        tickers = from_names(settings.tickers, defaults, choice)
    else:
        tickers = from_csvs(settings.universe, defaults, choice)
    if doubts := told(ticker.symbol for ticker in tickers):
        log.warning("%s; using them as given", doubts)
    return tickers


def from_names(names: Sequence[str], defaults: Defaults, choice: Choice = _EVERYTHING) -> list[Ticker]:
    """The tickers named on the command line, in order, without duplicates.

    Raises:
        ConfigError: one of them cannot be a ticker, or none is left.
    """
    if any("," in name for name in names):
        words = " ".join(part for name in names for part in re.split(r"[,\s]+", name) if part)
        raise ConfigError(f"--tickers: separate tickers by spaces, not commas: --tickers {one_line(words)}")
    rows: list[_Row] = [("--tickers", name.strip(), {}) for name in names]
    return _tickers(rows, defaults, choice)


def from_csvs(paths: Sequence[Path], defaults: Defaults, choice: Choice = _EVERYTHING) -> list[Ticker]:
    """The tickers of several universes, one after another; of duplicates the first row counts.

    A universe is a CSV with a `ticker` column (or `symbol`, `tickers`, `symbols`, `code`), separated by commas,
    semicolons or tabs, in UTF-8 or by its byte order mark UTF-16, gzipped or not, read as text. The case of
    column names, blank lines, lines that begin with #, surrounding spaces and duplicates are forgiven. `exchange`,
    `currency` and `asset_type` become the ticker's tags; every other column is kept for the lists that can be fed
    back in (except `error`, which those lists write).

    Raises:
        ConfigError: a file or one of its rows cannot be used, or none is left; names file and row.
    """
    return _tickers([row for path in paths for row in _rows(path)], defaults, choice)


def _rows(path: Path) -> list[_Row]:
    name = "standard input" if str(path) == _STANDARD_INPUT else str(path)
    table = _table(name, _text(path, name))
    columns, rows = table[0][1], table[1:]
    keys = [column.strip().lower() for column in columns]
    if "ticker" not in keys and sum(key in _OTHER_NAMES for key in keys) == 1:
        keys = ["ticker" if key in _OTHER_NAMES else key for key in keys]
    if keys.count("ticker") != 1:
        found = "two" if "ticker" in keys else f"only {one_line(', '.join(filter(None, columns)) or 'nothing')}"
        raise ConfigError(f"{name}: the first row must have exactly one column `ticker`; it has {found}")
    described: list[_Row] = []
    for number, cells in rows:
        row = dict(zip(keys, cells, strict=True))
        names = dict(zip(keys, columns, strict=True))
        others = {names[key]: value for key, value in row.items() if key and key not in _NO_TAG_COLUMNS}
        if any(cells):
            described.append((f"{name}, row {number}", row["ticker"], others))
    if not described:
        raise ConfigError(f"{name} has no tickers")
    return described


def _text(path: Path, name: str) -> str:
    """A universe's text, from its file or from standard input."""
    try:
        if str(path) == _STANDARD_INPUT:
            if sys.stdin is None:
                raise ConfigError(f"{name} is closed")
            return _decoded(sys.stdin.buffer.read(), name)
        return _decoded(path.read_bytes(), name)
    except FileNotFoundError:
        raise ConfigError(f"{name} does not exist; give --tickers, or --universe FILE with a `ticker` column") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name} is not {error.encoding.upper()} text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror})") from error


def _decoded(content: bytes, name: str) -> str:
    """The text of a file's bytes.

    Raises:
        ConfigError: another program's file, which is no text.
        UnicodeDecodeError: it is no text, or not in this encoding.
    """
    if content.startswith(_GZIP):
        try:
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(_LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{name} cannot be unpacked ({one_line(error)})") from error
    if len(content) > _LARGEST:
        raise ConfigError(f"{name} is over {_LARGEST // 2**20} MiB; it cannot be a universe")
    for magic, kind in _BINARY.items():
        if content.startswith(magic):
            raise ConfigError(f"{name} is {kind}, not text; save it as CSV")
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def _delimiter(header: str) -> str:
    """What separates a file's columns, by its first row: a comma unless there is none, but something else."""
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _table(name: str, text: str) -> list[tuple[int, list[str]]]:
    """The text's rows with their numbers, header first, every cell stripped."""
    import pandas as pd

    # Lines keep their numbers, for messages.
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    lines = text.splitlines()
    blank = next((number for number, line in enumerate(lines) if line.strip(" \t,;")), None)
    if blank is None:
        raise ConfigError(f"{name} is empty; a universe is a CSV with a `ticker` column")
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            header=None,
            sep=_delimiter(lines[blank]),
            skiprows=blank,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        if _TOO_MANY.search(str(error)):
            return _evened(name, lines, blank)
        # pandas counts lines from 1 and rows from 0.
        said = re.sub(r"\brow (\d+)", lambda found: f"row {int(found[1]) + 1}", one_line(error))
        raise ConfigError(f"{name} is not a CSV ({said})") from error
    cells = frame.fillna("").to_numpy().tolist()
    return [(blank + index + 1, [str(cell).strip() for cell in row]) for index, row in enumerate(cells)]


def _evened(name: str, lines: Sequence[str], header: int) -> list[tuple[int, list[str]]]:
    """The rows of a text of which some have more values than the header: without those that are empty.

    Raises:
        ConfigError: some are not, so that nobody knows to which columns a row's values belong; all such rows are named.
    """
    reader = csv.reader(lines[header:], delimiter=_delimiter(lines[header]), skipinitialspace=True)
    rows = [(header + reader.line_num, [cell.strip() for cell in row]) for row in reader]
    width = len(rows[0][1])
    wrong = [
        f"{name}, row {number} has {counted(len(row), 'value')}, the header {width}"
        for number, row in rows
        if any(row[width:])
    ]
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
        raise ConfigError(f"{'; '.join(wrong[:_MOST_NAMED])}{more}; put quotes around values that contain separators")
    return [(number, [*row[:width], *[""] * (width - len(row))]) for number, row in rows]


def _tickers(rows: Sequence[_Row], defaults: Defaults, choice: Choice) -> list[Ticker]:
    """The chosen tickers, each once; rows that are not chosen must be valid, too."""
    seen: set[str] = set()
    tickers: list[Ticker] = []
    names: dict[str, str] = {}
    wrong: list[str] = []
    for where, symbol, others in rows:
        if symbol in seen:
            continue
        seen.add(symbol)
        try:
            ticker = _ticker(where, symbol, others, defaults)
        except ConfigError as error:
            wrong.append(str(error))
            continue
        if not choice.takes(symbol, len(tickers)):
            continue
        twin = names.setdefault(safe_name(symbol), symbol)
        if twin != symbol:
            raise ConfigError(
                f"{where}: {symbol} and {twin} would share {csv_name(symbol)}; one needs another --output-dir"
            )
        tickers.append(ticker)
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
        raise ConfigError("; ".join(wrong[:_MOST_NAMED]) + more)
    if seen and not tickers:
        globs = " ".join(one_line(repr(glob)) for glob in choice.match)
        raise ConfigError(f"--match {globs}: none of {counted(len(seen), 'ticker')} matches (case matters)")
    return [ticker for ticker in tickers if choice.has_in_shard(ticker.symbol)]


def _ticker(where: str, symbol: str, others: Mapping[str, str], defaults: Defaults) -> Ticker:
    if not symbol:
        raise ConfigError(f"{where}: the ticker is empty")
    if not is_symbol(symbol):
        raise ConfigError(
            f"{where}: {one_line(repr(symbol))} is not a ticker (1 to 64 of A-Z a-z 0-9 . : _ = + -, not only dots)"
            f"{'' if (spelt := likely(symbol)) is None else f'; did you mean {spelt}?'}"
        )
    own = {key.strip().lower(): value for key, value in others.items() if value}
    for column in _TAG_COLUMNS:
        if not is_tag_value(own.get(column, "")):
            raise ConfigError(f"{where}: the {column} {one_line(repr(own[column]))} cannot be the value of an S3 tag")
    asset_type = _asset_type(where, symbol, own.get("asset_type"))
    return Ticker(
        symbol=symbol,
        asset_type=asset_type,
        exchange=own.get("exchange") or defaults.exchange or "unknown",
        currency=own.get("currency") or defaults.currency or _quote_currency(symbol, asset_type),
        row=others,
    )


def _asset_type(where: str, symbol: str, own: str | None) -> AssetType:
    if own is None:
        return AssetType.of(symbol)
    try:
        return AssetType(own.lower())
    except ValueError:
        words = ", ".join(AssetType)
        raise ConfigError(f"{where}: the asset_type {one_line(repr(own))} is not one of {words}") from None


def _quote_currency(symbol: str, asset_type: AssetType) -> str:
    """USD, or a pair's quote currency: X:BTCUSD -> USD, C:EURGBP -> GBP, X:ETH-USDT -> USDT."""
    pair = symbol.partition(":")[2]
    if asset_type not in {AssetType.CRYPTO, AssetType.FOREX} or len(pair) < 6:
        return "USD"
    if "-" in pair:
        return pair.rpartition("-")[2].upper()
    return pair[-4:] if pair.endswith(("USDT", "USDC")) else pair[-3:]
