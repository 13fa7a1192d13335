"""Tickers' bars, one after another, in; a file or a directory that is whole, or nothing, out. Blocking: in threads."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote

from polygon_async.archive.frames import FILE_HEADER, csv_rows, frame_of
from polygon_async.errors import ConfigError
from polygon_async.model.units import NEW_YORK
from polygon_async.system.files import check_replaceable, disk_errors, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from polygon_async.archive.reader import TickerBars
    from polygon_async.model.splits import Adjustment

__all__ = ["Output", "output_for", "table_of"]

_MONTH = "%Y-%m"
_ROWS_IN_GROUP = 2**20


class Output(Protocol):
    """Where bars are written."""

    def prepare(self, bars: TickerBars, splits: Sequence[Adjustment]) -> Any:
        """What is to be written of a ticker's bars; several are prepared side by side. None if it has none."""

    def add(self, prepared: Any) -> None:
        """Write what was prepared of one more ticker.

        Raises:
            DiskUnusable: it cannot be written.
        """

    @property
    def is_wanted(self) -> bool:
        """False when nobody takes what is written any more."""

    def finish(self) -> None:
        """Nothing follows: give the output its name."""

    def discard(self) -> None:
        """Remove what was written, unless it has its name."""


def output_for(target: str, *, partition: str | None, symbols: Sequence[str], zone: str) -> Output:
    """The output that a name asks for: `.parquet`, `.csv`, `.csv.gz`, or `-` for a CSV on standard output.

    Args:
        target: The name.
        partition: Write a directory, partitioned by this, instead of one file.
        symbols: All tickers that may follow.
        zone: The time zone of timestamps in Parquet.

    Raises:
        ConfigError: nothing can be written there, or a package is missing.
    """
    if target == "-":
        if partition:
            raise ConfigError("--partition needs a directory's name for --output; '-' is standard output")
        return _Csv(None)
    path = Path(target)
    if partition is None and target.endswith((".csv", ".csv.gz")):
        _check_file(path)
        return _Csv(path)
    if partition is None and not target.endswith(".parquet"):
        raise ConfigError(f"--output {target!r}: must end in .parquet, .csv or .csv.gz, or be - for standard output")
    if partition is not None and target.endswith((".csv", ".csv.gz")):
        raise ConfigError(f"--output {target!r}: --partition writes a directory of Parquet files, not a CSV")
    _check_pyarrow()
    if partition is None:
        _check_file(path)
        return _Parquet(path, symbols, zone)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"--output {target!r}: already exists; remove it or choose another name")
    _check_parent(path)
    return _Partitioned(path, partition, symbols, zone)


def _check_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow; pip install 'polygon-async[parquet]', or write a .csv") from error


def _check_file(path: Path) -> None:
    try:
        check_replaceable(path)
    except OSError as error:
        raise ConfigError(f"--output {str(path)!r}: it is not a file that can be replaced") from error
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ConfigError(f"--output {str(path)!r}: its directory does not exist")
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"--output {str(path)!r}: its directory is not writable")


def _beside(path: Path) -> Path:
    """Another name in the same directory, for what is not whole yet; the same each time, so that none is left over."""
    return path.with_name(f".{path.name}.new")


@contextlib.contextmanager
def _syncing(path: Path) -> Iterator[BinaryIO]:
    """A new file, on the disk when the context ends well."""
    with path.open("xb") as file:
        yield file
        file.flush()
        sync_file(file.fileno())


class _File:
    """One file, written under another name first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = _beside(path.resolve())
        self._stack = contextlib.ExitStack()
        self.is_wanted = True

    def _opened(self) -> BinaryIO:
        with disk_errors(self._path):
            self._new.unlink(missing_ok=True)
            return self._stack.enter_context(_syncing(self._new))

    def finish(self) -> None:
        """Nothing follows."""
        with disk_errors(self._path):
            self._stack.close()
            self._new.replace(self._path.resolve())

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._stack.close()
        self._new.unlink(missing_ok=True)


class _Csv(_File):
    """A CSV, plain or gzipped, or on standard output."""

    def __init__(self, path: Path | None) -> None:
        self._is_standard = path is None
        super().__init__(path or Path("standard output"))
        self._file: Any = None

    def prepare(self, bars: TickerBars, splits: Sequence[Adjustment]) -> Any:
        """Rows of a CSV."""
        return csv_rows(bars, splits) or None

    def add(self, prepared: Any) -> None:
        """Write one more ticker's rows."""
        with disk_errors(self._path), self._until_closed():
            if self._file is None:
                self._file = self._begun()
                self._file.write(FILE_HEADER)
            self._file.write(prepared)
            if self._is_standard:
                self._file.flush()

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        """A reader of standard output that has seen enough ends it."""
        try:
            yield
        except BrokenPipeError:
            self.is_wanted = False
            # Else Python would try to flush again at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _begun(self) -> Any:
        if self._is_standard:
            return sys.stdout.buffer
        raw = self._opened()
        if self._path.suffix != ".gz":
            return raw
        from isal import igzip

        # Without a date, the same bars give the same file.
        packed = igzip.IGzipFile(filename="", mode="wb", fileobj=raw, mtime=0)  # type: ignore[no-untyped-call]
        return self._stack.enter_context(packed)

    def finish(self) -> None:
        """Nothing follows."""
        if not self._is_standard:
            super().finish()

    def discard(self) -> None:
        """Remove what was written; what is on standard output stays there."""
        if not self._is_standard:
            super().discard()


