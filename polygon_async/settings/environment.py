"""The variables of the process and of `.env`, and the secrets among them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, one_line
from polygon_async.system.proxies import user_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Environment"]

_SECRETS = ("POLYGON_API_KEY", "MASSIVE_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def _is_address(name: str) -> bool:
    """Whether a variable holds the address of a proxy or a server."""
    return name.lower().endswith("_proxy") or name == "POLYGON_BASE_URL" or name.startswith("AWS_ENDPOINT_URL")


class Environment:
    """Variables as this program sees them: the process's own, then those of `.env`."""

    def __init__(self, own: Mapping[str, str], dotenv: Mapping[str, str | None]) -> None:
        self._layers = (own, dotenv)

    @classmethod
    def load(cls, directory: Path) -> Environment:
        """Read `.env` in `directory`, and set its variables for the libraries (botocore), too.

        Raises:
            ConfigError: `.env` exists and cannot be read.
        """
        from dotenv import dotenv_values

        path = directory / ".env"
        # python-dotenv's own switch, which only its load_dotenv obeys.
        disabled = os.environ.get("PYTHON_DOTENV_DISABLED", "").lower() in {"1", "true", "t", "yes", "y"}
        try:
            dotenv = dotenv_values(path) if path.exists() and not disabled else {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read ({one_line(error)})") from error
        environment = cls(dict(os.environ), dotenv)
        for name, value in dotenv.items():
            if value and not os.environ.get(name):
                os.environ[name] = value
        return environment

    def secrets(self) -> list[str]:
        """Values that no text may show: all layers' keys, and users and passwords in addresses."""
        keys = [(layer.get(name) or "").strip() for layer in self._layers for name in _SECRETS]
        # Quotes around a key are no part of it.
        found = {secret for key in keys for secret in (key, key.strip("\"'"))}
        addresses = [value for layer in self._layers for name, value in layer.items() if _is_address(name)]
        found.update(secret for address in addresses for secret in user_secrets(address or ""))
        return sorted(found - {""})

    def get(self, *names: str) -> tuple[str, str] | None:
        """Name and value of the first of `names` that is set and not empty; the process's variables come first."""
        for layer in self._layers:
            for name in names:
                if value := (layer.get(name) or "").strip():
                    return name, value
        return None
