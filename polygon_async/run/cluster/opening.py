"""Settings in, a cluster whose workers can do the run out; or one line that says which one cannot, and why."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.errors import ConfigError, RunError, one_line
from polygon_async.run.cluster.site import open_site
from polygon_async.system.files import disk_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from distributed import Client

    from polygon_async.settings.settings import Settings

__all__ = ["check_alike", "connected", "open_sites", "shares"]

log = logging.getLogger(__name__)

_THREADS = 2
"""Batches in a local worker at once: while the last units of one end, the next one begins."""
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_FIND_WORKERS = 30
_SECONDS_TO_CLOSE = 5


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client of the cluster at --scheduler, or of a local one with --workers processes.

    Raises:
        RunError: there is no such cluster, or none can be started.
    """
    from distributed import Client, LocalCluster

    # Of Dask's own lines, only what is wrong concerns the user, and what it means is said by this program.
    for name in ("distributed", "bokeh", "tornado"):
        logging.getLogger(name).setLevel(logging.INFO if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL)
    async with contextlib.AsyncExitStack() as stack:
        where: Any = settings.scheduler
        if where is None:
            # They take the key from their environment, as all workers do.
            os.environ["POLYGON_API_KEY"] = settings.api_key
            try:
                where = await LocalCluster(
                    n_workers=settings.workers,
                    threads_per_worker=_THREADS,
                    processes=True,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL,
                    asynchronous=True,
                )
            except (OSError, TimeoutError, RuntimeError) as error:
                raise RunError(f"the local workers cannot be started ({one_line(error)})") from error
            stack.push_async_callback(where.close, timeout=_SECONDS_TO_CLOSE)
        try:
            client = await Client(where, asynchronous=True, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise RunError(
                f"no Dask scheduler answers at {settings.scheduler} ({one_line(error)}); check --scheduler"
            ) from error
        stack.push_async_callback(client.close, timeout=_SECONDS_TO_CLOSE)
        if not client.scheduler_info()["workers"]:
            try:
                await client.wait_for_workers(1, timeout=_SECONDS_TO_FIND_WORKERS)
            except TimeoutError as error:
                raise RunError(
                    f"the Dask scheduler at {settings.scheduler} has no workers; start some: dask worker ADDRESS"
                ) from error
        yield client


async def check_alike(client: Client) -> None:
    """See that all workers have the coordinator's versions.

    Raises:
        ConfigError: one differs in a way that matters; it is named.
    """
    own = _versions()
    for name, found in (await client.run(_versions, on_error="return")).items():
        if not isinstance(found, dict):
            raise ConfigError(f"worker {name} cannot be used ({one_line(found)}); install polygon-async[dask] there")
        for what, version in own.items():
            if found.get(what) != version:
                raise ConfigError(
                    f"worker {name} has {what} {found.get(what) or 'not installed'}, and this machine {version};"
                    " install the same version on both"
                )


def _versions() -> dict[str, str | None]:
    """What must be the same on both sides of a pickle."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    try:
        found["msgspec"] = version("msgspec")
    except PackageNotFoundError:
        found["msgspec"] = None
    found["polygon-async"] = __version__
    return found


async def shares(client: Client, directory: Path) -> bool:
    """Whether every worker sees the files of the output directory, whose path is absolute.

    Raises:
        DiskUnusable: it cannot be written.
    """
    token, probe = secrets.token_hex(8), directory / f".probe-{secrets.token_hex(4)}"
    with disk_errors(probe):
        probe.write_text(token)
        try:
            seen: Mapping[str, Any] = await client.run(_content, str(probe), on_error="return")
        finally:
            probe.unlink(missing_ok=True)
    return all(text == token for text in seen.values())


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 (what a worker needs to know is here)
            return file.read()
    except OSError:
        return None


async def open_sites(client: Client, assignment: bytes) -> None:
    """Open the pipeline of every worker, with its own key and credentials.

    Raises:
        ConfigError: one of them lacks something; it is named.
    """
    for name, trouble in (await client.run(open_site, assignment, on_error="return")).items():
        if trouble is not None:
            raise ConfigError(f"worker {name}: {one_line(trouble)}")
