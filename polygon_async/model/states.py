"""The states of units, uploads and runs; the only module that spells these words.

The ledger stores the last three. A new word there needs a step of its own in `ledger/database`, so that
older versions refuse the file.
"""

from __future__ import annotations

import enum

__all__ = ["FetchState", "OutcomeState", "RunState", "UploadState"]


class OutcomeState(enum.StrEnum):
    """How a unit of work ended."""

    UPLOADED = "uploaded"
    SAVED = "saved"
    """The CSV is complete, and no upload was wanted."""
    NO_DATA = "no data"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """It was begun, and no run will continue it: a later one begins it anew, if at all."""


class FetchState(enum.StrEnum):
    """How far fetching a unit has got."""

    FETCHING = "fetching"
    FETCHED = "fetched"
    """The CSV is complete."""
    NO_DATA = "no data"
    FAILED = "failed"


class UploadState(enum.StrEnum):
    """How far a unit's upload to one destination has got."""

    UPLOADING = "uploading"
    """From now on the object may exist."""
    UPLOADED = "uploaded"
    """The object was read back."""
    FAILED = "failed"
    LOST = "lost"
    """It was uploaded, and a verification found it missing or changed."""


class RunState(enum.StrEnum):
    """How a run ended."""

    RUNNING = "running"
    """It has not ended, or was killed."""
    DONE = "done"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    """An error ended it."""
