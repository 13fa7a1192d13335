"""The environment in; the user's directory for what this program can learn anew, out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["cache_directory"]


def cache_directory(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """Where things are kept from run to run; None where the user has no home."""
    told = Path(environment.get("XDG_CACHE_HOME", ""))
    if told.is_absolute():
        return told / "polygon_async"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    cache = home / "Library" / "Caches" if platform == "darwin" else home / ".cache"
    return cache / "polygon_async"
