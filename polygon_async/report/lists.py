"""Rows in; a list in the universe's own form, which can be fed back in, out: as a file, or none where it is empty."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from polygon_async.bars.part import disk_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["replace_file", "write_list"]


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


def replace_file(path: Path, text: str) -> None:
    """Write a file whole: under a name of its own first, so that nobody ever reads half of it.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    target = path.resolve()  # behind a link, the file is what is meant
    new = target.with_name(f".{target.name}.new")
    try:
        new.write_text(text, encoding="utf-8", newline="")
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