class _Parquet(_File):
    """A Parquet file."""

    def __init__(self, path: Path, symbols: Sequence[str], zone: str) -> None:
        super().__init__(path)
        self._symbols = symbols
        self._zone = zone
        self._writer: Any = None

    def prepare(self, bars: TickerBars, splits: Sequence[Adjustment]) -> Any:
        """An Arrow table."""
        return _table(bars, splits, self._symbols, self._zone)

    def add(self, prepared: Any) -> None:
        """Write one more ticker's table."""
        with disk_errors(self._path):
            if self._writer is None:
                self._writer = self._stack.enter_context(_parquet_writer(self._opened(), prepared.schema))
            self._writer.write_table(prepared, row_group_size=_ROWS_IN_GROUP)


class _Partitioned:
    """A directory of Parquet files, one for each ticker or month, as Hive names them."""

    def __init__(self, path: Path, partition: str, symbols: Sequence[str], zone: str) -> None:
        self._path = path
        self._partition = partition
        self._symbols = symbols
        self._zone = zone
        self._new = _beside(path.resolve())
        self.is_wanted = True
        # What a killed run has left.
        shutil.rmtree(self._new, ignore_errors=True)
        self._files: dict[str, tuple[contextlib.ExitStack, Any]] = {}

    def prepare(self, bars: TickerBars, splits: Sequence[Adjustment]) -> Any:
        """The ticker, and an Arrow table."""
        table = _table(bars, splits, self._symbols, self._zone)
        return None if table is None else (bars.ticker.symbol, table)

    def add(self, prepared: Any) -> None:
        """Write one more ticker's table."""
        symbol, table = prepared
        with disk_errors(self._path):
            if self._partition == "ticker":
                self._write(symbol, table.drop_columns(["ticker"]))
                self._close()
            else:
                for month, part in _by_month(table):
                    self._write(month, part)

    def _write(self, value: str, table: Any) -> None:
        if value not in self._files:
            directory = self._new / f"{self._partition}={quote(value, safe='')}"
            directory.mkdir(parents=True)
            stack = contextlib.ExitStack()
            file = stack.enter_context(_syncing(directory / "bars.parquet"))
            self._files[value] = stack, stack.enter_context(_parquet_writer(file, table.schema))
        self._files[value][1].write_table(table, row_group_size=_ROWS_IN_GROUP)

    def _close(self) -> None:
        files, self._files = self._files, {}
        for stack, _ in files.values():
            stack.close()

    def finish(self) -> None:
        """Nothing follows."""
        with disk_errors(self._path):
            self._close()
            if self._new.exists():
                self._new.replace(self._path.resolve())

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._close()
        shutil.rmtree(self._new, ignore_errors=True)


def _parquet_writer(file: BinaryIO, schema: Any) -> Any:
    import pyarrow.parquet as pq

    keys = [name for name in ("ticker", "timestamp") if name in schema.names]
    sorting = [pq.SortingColumn(schema.get_field_index(name)) for name in keys]
    return pq.ParquetWriter(file, schema, compression="zstd", sorting_columns=sorting)


def _table(bars: TickerBars, splits: Sequence[Adjustment], symbols: Sequence[str], zone: str) -> Any:
    if not len(bars.rows):
        return None
    return table_of(frame_of(bars, splits, zone=zone, symbols=symbols), zone)


def table_of(frame: pd.DataFrame, zone: str) -> Any:
    """A frame of bars as an Arrow table: ticker, timestamp, then the numbers.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    _check_pyarrow()
    import pyarrow as pa

    frame = frame.reset_index()
    columns = ["ticker", "timestamp", *(name for name in frame.columns if name not in {"ticker", "timestamp"})]
    table = pa.Table.from_pandas(frame[columns], preserve_index=False)
    # Names, and no dictionary of all tickers in each file; milliseconds, which every reader knows.
    for name, kind in (("ticker", pa.string()), ("timestamp", pa.timestamp("ms", tz=zone))):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(kind))
    return table.replace_schema_metadata(None)


def _by_month(table: Any) -> Iterator[tuple[str, Any]]:
    """The rows of each month, New York's, in a row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    local = pc.local_timestamp(table.column("timestamp").cast(pa.timestamp("ms", tz=NEW_YORK.key)))
    months = pc.strftime(local, format=_MONTH).to_pylist()
    begin = 0
    for place in range(1, len(months) + 1):
        if place == len(months) or months[place] != months[begin]:
            yield months[begin], table.slice(begin, place - begin)
            begin = place
