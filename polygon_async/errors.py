"""The error family, by what it stops.

PolygonAsyncError
├── RunError            stops the run: exit code 2, one line, no traceback
│   ├── ConfigError     flags, environment or files that cannot be used
│   ├── KeyRefused      401: the API does not know the key
│   ├── StorageUnusable the bucket or the credentials cannot be used
│   ├── DiskUnusable    the output directory cannot be written, or is full
│   └── MachineUnusable no more threads, processes or files are to be had
├── TickerError         fails one ticker, the run goes on: exit code 1 at its end
│   ├── Refused         the API says no: 400, 403, 404 and the like
│   ├── WrongAnswer     a complete answer that cannot be true
│   │   └── Untrue      cannot belong to the request; requested a few times more before it counts
│   ├── OutOfPatience   retried until --patience was used up
│   ├── CompressionFailed
│   └── UploadFailed    not stored, or stored and not confirmed
├── Interrupted         somebody asked for an end before anything was fetched: exit 130
└── Retryable           one attempt failed and another may not; stays inside polygon/
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CompressionFailed",
    "ConfigError",
    "DiskUnusable",
    "Interrupted",
    "KeyRefused",
    "MachineUnusable",
    "OutOfPatience",
    "PolygonAsyncError",
    "Refused",
    "Retryable",
    "RunError",
    "StorageUnusable",
    "TickerError",
    "Untrue",
    "UploadFailed",
    "WrongAnswer",
    "first_of",
    "one_line",
    "said_by",
]

_LONGEST_QUOTE = 300
_MOST_READ = 64 * 1024
"""Letters of a text from elsewhere that are looked at: an answer may hold one of millions."""


class PolygonAsyncError(Exception):
    """Root of the family; its text is one line, fit for a person."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all attributes, as pages are parsed in other processes."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[PolygonAsyncError], args: tuple[Any, ...], state: dict[str, Any]) -> PolygonAsyncError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class RunError(PolygonAsyncError):
    """The run cannot start or cannot go on."""


class ConfigError(RunError):
    """A flag, a variable or a file that cannot be used."""


class KeyRefused(RunError):
    """The API does not know the key."""


class StorageUnusable(RunError):
    """The bucket or its credentials cannot be used by any ticker."""


class DiskUnusable(RunError):
    """The output directory cannot be written by any ticker."""


class MachineUnusable(RunError):
    """The system allows no more threads, processes or open files."""


class Interrupted(PolygonAsyncError):
    """The run was interrupted before anything was fetched."""


class TickerError(PolygonAsyncError):
    """One ticker has failed; nothing of it is uploaded.

    `request` is the path of the failed request, if there was one; it never contains the key. `by_api` is False if
    what failed it was a redirect, or a page that is not the API's own but a gateway's before it.
    """

    def __init__(self, message: str, *, request: str | None = None, by_api: bool = True) -> None:
        super().__init__(message)
        self.request = request
        self.by_api = by_api

    def __str__(self) -> str:
        return f"{self.args[0]} [GET {self.request}]" if self.request else str(self.args[0])


class Refused(TickerError):
    """The API refused the request, and would refuse it again.

    `status` is the HTTP status, or 403 for a NOT_AUTHORIZED inside a 200; `is_plan` says that the plan does not
    include it.
    """

    def __init__(self, message: str, *, status: int, is_plan: bool = False, by_api: bool = True) -> None:
        super().__init__(message, by_api=by_api)
        self.status = status
        self.is_plan = is_plan


class WrongAnswer(TickerError):
    """A complete answer that contradicts itself, the request, or earlier pages."""


class Untrue(WrongAnswer):
    """A complete answer that cannot belong to the request: under load the API has mixed answers up."""


class OutOfPatience(TickerError):
    """A request kept failing for as long as it may be retried."""


class CompressionFailed(TickerError):
    """lzop failed, or what it wrote did not pass its own test."""


class UploadFailed(TickerError):
    """The object was not stored, or could not be confirmed."""


class Retryable(PolygonAsyncError):
    """One attempt failed, and another may succeed.

    `reason` is the word under which it is counted (an HTTP status, `reset`, `stall` ...).
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def first_of(error: BaseException) -> BaseException:
    """The first error inside a group, however deep; any other error is returned as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def said_by(request_id: str | None) -> str:
    """The end of a message about an answer: the id by which the vendor's support can find it."""
    return f" (request_id {one_line(request_id)})" if request_id else ""


def one_line(text: object) -> str:
    """`text` from elsewhere (an answer, a library) as one short printable line.

    Control characters are removed, so that an answer can neither break a log line nor control a terminal.
    """
    words = "".join(letter if letter.isprintable() else " " for letter in str(text)[:_MOST_READ]).split()
    line = " ".join(words)
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"
