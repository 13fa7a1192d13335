"""Take a complete CSV into the store: compress it, choose its key, upload it, and return the receipt."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from polygon_async.errors import UploadFailed
from polygon_async.model.layout import lzo_name, metadata, object_key, tags
from polygon_async.store.digests import is_verified
from polygon_async.store.lzop import Compression
from polygon_async.store.objects import ObjectDescription
from polygon_async.store.packing import MOST_BYTES, Packer
from polygon_async.store.upload import KeyTaken
from polygon_async.system.files import disk_errors, is_as_written
from polygon_async.system.limits import seconds_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from polygon_async.model.units import CsvFile, Receipt, Unit
    from polygon_async.store.upload import Uploader
    from polygon_async.system.threads import Threads

__all__ = ["Deliver", "Delivery"]

_MINUTES_TO_TRY = 60


class Deliver(Protocol):
    """What takes CSVs into the store: here, or in other processes."""

    async def __call__(
        self, unit: Unit, csv: CsvFile, *, collected: datetime, on_stage: Callable[[str], object]
    ) -> tuple[Receipt, ObjectDescription]:
        """Store one CSV as an object, and read that back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Takes CSVs into the store."""

    uploader: Uploader
    lzop: str
    directory: Path
    """The directory of the compressed files, while they exist."""
    offload: Threads
    replace: bool
    """Overwrite existing objects."""
    patience: float
    """The least time that an upload may take, in s."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time spent on `lzop` and on `upload`, for all CSVs together."""
    pack: Packer = field(init=False)
    """Compresses small CSVs that wait at the same time together."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pack", Packer(self.lzop, offload=self.offload))

    async def __call__(
        self, unit: Unit, csv: CsvFile, *, collected: datetime, on_stage: Callable[[str], object]
    ) -> tuple[Receipt, ObjectDescription]:
        """Compress and upload one CSV; the compressed file is removed afterwards, whatever happens.

        Args:
            unit: What the CSV contains.
            csv: The CSV.
            collected: The time in the key; if another unit's object has that key, the next free minute.
            on_stage: Called with the current stage.

        Raises:
            TickerError, RunError: the object is not stored, or not confirmed.
        """
        target = self.directory / lzo_name(unit.ticker.symbol)
        if csv.size <= MOST_BYTES:
            with self.pack.delivering():
                on_stage("lzop")
                with self._spent_on("lzop"):
                    content = await self.pack(csv, target.absolute())
                if content is not None:
                    on_stage("uploading")
                    with self._spent_on("upload"):
                        return await self._stored(unit, csv, content, collected, is_verified)
        compression = Compression(self.lzop, csv.path, target)
        try:
            on_stage("lzop")
            with self._spent_on("lzop"):
                await self.offload.until_done(compression.compress, hurry=compression.stop)
                is_unchanged = partial(is_as_written, csv.path, size=csv.size, modified=csv.modified)
                if not await self.offload(is_unchanged):
                    raise UploadFailed(
                        f"{csv.path} was changed while it was being compressed; start again, and it is fetched anew"
                    )
            on_stage("uploading")
            with self._spent_on("upload"):
                async with self._tested(compression) as verified:
                    return await self._stored(unit, csv, target, collected, verified)
        finally:
            with contextlib.suppress(OSError):
                await self.offload.surely(partial(target.unlink, missing_ok=True))

    def _describe(self, unit: Unit, csv: CsvFile, collected: datetime) -> ObjectDescription:
        """The description of the object of a unit's CSV, under the key of a collection time."""
        return ObjectDescription(
            key=self.uploader.bucket.key(object_key(unit.ticker, collected)),
            tags=tags(unit.ticker, collected),
            metadata=metadata(unit, csv),
        )

    @contextlib.contextmanager
    def _spent_on(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - began

    @contextlib.asynccontextmanager
    async def _tested(self, compression: Compression) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Test the compressed file while the context runs; the context ends well only if the test passes.

        Large files are sent during the test, which ends before they become an object.
        """
        test = asyncio.ensure_future(self.offload.until_done(compression.test, hurry=compression.stop))
        try:
            # Shielded: a caller that gives up waiting leaves the test to the next one.
            yield lambda: asyncio.shield(test)
            await test
        finally:
            test.cancel()
            await asyncio.wait([test])
            if not test.cancelled():
                test.exception()  # retrieved, so that asyncio does not log it as lost

    async def _stored(
        self, unit: Unit, csv: CsvFile, file: Path | bytes, collected: datetime, verified: Callable[[], Awaitable[None]]
    ) -> tuple[Receipt, ObjectDescription]:
        """Store the compressed file, or the content of a small one."""
        if isinstance(file, bytes):
            size = len(file)
        else:
            with disk_errors(file):
                size = (await self.offload(file.stat)).st_size
        deadline = seconds_for(size, at_least=self.patience)
        for minute in range(_MINUTES_TO_TRY):
            description = self._describe(unit, csv, collected + timedelta(minutes=minute))
            with contextlib.suppress(KeyTaken):
                receipt = await self.uploader.store(
                    file, description, replace=self.replace, deadline=deadline, verified=verified
                )
                return receipt, description
        raise UploadFailed(f"other downloads' objects occupy all keys of {unit.ticker.symbol} from {collected} on")
