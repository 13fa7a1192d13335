"""A worker's log lines in; the same, without secrets, for the coordinator's log out."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polygon_async.system.redaction import Redactor

__all__ = ["Lines", "logged"]


class Lines(logging.Handler):
    """Keeps what this package logs, without secrets, until the coordinator is told."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__(logging.WARNING)
        self._redact = redact
        self._lines: list[tuple[int, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        fields = {name: getattr(record, name) for name in ("event", "facts") if hasattr(record, name)}
        self._lines.append((record.levelno, self._redact(record.getMessage()), fields))

    def taken(self) -> list[tuple[int, str, dict[str, Any]]]:
        """What has not been told."""
        lines, self._lines = self._lines, []
        return lines


@contextlib.contextmanager
def logged(redact: Redactor) -> Iterator[Lines]:
    """As long as the pipeline is open, this package's log lines go to the coordinator, and nowhere else."""
    logger, lines = logging.getLogger("polygon_async"), Lines(redact)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.propagate = propagates
