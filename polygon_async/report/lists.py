"""Lists of tickers that `--universe` reads: `failed.csv`, `no_data.csv` and others."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from polygon_async.model.layout import FAILED_CSV, NO_DATA_CSV
from polygon_async.system.files import check_replaceable, disk_errors, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygon_async.model.tickers import Ticker
    from polygon_async.report.summary import Summary

__all__ = ["write_list", "write_lists"]


def write_lists(summary: Summary) -> None:
    """Rewrite `failed.csv` and `no_data.csv` after a run, in the universe's own form.

    After a run that was stopped, `failed.csv` also lists the tickers that it did not finish, so that
    the list is all that is left to do.

    Raises:
        DiskUnusable: they cannot be written.
    """
    failed = [(outcome.unit.ticker, outcome.error or "") for outcome in summary.failed]
    if summary.was_stopped:
        why = "interrupted" if summary.interrupted else "the run was stopped"
        failed += [(ticker, f"not finished: {why}") for ticker in summary.unfinished]
    no_data = [(outcome.unit.ticker, "no data in the range") for outcome in summary.no_data]
    columns = list(dict.fromkeys(column for ticker in summary.tickers for column in ticker.row))
    for name, rows in ((FAILED_CSV, failed), (NO_DATA_CSV, no_data)):
        table = [_row(ticker, columns, error) for ticker, error in rows]
        write_list(summary.directory / name, ["ticker", *columns, "error"], table)


def write_list(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Replace a list as a whole; without rows, remove the file.

    Raises:
        DiskUnusable: it cannot be written.
    """
    with disk_errors(path):
        if not rows:
            check_replaceable(path)
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.getvalue())


def _row(ticker: Ticker, columns: Sequence[str], error: str) -> dict[str, str]:
    return {**{column: ticker.row.get(column, "") for column in columns}, "ticker": ticker.symbol, "error": error}
