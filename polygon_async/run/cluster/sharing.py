"""The output directory in; whether a worker, wherever it runs, sees the same one out."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.run.cluster.asking import asked
from polygon_async.system.files import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import Client

__all__ = ["Mark", "all_see", "marked"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A file that says which directory it is in: another machine may have another one of the same path."""

    path: Path
    token: str

    def is_seen(self) -> bool:
        """Whether this machine sees it. Blocking."""
        try:
            return self.path.read_text(encoding="utf-8") == self.token
        except (OSError, UnicodeDecodeError):
            return False


@contextlib.contextmanager
def marked(directory: Path) -> Iterator[Mark]:
    """Leave a mark in a directory, whose path is absolute, for as long as workers may come. Blocking.

    Raises:
        DiskUnusable: it cannot be written.
    """
    mark = Mark(directory / f".probe-{secrets.token_hex(4)}", secrets.token_hex(8))
    with disk_errors(mark.path):
        mark.path.write_text(mark.token, encoding="utf-8")
    try:
        yield mark
    finally:
        mark.path.unlink(missing_ok=True)


async def all_see(client: Client, mark: Mark) -> bool:
    """Whether every worker that is there sees it."""
    return all(seen is True for seen in (await asked(client, mark.is_seen)).values())
