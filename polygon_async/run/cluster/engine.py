"""A run's cluster: its workers, checked and open; the tokens, and the messages between them and the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polygon_async.errors import ConfigError, RunError, one_line
from polygon_async.polygon.pace.lease import LeasePacer
from polygon_async.polygon.pace.memory import LearnedRate, RateMemory, cache_file
from polygon_async.run.cluster.calls import OwnerCalls, dask_errors
from polygon_async.run.cluster.coordination import Coordination
from polygon_async.run.cluster.messages import Assignment
from polygon_async.run.cluster.opening import check_alike, connected, open_sites
from polygon_async.run.cluster.owner import Owner
from polygon_async.run.cluster.sharing import all_see, marked
from polygon_async.run.cluster.site import close_site, run_batch
from polygon_async.run.cluster.versions import versions
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from distributed import Client

    from polygon_async.ledger.entries import Run
    from polygon_async.run.work import Work
    from polygon_async.settings.settings import Settings
    from polygon_async.system.threads import Threads

__all__ = ["Cluster", "open_cluster"]

log = logging.getLogger(__name__)

_SECONDS_TO_JOIN = 60.0
_SECONDS_BETWEEN_JOINS = 1.0
_SECONDS_TO_CLOSE = 5.0


@contextlib.asynccontextmanager
async def open_cluster(settings: Settings, run: Run, *, offload: Threads) -> AsyncIterator[Cluster]:
    """The workers of a run, each checked and with its pipeline open.

    Raises:
        ConfigError: a worker cannot do the run; it is named.
        RunError: there is no cluster.
    """
    end = asyncio.get_running_loop().time() + _SECONDS_TO_JOIN
    while True:
        async with contextlib.AsyncExitStack() as stack:
            try:
                cluster = await _opened(settings, run, stack=stack, offload=offload)
            except OSError as error:
                # The scheduler went away in the middle; it may be restarting.
                if asyncio.get_running_loop().time() > end:
                    raise _gone(error) from error
            else:
                yield cluster
                return
        await asyncio.sleep(_SECONDS_BETWEEN_JOINS)


async def _opened(settings: Settings, run: Run, *, stack: contextlib.AsyncExitStack, offload: Threads) -> Cluster:
    """A cluster that is closed with the stack.

    Raises:
        ConfigError, RunError: as `open_cluster`.
        OSError: the scheduler cannot be reached any more.
    """
    own = settings.output_dir.absolute()
    client = await stack.enter_async_context(connected(settings))
    await check_alike(client)
    mark = stack.enter_context(marked(own))
    directory = own if await all_see(client, mark) else None
    if directory is None and not settings.upload:
        raise ConfigError(
            f"the workers do not share {settings.output_dir}, where --no-upload leaves the CSVs; choose an"
            " --output-dir that all machines share"
        )
    if directory is None:
        log.info("the workers do not share %s: the objects are the result, no CSV is kept", settings.output_dir)
    for_workers = replace(
        settings,
        api_key="",
        tickers=None,
        words=(),
        command=(),
        processes=0,
        output_dir=directory or settings.output_dir,
        keep_csv=settings.keep_csv and directory is not None,
    )
    # A name of its own, also for a run that is resumed: what is left of the run before it has another one.
    key = f"{run.id}-{run.collected:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
    assignment = pickle.dumps(Assignment(run_key=key, run=run, settings=for_workers, directory=directory, mark=mark))
    cluster = Cluster(client, key, assignment, settings, has_files=directory is not None, offload=offload)
    await cluster.join()
    stack.push_async_callback(cluster.leave)
    await open_sites(client, assignment)
    return cluster


def _gone(error: OSError) -> RunError:
    return RunError(f"the Dask scheduler is gone ({one_line(error)}); run the same command again when it is back")


class Cluster(OwnerCalls):
    """The engine: it does the work with all workers. It is also how the coordinator's own requests get tokens."""

    def __init__(
        self,
        client: Client,
        key: str,
        assignment: bytes,
        settings: Settings,
        *,
        has_files: bool,
        offload: Threads,
    ) -> None:
        super().__init__(key, Redactor([settings.api_key]))
        self._client = client
        self._assignment = assignment
        self._settings = settings
        self._offload = offload
        self.has_files = has_files
        """Whether the workers' CSVs are in the coordinator's output directory."""
        self._memory = RateMemory(cache_file(), key=settings.api_key, base_url=settings.base_url)
        self._learned: list[Any] | None = None
        self._changes = -1
        """Of the workers, the last that the scheduler told."""
        self.pacer = LeasePacer(self)
        """For the coordinator's own requests; it also knows the pace of all."""

    # The owner of the tokens

    async def join(self) -> bool:
        """Register the run with the scheduler, which gives out tokens from then on; returns whether it was not known.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        with dask_errors():
            await self._client.register_plugin(Owner(), name=Owner.name)
        rate = self._settings.rate
        if rate.is_auto and self._learned is None:
            recalled = await self._offload(self._memory.recall)
            self._learned = None if recalled is None else [recalled.per_second, recalled.ceiling]
        is_new: bool = await self.called(
            "register",
            client=self._client.id,
            assignment=self._assignment,
            versions=versions(),
            per_second=rate.per_second,
            auto=rate.is_auto,
            learned=self._learned,
            outage_patience=self._settings.outage_patience,
            host=self._settings.access.host,
        )
        return is_new

    async def leave(self) -> None:
        """End the run on the cluster: no task, no pipeline and no token is left."""
        if self._learned is not None and self._settings.rate.is_auto:
            lesson = LearnedRate(per_second=self._learned[0], ceiling=self._learned[1])
            await self._offload.surely(lambda: self._memory.keep(lesson))
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_SECONDS_TO_CLOSE):
                await self.called("end")
                await self._client.run(close_site, self.key, on_error="ignore")

    async def _reach(self, operation: str, **values: Any) -> Any:
        return await getattr(self._client.scheduler, operation)(**values)

    # The engine

    async def __call__(self, work: Work) -> None:
        """Do all of the work on the cluster.

        Raises:
            RunError: the run cannot go on.
        """
        if work.todo.pending:
            densities = await work.recorder.densities()
            await Coordination(self, work, densities).run()

    async def poll(self, replies: Sequence[tuple[int, bytes]]) -> Mapping[str, Any]:
        """What has come from the workers; after a restart of the scheduler, the run joins again.

        Args:
            replies: To what came before; what cannot be answered now, a worker sends again.

        Raises:
            RunError: the scheduler is gone for good, or the API has been down for too long.
        """
        end = asyncio.get_running_loop().time() + _SECONDS_TO_JOIN
        while True:
            try:
                found = await self.called("poll", changes=self._changes, replies=list(replies))
                if found is None:
                    return {"items": [], "joined": await self.join()}
            except OSError as error:
                if asyncio.get_running_loop().time() > end:
                    raise _gone(error) from error
                replies = ()
                await asyncio.sleep(_SECONDS_BETWEEN_JOINS)
                with contextlib.suppress(OSError, TimeoutError):
                    if await self.join():
                        return {"items": [], "joined": True}
                continue
            if found.get("learned"):
                self._learned = list(found["learned"])
            if found["over"] is not None:
                raise RunError(found["over"])
            self._changes = found["changes"]
            self.pacer.learn(found)
            polled: Mapping[str, Any] = found
            return polled

    async def reply(self, replies: Sequence[tuple[int, bytes]]) -> None:
        """Answer what took long, or what no call for more will follow."""
        with contextlib.suppress(OSError):
            await self.called("reply", replies=list(replies))

    def submit(self, batch: str, orders: bytes, *, workers: Sequence[str] | None) -> Any:
        """Send a batch to whichever of these workers is free (None: of all); returns Dask's future."""
        return self._client.submit(run_batch, self.key, batch, orders, key=batch, pure=False, workers=workers)

    async def cancel(self, futures: Sequence[Any]) -> None:
        """Leave no task of these on the cluster."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_SECONDS_TO_CLOSE):
                await self._client.cancel(futures, force=True)

    @property
    def per_second(self) -> float | None:
        """The rate that was asked for; None if it is unlimited, or to be found."""
        return self._settings.rate.per_second
