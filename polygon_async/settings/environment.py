"""The variables of the process and of `.env`, and the secrets among them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Environment"]

_SECRETS = ("POLYGON_API_KEY", "MASSIVE_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


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
        """Values that no text may show: all layers' keys, and the passwords of proxies."""
        found = [layer.get(name) or "" for layer in self._layers for name in _SECRETS]
        proxies = [layer.get(name) or "" for layer in self._layers for name in _PROXIES]
        with_password = (re.fullmatch(r"(?:\w+://)?[^:@/]*:([^@/]+)@.*", proxy) for proxy in proxies)
        found += [match[1] for match in with_password if match]
        # Quotes around a key are no part of it.
        return [secret for text in found for secret in {text.strip(), text.strip(" \"'")} if secret]

    def get(self, *names: str) -> tuple[str, str] | None:
        """Name and value of the first of `names` that is set and not empty; the process's variables come first."""
        for layer in self._layers:
            for name in names:
                if value := (layer.get(name) or "").strip():
                    return name, value
        return None
