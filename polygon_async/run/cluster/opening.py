"""Settings in, a cluster whose workers can do the run out; or one line that says which one cannot, and why."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, RunError, one_line
from polygon_async.run.cluster.asking import asked
from polygon_async.run.cluster.site import open_site
from polygon_async.run.cluster.versions import difference, versions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from distributed import Client

    from polygon_async.settings.settings import Settings

__all__ = ["check_alike", "connected", "open_sites"]

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
        client: Client | None = None
        try:
            client = Client(where, asynchronous=True, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
            await client
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError, ImportError) as error:
            if client is not None:
                with contextlib.suppress(Exception):
                    await client.close(timeout=_SECONDS_TO_CLOSE)
            raise RunError(_unreachable(settings.scheduler or "", error)) from error
        stack.push_async_callback(client.close, timeout=_SECONDS_TO_CLOSE)
        try:
            await client.wait_for_workers(1, timeout=_SECONDS_TO_FIND_WORKERS)
        except TimeoutError as error:
            raise RunError(
                f"the Dask scheduler at {settings.scheduler} has no workers; start some: dask worker ADDRESS"
            ) from error
        yield client


def _unreachable(address: str, error: Exception) -> str:
    """One line about a scheduler that does not answer; Dask has many kinds of error for what is wrong with TLS."""
    is_encrypted = address.startswith("tls:") or isinstance(error, RuntimeError)
    advice = ", and Dask's settings for TLS (DASK_DISTRIBUTED__COMM__...)" if is_encrypted else ""
    said = one_line(error) or type(error).__name__
    return f"no Dask scheduler answers at {address} ({said}); check --scheduler{advice}"


async def check_alike(client: Client) -> None:
    """See that all workers, and the scheduler, have the coordinator's versions.

    Raises:
        ConfigError: one differs in a way that matters; it is named.
    """
    own = versions()
    found = {f"worker {name}": there for name, there in (await asked(client, versions)).items()}
    try:
        found["the Dask scheduler"] = await client.run_on_scheduler(versions)
    except Exception as error:  # noqa: BLE001 (whatever it cannot import or run)
        found["the Dask scheduler"] = error
    for name, there in found.items():
        if not isinstance(there, dict):
            raise ConfigError(f"{name} cannot be used ({one_line(there)}); install polygon-async[dask] there")
        if (text := difference(there, own)) is not None:
            raise ConfigError(f"{name} {text}")


async def open_sites(client: Client, assignment: bytes) -> None:
    """Open the pipeline of every worker, with its own key and credentials.

    Raises:
        ConfigError: one of them lacks something; it is named.
    """
    for name, trouble in (await asked(client, open_site, assignment)).items():
        if trouble is not None:
            raise ConfigError(f"worker {name}: {one_line(trouble)}")
