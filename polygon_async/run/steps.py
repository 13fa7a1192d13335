"""Settings and what is open in; what does a unit, the same on every engine, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygon_async.polygon.walk import RestSource
from polygon_async.run.fetch import CsvFetcher
from polygon_async.run.unit import UnitSteps
from polygon_async.store.bucket import open_bucket
from polygon_async.store.delivery import Delivery
from polygon_async.store.upload import Uploader

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from polygon_async.model.counters import Counters
    from polygon_async.polygon.client import Client
    from polygon_async.polygon.windows import Slots
    from polygon_async.run.unit import Records, Tags
    from polygon_async.settings.settings import Settings
    from polygon_async.store.bucket import Bucket
    from polygon_async.store.delivery import Deliver
    from polygon_async.system.redaction import Redactor
    from polygon_async.system.threads import Threads

__all__ = ["delivery_to", "own_bucket", "unit_steps"]


def own_bucket(settings: Settings, redact: Redactor, *, may_ask: bool = True) -> AbstractAsyncContextManager[Bucket]:
    """The bucket of the settings; `redact` learns the secrets of a profile or role (see `open_bucket`)."""
    return open_bucket(
        settings.bucket,
        prefix=settings.key_prefix,
        connections=settings.concurrency,
        on_secret=redact.add,
        may_ask=may_ask,
    )


def delivery_to(
    bucket: Bucket, settings: Settings, directory: Path, *, lzop: str, offload: Threads, counters: Counters
) -> Delivery:
    """What takes CSVs into a bucket by way of compressed files in `directory`."""
    return Delivery(
        uploader=Uploader(bucket, offload=offload),
        lzop=lzop,
        directory=directory,
        offload=offload,
        replace=settings.force,
        patience=settings.patience,
        seconds=counters.measures.seconds,
    )


def unit_steps(
    settings: Settings,
    directory: Path,
    *,
    client: Client,
    slots: Slots,
    recorder: Records,
    tags: Tags,
    deliver: Deliver | None,
    offload: Threads,
    counters: Counters,
    is_shared: bool = False,
) -> UnitSteps:
    """The steps of a unit whose files are in `directory`, which machines may share; all have the run's date."""
    modified = recorder.run.collected.replace(second=0).timestamp()
    return UnitSteps(
        directory=directory,
        keep_csv=settings.keep_csv,
        force=settings.force,
        modified=modified,
        fetch_csv=CsvFetcher(
            source=RestSource(client=client, counters=counters, slots=slots),
            directory=directory,
            modified=modified,
            offload=offload,
            counters=counters,
            is_shared=is_shared,
        ),
        slots=slots,
        recorder=recorder,
        tags=tags,
        deliver=deliver,
        offload=offload,
        counters=counters,
    )
