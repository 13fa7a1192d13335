"""A file's digests: sent to a store with the content, and compared to prove that the store has it.

A small file may be given as its bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from _typeshed import WriteableBuffer

    from polygon_async.store.objects import StoredObject
    from polygon_async.system.threads import Threads

__all__ = ["Algorithm", "FileDigests", "FileSlice", "in_base64", "is_verified"]

Algorithm = Literal["md5", "sha256"]

_CHUNK = 2**20


async def is_verified() -> None:
    """The verification of a file that needs none."""


class FileDigests:
    """The digests of a file, as a whole and of its parts.

    Each is computed when first needed, and only once: MD5 costs more than everything else that is done to a
    compressed file, and only some stores need it. Files are read in a thread; the few bytes of a small one, already
    in memory, are hashed sooner than a thread could begin.

    `part_size` is None for a file that is sent in one piece. `verified` returns when the file has been
    found good, else raises: before that, it must not become visible in the store.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        size: int,
        part_size: int | None,
        offload: Threads,
        verified: Callable[[], Awaitable[object]] = is_verified,
    ) -> None:
        self._offload = offload
        self.verified = verified
        self._known: dict[tuple[Algorithm, int | None], list[bytes]] = {}
        self._source = source
        self.size = size
        self.part_size = part_size

    async def digest(self, algorithm: Algorithm) -> bytes:
        """The digest of the whole file."""
        return (await self._digests(algorithm, None))[0]

    async def part_digests(self, algorithm: Algorithm) -> list[bytes]:
        """The digests of its parts, in order."""
        return await self._digests(algorithm, self.part_size)

    async def open_part(self, index: int) -> FileSlice:
        """One part, counted from 0, to be read as it is sent; the caller closes it."""
        # For the type checker: only files in parts are asked.
        assert self.part_size is not None and isinstance(self._source, Path)  # noqa: PT018, S101
        start = index * self.part_size
        return await self._offload(FileSlice, self._source, start, min(self.part_size, self.size - start))

    async def open(self) -> AbstractContextManager[BinaryIO | bytes]:
        """The whole content, or the file to be read as it is sent."""
        if isinstance(self._source, bytes):
            # Not as a file: botocore would first ask whether a body may come, and wait for the answer.
            return contextlib.nullcontext(self._source)
        return await self._offload(self._source.open, "rb")

    async def told_by(self, stored: StoredObject) -> str | None:
        """What proves that the store has exactly this content: `checksum` or `etag`; None if neither does."""
        if stored.sha256 is not None and await self._is_told("sha256", stored.sha256, spelt=in_base64):
            return "checksum"
        return "etag" if await self._is_told("md5", stored.etag, spelt=bytes.hex) else None

    async def _is_told(self, algorithm: Algorithm, told: str, *, spelt: Callable[[bytes], str]) -> bool:
        """Whether a store's value is this content's digest: of the whole, or of its parts' digests and their number."""
        value, _, parts = told.partition("-")
        # Some stores leave the number of the parts out.
        numbers = set() if self.part_size is None else {"", str(-(-self.size // self.part_size))}
        if parts in numbers and spelt(await self._composite(algorithm)) == value:
            return True
        return not parts and spelt(await self.digest(algorithm)) == value

    async def _composite(self, algorithm: Algorithm) -> bytes:
        return hashlib.new(algorithm, b"".join(await self.part_digests(algorithm)), usedforsecurity=False).digest()

    async def _digests(self, algorithm: Algorithm, part_size: int | None) -> list[bytes]:
        if (found := self._known.get((algorithm, part_size))) is None:
            if isinstance(self._source, bytes):
                found = [hashlib.new(algorithm, self._source, usedforsecurity=False).digest()]
            else:
                work = partial(_digests_of, self._source, algorithm, part_size)
                # It is told when it takes too long: whoever gives up waiting waits for the thread.
                found = await self._offload.watched(work, subject=f"hashing {self._source}", size=self.size)
            self._known[algorithm, part_size] = found
        return found


def in_base64(digest: bytes) -> str:
    """A digest as spelt in S3's headers."""
    return base64.b64encode(digest).decode()


def _digests_of(path: Path, algorithm: Algorithm, part_size: int | None) -> list[bytes]:
    digests = []
    # One buffer for all chunks: a new one for each costs more than hashing it.
    chunk = memoryview(bytearray(_CHUNK))
    with path.open("rb") as file:
        while True:
            digest, left = hashlib.new(algorithm, usedforsecurity=False), part_size
            while size := file.readinto(chunk if left is None else chunk[:left]):
                digest.update(chunk[:size])
                left = None if left is None else left - size
            digests.append(digest.digest())
            if part_size is None or not file.peek(1):
                return digests


class FileSlice(io.RawIOBase):
    """A section of a file, read like a file; whatever its size, memory holds only what is being read."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        super().__init__()
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always: a body that is sent again is read from the start."""
        return True

    def readinto(self, memory: WriteableBuffer) -> int:
        """Read as much as is left and fits."""
        view = memoryview(memory).cast("B")
        data = os.pread(self._number, min(len(view), self._size - self._at), self._start + self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        """How far it has been read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Continue reading elsewhere."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(0, base + offset), self._size)
        return self._at

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._number)
        super().close()
