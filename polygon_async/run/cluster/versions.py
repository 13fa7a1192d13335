"""What must be the same on both sides of a pickle in; what differs out."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from polygon_async._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["difference", "versions"]


def versions() -> dict[str, str | None]:
    """This machine's: of Python, and of the packages whose values travel."""
    found: dict[str, str | None] = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    try:
        found["msgspec"] = version("msgspec")
    except PackageNotFoundError:
        found["msgspec"] = None
    found["polygon-async"] = __version__
    return found


def difference(there: Mapping[str, str | None], coordinators: Mapping[str, str | None]) -> str | None:
    """The first that is not the same there as where the coordinator runs, in words; None: all are."""
    for what, own in coordinators.items():
        if there.get(what) != own:
            return (
                f"has {what} {there.get(what) or 'not installed'}, and the coordinator {own or 'not installed'};"
                " install the same version on both"
            )
    return None
