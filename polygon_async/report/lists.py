"""Rows in; a list in the universe's own form, which can be fed back in, out: as a file, or none where it is empty."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from polygon_async.system.files import disk_errors, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["write_list"]


def write_list(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write the list anew, whole or not at all; without rows, take away the one of before.

    Raises:
        DiskUnusable: it cannot be written.
    """
    with disk_errors(path):
        if not rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.getvalue())
