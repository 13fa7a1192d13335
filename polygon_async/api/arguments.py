"""A function's arguments in, checked settings out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polygon_async.settings.settings import Settings

__all__ = ["settings_of"]


def settings_of(flags: Mapping[str, object], api_key: str | None, *, needs_key: bool = True) -> Settings:
    """Settings from arguments and the process's environment; only the command line reads `.env`."""
    own = dict(os.environ)
    if api_key is not None:
        own["POLYGON_API_KEY"] = api_key
    return settings_from(flags, Environment(own, {}), needs_key=needs_key)
