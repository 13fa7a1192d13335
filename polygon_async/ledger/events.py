"""What happens to a unit of work, as frozen values that the ledger takes.

They pickle, so that a worker in another process can send them to the one that owns the ledger. The owner
adds the run, the source and the destination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.model.units import CsvFile, Progress, Receipt, Unit

__all__ = [
    "Begun",
    "Empty",
    "Event",
    "Failed",
    "Fetched",
    "NotUploaded",
    "Progressed",
    "Resumed",
    "Uploaded",
    "Uploading",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Fetching begins, from the range's start."""

    unit: Unit
    day: date
    """New York's day at that moment: bars fetched before the range was over are not final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Fetching resumes where it stopped."""

    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """One more page is in the part."""

    unit: Unit
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The CSV is complete."""

    unit: Unit
    csv: CsvFile
    history: LocalHistory | None = None
    """What the ticker's local history is about to become; None if it stays as it is."""
    before: LocalHistory | None = None
    """What it was, and is until the new file has its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """The range has no bar."""

    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Fetching has failed, and nothing of it is left."""

    unit: Unit
    error: str
    """Without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploading:
    """An object is about to be written: from now on it may exist."""

    unit: Unit
    csv: CsvFile
    collected: datetime
    """The time in its key, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The object was read back."""

    unit: Unit
    receipt: Receipt
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUploaded:
    """The object could not be stored, or could not be confirmed."""

    unit: Unit
    error: str
    """Without secrets."""


Event: TypeAlias = Begun | Resumed | Progressed | Fetched | Empty | Failed | Uploading | Uploaded | NotUploaded
