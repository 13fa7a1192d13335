"""Where a run's units are done, from flags and variables: on this machine, or on a Dask cluster."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, one_line
from polygon_async.settings.sources import chosen
from polygon_async.settings.values import parse_workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polygon_async.settings.environment import Environment

__all__ = ["engine_from"]

_ENGINES = ("local", "dask")


def engine_from(flags: Mapping[str, Any], environment: Environment) -> tuple[str, str | None, int]:
    """The engine, the address of an existing scheduler (or None), and how many local workers are to be started.

    An address, or a number of workers, on the command line means Dask, if no engine is named.

    Raises:
        ConfigError: they contradict each other, or Dask is not installed.
    """
    scheduler = chosen(flags, environment, "scheduler", "POLYGON_SCHEDULER", _address, "")
    workers = chosen(flags, environment, "workers", "POLYGON_WORKERS", parse_workers, "0")
    implied = "dask" if flags.get("scheduler") is not None or flags.get("workers") is not None else "local"
    engine = chosen(flags, environment, "engine", "POLYGON_ENGINE", _engine, implied)
    if engine == "local":
        if implied == "dask":
            raise ConfigError("--scheduler and --workers need --engine dask")
        return engine, None, 1
    if flags.get("scheduler") is not None and flags.get("workers") is not None:
        raise ConfigError("--scheduler names an existing cluster, --workers starts a local one; give only one")
    if scheduler and flags.get("workers") is None:
        workers = 0
    elif not workers:
        raise ConfigError("--engine dask needs --workers N, for processes on this machine, or --scheduler ADDRESS")
    if find_spec("distributed") is None:
        raise ConfigError("--engine dask needs Dask: pip install 'polygon-async[dask]'")
    try:
        import dask.config  # noqa: F401 (it reads its files when it is imported)
    except (ValueError, OSError) as error:
        raise ConfigError(f"Dask cannot read its own configuration: {one_line(error)}") from error
    return engine, None if workers else scheduler, workers


def _engine(text: str) -> str:
    if text not in _ENGINES:
        raise ValueError(f"must be {' or '.join(_ENGINES)}")
    return text


def _address(text: str) -> str | None:
    if not text:
        return None
    scheme, mark, host = text.partition("://")
    if not mark or scheme not in {"tcp", "tls", "ws", "wss", "ucx"} or ":" not in host:
        raise ValueError(f"{one_line(text)} must be an address such as tcp://host:8786, or tls://host:8786")
    return text
