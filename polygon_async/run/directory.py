"""The output directory: claimed for one run, and with enough free space."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, DiskUnusable, one_line
from polygon_async.model.layout import FAILED_CSV, NO_DATA_CSV, REPORT_HTML, REPORT_JSON, csv_name
from polygon_async.system.files import check_replaceable, date_file, disk_errors, sync_file
from polygon_async.system.locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polygon_async.model.tickers import Ticker
    from polygon_async.system.threads import Threads

__all__ = ["check_space", "claim", "claimed", "space_needed", "watch_space"]

log = logging.getLogger(__name__)

_REPLACED = (FAILED_CSV, NO_DATA_CSV, REPORT_HTML, REPORT_JSON)
"""What every run writes at its end, which would be late to learn that it cannot."""
_FOR_THE_REST = 32 * 2**20
_FOR_A_TICKER = 8 * 2**20
"""Bytes: a page's rows, and the compressed file of a usual ticker."""
_AT_MOST = 2**30
_SECONDS_BETWEEN_LOOKS = 1.0


@contextlib.contextmanager
def claim(directory: Path, tickers: Sequence[Ticker]) -> Iterator[None]:
    """Create the directory if missing, and reserve it for this run.

    Raises:
        DiskUnusable: it cannot be created or written, or another run holds it, or what the run will replace is no file.
        ConfigError: two tickers would share a file, as this file system ignores case.
    """
    with disk_errors(directory):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise DiskUnusable(f"{directory} is a file; --output-dir must name a directory") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(claimed(directory))
        with disk_errors(directory):
            folds = _folds_case(directory)
            _tell_what_is_refused(directory)
        for name in _REPLACED:
            with disk_errors(directory / name):
                check_replaceable(directory / name)
        if folds:
            _refuse_twins(directory, tickers)
        yield


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Reserve a directory that exists.

    Raises:
        DiskUnusable: another run holds it, or it cannot be locked.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory))
        except BlockingIOError:
            raise DiskUnusable(
                f"another run is using {directory}; wait for it to end, or give this one its own --output-dir"
            ) from None
        except OSError as error:
            raise DiskUnusable(
                f"{directory} cannot be locked ({one_line(error.strerror)}): its file system, perhaps a network share,"
                " does not support locks; use an --output-dir on a local disk"
            ) from error
        yield


def _folds_case(directory: Path) -> bool:
    """Whether AMpB and AMPB are the same file here."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".case-Probe-") as probe:
        other = probe.name.replace(".case-Probe-", ".CASE-pROBE-")
        return os.path.exists(other)  # noqa: PTH110 (the names are strings already)


def _tell_what_is_refused(directory: Path) -> None:
    """Try on a file of no importance what is done to every CSV, and say once what this file system never does."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".probe-") as probe:
        if not sync_file(probe.fileno()):
            log.warning("%s: its file system refuses fsync; a power failure may lose finished files", directory)
        if not date_file(Path(probe.name), 0):
            log.warning(
                "%s: its file system refuses to set file dates; the same bars may give a different .lzo", directory
            )


def _refuse_twins(directory: Path, tickers: Sequence[Ticker]) -> None:
    seen: dict[str, str] = {}
    for ticker in tickers:
        twin = seen.setdefault(csv_name(ticker.symbol).casefold(), ticker.symbol)
        if twin != ticker.symbol:
            raise ConfigError(
                f"{twin} and {ticker.symbol} would share a file, as {directory} ignores case;"
                " one needs another --output-dir"
            )


def space_needed(concurrency: int) -> int:
    """Bytes that must be free: enough for what this many tickers write between two checks, and for the ledger."""
    return min(_FOR_THE_REST + concurrency * _FOR_A_TICKER, _AT_MOST)


def check_space(directory: Path, least: int) -> None:
    """Check once. Blocking.

    Raises:
        DiskUnusable: less than `least` bytes are free.
    """
    with disk_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < least:
        raise DiskUnusable(
            f"the disk of {directory} is nearly full ({free / 1e6:,.0f} MB are free, {least / 1e6:,.0f} MB are needed);"
            " free some space and start again"
        )


async def watch_space(directory: Path, least: int, *, offload: Threads) -> None:
    """Check every second, without end.

    Raises:
        DiskUnusable: less than `least` bytes are free; what is in progress still fits.
    """
    while True:
        look = partial(check_space, directory, least)
        await offload.watched(look, subject=f"looking at the free space of {directory}")
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
