"""Logging: text or JSON lines, on standard error and in a file, with secrets removed."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import stat
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from polygon_async.errors import ConfigError, one_line

if TYPE_CHECKING:
    import argparse

    from polygon_async.system.redaction import Redactor

__all__ = ["JsonFormatter", "log_to"]

log = logging.getLogger(__name__)

_BOTOCORE = ("botocore", "aiobotocore")
_ABOUT_CREDENTIALS = frozenset(f"{name}.{part}" for name in _BOTOCORE for part in ("credentials", "tokens"))
_TICKER = re.compile(r"/ticker/([^/\]\s]+)/|\b/v3/reference/tickers/([^/\]\s]+)")
_REQUEST_ID = re.compile(r"\(request_id ([^)\s]+)\)")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, message, and the record's own facts.

    A record names its event and facts with `extra={"event": ..., "facts": {...}}`. Ticker and request_id are
    taken from the message if it contains them. `run`, once a record had it, is repeated in every later one.
    """

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact
        self._run: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with secrets removed."""
        message = record.getMessage()
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "message": message,
        }
        if (found := _TICKER.search(message)) is not None:
            told["ticker"] = unquote(found[1] or found[2])
        if (found := _REQUEST_ID.search(message)) is not None:
            told["request_id"] = found[1]
        told |= getattr(record, "facts", {})
        self._run = told.get("run", self._run)
        if self._run is not None:
            told["run"] = self._run
        if not record.name.startswith("polygon_async"):
            told["logger"] = record.name
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: self._redacted(value) for name, value in told.items()}, ensure_ascii=False)

    def _redacted(self, value: object) -> object:
        return self._redact(value) if isinstance(value, str) else value


def log_to(handler: logging.Handler, flags: argparse.Namespace, redact: Redactor) -> None:
    """Send the program's log lines, and the libraries' warnings, to `handler` and to the file that the flags name.

    Raises:
        ConfigError: the file cannot be written.
    """

    def formatter() -> logging.Formatter:
        return JsonFormatter(redact) if flags.log_format == "json" else _RedactingFormatter(redact)

    handler.setFormatter(formatter())
    if flags.quiet:
        handler.setLevel(logging.ERROR)
    handlers = [handler]
    if flags.log_file is not None:
        file = _opened(flags.log_file)
        file.setFormatter(formatter())
        handlers.append(file)
    for each in handlers:
        each.addFilter(_in_one_line)
        if flags.log_level != "debug":
            each.addFilter(_is_news)
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.getLogger("polygon_async").setLevel(flags.log_level.upper())


def _in_one_line(record: logging.LogRecord) -> bool:
    """Shorten a traceback that botocore logs to its error: what has to be known of it comes as an error of ours."""
    if record.name.startswith(_BOTOCORE) and record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()} ({one_line(record.exc_info[1])})", None
        record.exc_info = None
    return True


def _is_news(record: logging.LogRecord) -> bool:
    """Whether no error of ours tells it: credentials that cannot be renewed stop the run when they are needed."""
    return record.name not in _ABOUT_CREDENTIALS


def _opened(name: str) -> logging.Handler:
    if not name:
        raise ConfigError("--log-file '': the value is empty")
    try:
        file = _LogFile(Path(name), encoding="utf-8", errors="backslashreplace")
        if file.stream is not None:
            _check_room(file.stream.fileno())
    except OSError as error:
        raise ConfigError(f"--log-file {one_line(name)}: cannot be written ({one_line(error.strerror)})") from error
    return file


def _check_room(number: int) -> None:
    """Check that a file takes anything at all.

    Raises:
        OSError: it does not.
    """
    os.write(number, b"")  # a device says here what it thinks of writing
    if stat.S_ISREG(os.fstat(number).st_mode) and not os.fstatvfs(number).f_bfree:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody reads would keep its writer waiting for ever.

    Raises:
        OSError: it cannot be opened, or is such a pipe.
    """
    try:
        number = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "the pipe has no reader", path) from error
        raise
    os.set_blocking(number, True)
    return number


class _LogFile(logging.FileHandler):
    """A log file that is given up, in one line, when it can no longer be written."""

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=_without_waiting)  # noqa: SIM115 (it stays open)
        return TextIOWrapper(file, encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        """Go on without it: the work matters more than its log."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()
        text = "--log-file %s can no longer be written (%s); from now on, the log goes to standard error only"
        log.error(text, self.baseFilename, one_line(error.strerror))


class _RedactingFormatter(logging.Formatter):
    """A log formatter that removes secrets from its output, tracebacks included."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The record's whole text, with secrets removed."""
        return self._redact(super().format(record))
