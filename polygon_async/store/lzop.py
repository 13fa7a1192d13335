"""Run lzop: find and check it, compress a file and test the result (these two block), and decompress a stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygon_async.errors import CompressionFailed, ConfigError, DiskUnusable, one_line
from polygon_async.system.files import disk_errors
from polygon_async.system.limits import seconds_for
from polygon_async.system.machine import starting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from polygon_async.system.threads import Threads

__all__ = [
    "Compression",
    "Lzop",
    "check_lzop",
    "check_magic",
    "check_written",
    "decompress",
    "find_lzop",
    "link_folder",
    "linked",
]

log = logging.getLogger(__name__)

_BLOCK = 2**20
_LONGEST_COMPLAINT = 4096
_SECONDS_TO_DIE = 5.0
_SAMPLE = b"open,high,low,close\n" + b"1.5,1.5,1.5,1.5\n" * 100
_MAGIC = b"\x89LZO\x00\r\n\x1a\n"
"""The first bytes of every lzop file."""


def find_lzop() -> str:
    """The path of lzop.

    Raises:
        ConfigError: it is not installed.
    """
    lzop = shutil.which("lzop")
    if lzop is None:
        raise ConfigError(
            "lzop is not installed; apt-get install lzop (or brew install lzop), or --no-upload for CSVs only"
        )
    return lzop


async def check_lzop(lzop: str, *, offload: Threads) -> None:
    """Compress a few bytes, test and decompress them: not all that is called lzop does this (BusyBox's does not).

    Where there is no room for that among the system's temporary files, nothing is checked.

    Raises:
        ConfigError: it does not do its job.
    """
    try:
        directory = await offload(tempfile.mkdtemp, prefix="polygon_async-")
        try:
            await _check_in(Path(directory), lzop, offload)
        finally:
            await offload.surely(partial(shutil.rmtree, directory, ignore_errors=True))
    except (OSError, DiskUnusable) as error:
        log.debug("lzop is not checked (%s)", one_line(error))
    except CompressionFailed as error:
        raise ConfigError(
            f"{lzop} does not work: {error}; apt-get install lzop (or brew install lzop; BusyBox's knows too"
            " little), or --no-upload for CSVs only"
        ) from error


async def _check_in(directory: Path, lzop: str, offload: Threads) -> None:
    source, target = directory / "lzop-check.csv", directory / "lzop-check.csv.lzo"
    await offload(source.write_bytes, _SAMPLE)
    compression = Compression(lzop, source, target)
    for step in (compression.compress, compression.test):
        await offload.until_done(step, hurry=compression.stop)
    given_back = bytearray()

    async def compressed() -> AsyncIterator[bytes]:
        yield await offload(target.read_bytes)

    async def take(block: bytes) -> None:
        given_back.extend(block)

    seconds = seconds_for(len(_SAMPLE))
    try:
        async with asyncio.timeout(seconds):
            await decompress(lzop, compressed(), take)
    except TimeoutError as error:
        raise CompressionFailed(f"lzop took longer than {seconds:.0f} s while decompressing") from error
    if given_back != _SAMPLE:
        raise CompressionFailed(f"lzop does not give back what it compressed as {target.name}")


def _environment() -> dict[str, str]:
    """This process's, but for the variable LZOP, which would add options of the user's own."""
    return {name: value for name, value in os.environ.items() if name != "LZOP"}


def link_folder(target: Path) -> Path:
    """Where a source that has another name than its target is linked to while lzop reads it."""
    return target.with_name(f".{target.name}.link")


class Compression:
    """One run of lzop, and one of its test on the result; both can be stopped from another thread."""

    def __init__(self, lzop: str, source: Path, target: Path) -> None:
        self._lzop = Lzop(lzop)
        self._source = source.absolute()
        self._target = target.absolute()

    def compress(self) -> None:
        """Write the target, replacing any earlier file.

        Raises:
            CompressionFailed: lzop failed, was killed, hung twice, or wrote nothing.
            DiskUnusable: the disk is full.
        """
        # A link that somebody planted there would lead lzop to another file.
        with contextlib.suppress(OSError):
            self._target.unlink()
        with linked(self._source, self._target) as source:
            self._call("compressing", self._source, "-f", "-o", str(self._target), "--", str(source))
        check_written(self._target)

    def test(self) -> None:
        """Check that the target is good.

        Raises:
            CompressionFailed: it does not pass `lzop -t`, or the test was killed or hung twice.
        """
        self._call("testing", self._target, "-t", "--", str(self._target))
        with disk_errors(self._target), self._target.open("rb") as file:
            check_magic(self._target, file.read(len(_MAGIC)))

    def stop(self) -> None:
        """Kill lzop; whoever waits for it then fails soon."""
        self._lzop.stop()

    def _call(self, act: str, file: Path, *arguments: str) -> None:
        """Run lzop over a file, with a time limit that grows with it; if it hangs, run it once more."""
        size = file.stat().st_size if file.is_file() else 0
        self._lzop.run(*arguments, act=f"{act} {self._source.name}", size=size, target=self._target, attempts=2)


def check_written(*targets: Path) -> None:
    """Check that lzop has written its targets.

    Raises:
        CompressionFailed: one is not there.
    """
    for target in targets:
        if not target.is_file():
            raise CompressionFailed(f"lzop did not write {target.name}")


def check_magic(target: Path, content: bytes) -> None:
    """Check how a compressed file begins: a wrapper that does nothing passes its own test, too.

    Raises:
        CompressionFailed: not as one.
    """
    if not content.startswith(_MAGIC):
        raise CompressionFailed(f"{target.name} is not an lzop file; is this the real lzop?")


@contextlib.contextmanager
def linked(source: Path, target: Path) -> Iterator[Path]:
    """The source under the target's name: lzop keeps the name, and the same bars are to give the same object.

    Where the file system has no links, its own name has to do.
    """
    name, folder = target.name.removesuffix(".lzo"), link_folder(target)
    if source.name == name:
        yield source
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        link = source
        with contextlib.suppress(OSError):
            folder.mkdir()
            os.link(source, folder / name)
            link = folder / name
        yield link
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Lzop:
    """Runs of the program, one after another; all can be stopped from another thread. Blocking."""

    def __init__(self, lzop: str) -> None:
        self._lzop = lzop
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.is_stopped = False
        """Whether somebody has stopped it."""

    def stop(self) -> None:
        """Kill lzop; whoever waits for it then fails soon."""
        with self._lock:
            self.is_stopped = True
            if self._process is not None and self._process.poll() is None:
                _kill(self._process)

    def run(self, *arguments: str, act: str, size: int, target: Path, attempts: int) -> None:
        """Run it once; if it hangs, it is killed and run again.

        Args:
            arguments: The program's.
            act: What it does, for messages.
            size: Bytes that it reads; its time limit grows with them.
            target: What it writes or reads.
            attempts: How often it may hang.

        Raises:
            CompressionFailed: it failed, was killed, or hung too often.
            DiskUnusable: the disk is full.
        """
        seconds = seconds_for(size)
        for _ in range(attempts):
            process = self._started(act, *arguments)
            try:
                _, said = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                _kill(process)
                _bury(process)
                log.warning("lzop took longer than %.0f s while %s, and was killed", seconds, act)
            else:
                _check_end(act, process.returncode, said, target)
                return
        raise CompressionFailed(f"lzop took longer than {seconds:.0f} s while {act}, twice")

    def _started(self, act: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self.is_stopped:
                raise CompressionFailed(f"{act} was stopped")
            try:
                with starting():
                    self._process = subprocess.Popen(
                        [self._lzop, *arguments],
                        env=_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        # A Ctrl-C in the terminal is for this program to answer.
                        process_group=0,
                    )
            except OSError as error:
                raise CompressionFailed(f"lzop cannot be started ({one_line(error.strerror or error)})") from error
            return self._process


def _check_end(act: str, code: int, said: bytes, target: Path) -> None:
    if code == 0:
        return
    words = one_line(said.decode(errors="replace")) or "no message"
    if "No space left" in words:
        raise DiskUnusable(f"the disk is full ({target}); free some space and start again")
    ended = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise CompressionFailed(f"lzop {ended} while {act}: {words}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill its whole group: `lzop` may be a script that waits for the real one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a killed process; one that the system cannot kill (the disk hangs) is abandoned."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_DIE)
    if process.stderr is not None:
        process.stderr.close()


async def decompress(lzop: str, chunks: AsyncIterator[bytes], take: Callable[[bytes], Awaitable[object]]) -> None:
    """Decompress the chunks and pass the result to `take`, in blocks of at most 1 MiB, one at a time.

    Raises:
        CompressionFailed: lzop cannot decompress it.
        Whatever the chunks or `take` raise.
    """
    try:
        with starting():
            process = await asyncio.create_subprocess_exec(
                lzop,
                "-dc",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                limit=_BLOCK,
                env=_environment(),
                # A Ctrl-C in the terminal is for this program to answer.
                process_group=0,
            )
    except OSError as error:
        raise CompressionFailed(f"lzop cannot be started ({one_line(error.strerror or error)})") from error
    said = b""
    feeding = asyncio.create_task(_feed(process, chunks))
    complaining = asyncio.create_task(_complaint(process))
    try:
        assert process.stdout is not None  # noqa: S101 (for the type checker; it is a pipe)
        while block := await process.stdout.read(_BLOCK):
            await take(block)
        said = await complaining
        await process.wait()
    finally:
        await _end(process, feeding, complaining)
    if feeding.done() and not feeding.cancelled():
        feeding.result()
    if process.returncode:
        raise CompressionFailed(one_line(said.decode(errors="replace")) or f"lzop ended with {process.returncode}")


async def _feed(process: asyncio.subprocess.Process, chunks: AsyncIterator[bytes]) -> None:
    """Feed all chunks to lzop; if they break off, its input ends, and this task has the error."""
    assert process.stdin is not None  # noqa: S101 (for the type checker; it is a pipe)
    try:
        # If lzop ends early, it has said why.
        with contextlib.suppress(ConnectionError):
            async for chunk in chunks:
                process.stdin.write(chunk)
                await process.stdin.drain()
    finally:
        process.stdin.close()


async def _complaint(process: asyncio.subprocess.Process) -> bytes:
    """The beginning of lzop's messages; all are read, so that it never blocks on them."""
    assert process.stderr is not None  # noqa: S101 (for the type checker; it is a pipe)
    said = b""
    while words := await process.stderr.read(_LONGEST_COMPLAINT):
        said = (said + words)[:_LONGEST_COMPLAINT]
    return said


async def _end(process: asyncio.subprocess.Process, *tasks: asyncio.Task[Any]) -> None:
    """End lzop with its owner, however that leaves; `lzop` may be a script that waits for the real one."""
    for task in tasks:
        task.cancel()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(_ended(process, tasks))


async def _ended(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[Any]]) -> None:
    """asyncio sees a process end only after its streams, and a full stream blocks until it is read."""
    await asyncio.gather(*tasks, return_exceptions=True)
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_BLOCK):
            pass
    await process.wait()
