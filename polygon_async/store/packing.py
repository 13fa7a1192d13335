"""Small CSVs in, their compressed and tested content out: those that wait at the same time share one run of lzop.

Starting lzop costs ten times what a small file takes in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.errors import CompressionFailed, DiskUnusable
from polygon_async.store.lzop import Lzop, check_magic, check_written, linked
from polygon_async.system.files import disk_errors, is_as_written
from polygon_async.system.threads import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from polygon_async.model.units import CsvFile
    from polygon_async.system.threads import Threads

__all__ = ["MOST_BYTES", "Packer"]

MOST_BYTES = 2**20
"""Of a CSV that is small."""
_MOST_FILES = 50
"""For one run of lzop."""
_AT_ONCE = 2
"""Runs of lzop; meanwhile further files gather for the next."""
_SHARE = 0.8
"""Of the files that are being delivered: as soon as so many have gathered, lzop runs."""
_SECONDS_FOR_ONE = 0.003
_SECONDS_TO_GATHER = 0.05
"""The longest that a run waits for that: for each file that is being delivered, and for however many."""


class Packer:
    """Compresses small CSVs, as many as are waiting at once.

    Args:
        lzop: The program.
        offload: The threads that wait for it.
    """

    def __init__(self, lzop: str, *, offload: Threads) -> None:
        self._lzop = lzop
        self._offload = offload
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._next: _Batch | None = None
        """Gathers files until it runs."""
        self._under_way = 0

    @contextlib.contextmanager
    def delivering(self) -> Iterator[None]:
        """A file is compressed, uploaded or about to be while the context lasts: so many could share a run of lzop."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._look()

    async def __call__(self, csv: CsvFile, target: Path) -> bytes | None:
        """The content of a CSV, compressed, as lzop would write it to `target`, of which nothing is left.

        None if somebody has changed the CSV, or if it was compressed together with others and one of them failed.
        Whoever gets None compresses the file by itself, and learns what is wrong with it, if anything is.

        Raises:
            CompressionFailed, DiskUnusable: as `Compression`.
        """
        while True:
            batch = self._joined(csv, target)
            try:
                await asyncio.shield(batch.running)
            except asyncio.CancelledError:
                # The others of the batch start again.
                batch.stop()
                batch.has_enough.set()
                await ended(batch.running)
                raise
            if not batch.is_stopped:
                return batch.packed.get(target)

    def _joined(self, csv: CsvFile, target: Path) -> _Batch:
        batch = self._next
        if batch is None:
            batch = self._next = _Batch(self._lzop, self._run)
        batch.files[target] = csv
        self._look()
        if len(batch.files) == _MOST_FILES:
            self._next = None
        return batch

    def _look(self) -> None:
        """See whether enough files have gathered; a file that is alone under way waits for nobody."""
        batch = self._next
        if batch is not None and len(batch.files) >= min(_MOST_FILES, _SHARE * self._under_way):
            batch.has_enough.set()

    async def _run(self, batch: _Batch) -> None:
        async with self._slots:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_SECONDS_TO_GATHER, _SECONDS_FOR_ONE * self._under_way)):
                    await batch.has_enough.wait()
            if self._next is batch:
                self._next = None
            await self._offload.watched(batch.pack, subject=batch.subject, size=_MOST_FILES * MOST_BYTES)


class _Batch:
    """Files for one run of lzop, and what it makes of them; `run` waits for its turn, and packs."""

    def __init__(self, lzop: str, run: Callable[[_Batch], Coroutine[None, None, None]]) -> None:
        self._lzop = Lzop(lzop)
        self.files: dict[Path, CsvFile] = {}
        """By target."""
        self.packed: dict[Path, bytes] = {}
        """Contents by target; nothing of those that failed."""
        self.has_enough = asyncio.Event()
        self.running = asyncio.ensure_future(run(self))

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has stopped it."""
        return self._lzop.is_stopped

    def subject(self) -> str:
        """What is worked on, for the log."""
        return f"compressing {_name(self.files)}"

    def stop(self) -> None:
        """Kill lzop, from any thread."""
        self._lzop.stop()

    def pack(self) -> None:
        """Compress and test all files, and read what they became. Blocking.

        Raises:
            CompressionFailed, DiskUnusable: the only file failed.
        """
        if len(self.files) == 1:
            self._pack(attempts=2)
        else:
            with contextlib.suppress(CompressionFailed, DiskUnusable):
                self._pack(attempts=1)

    def _pack(self, attempts: int) -> None:
        target, name = next(iter(self.files)), _name(self.files)
        with contextlib.ExitStack() as stack, disk_errors(target):
            is_alone = len(self.files) == 1
            sources = [
                stack.enter_context(_in_place(csv.path.absolute(), target, has_place=is_alone))
                for target, csv in self.files.items()
            ]
            size = sum(source.stat().st_size for source in sources if source.is_file())
            run = partial(self._lzop.run, size=size, target=target, attempts=attempts)
            place = ["-o", str(target)] if is_alone else [f"-p{target.parent}"]
            run("-f", *place, "--", *map(str, sources), act=f"compressing {name}")
            check_written(*self.files)
            contents = {target: target.read_bytes() for target in self.files}
            read = [_marks(target) for target in self.files]
            run("-t", "--", *map(str, self.files), act=f"testing {name}")
            if read != [_marks(target) for target in self.files]:
                raise CompressionFailed(f"another process has written a compressed {name}")
            changed = {
                target
                for target, csv in self.files.items()
                if not is_as_written(csv.path, size=csv.size, modified=csv.modified)
            }
        for target, content in contents.items():
            check_magic(target, content)
        self.packed = {target: content for target, content in contents.items() if target not in changed}


def _name(files: Mapping[Path, CsvFile]) -> str:
    """The files (by target), in a few words."""
    return next(iter(files.values())).path.name + " and others" * (len(files) > 1)


def _marks(file: Path) -> tuple[int, int, int]:
    """What changes when somebody writes a file."""
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _in_place(source: Path, target: Path, *, has_place: bool) -> Iterator[Path]:
    """The source under the target's name, while the target may be written.

    `has_place`: lzop is told where to write; else the name decides.

    Raises:
        CompressionFailed: it cannot have that name here.
    """
    with linked(source, target) as link:
        if not has_place and f"{link.name}.lzo" != target.name:
            raise CompressionFailed(f"{source.name} cannot be linked to")
        # A link that somebody planted there would lead lzop to another file.
        with contextlib.suppress(OSError):
            target.unlink()
        try:
            yield link
        finally:
            with contextlib.suppress(OSError):
                target.unlink()
