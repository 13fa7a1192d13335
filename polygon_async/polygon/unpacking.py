"""Undoes the Content-Encoding of a body, but never unpacks more than a page can have."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from isal import igzip, igzip_lib

from polygon_async.errors import Retryable, WrongAnswer, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LARGEST_BODY", "unpack", "unpack_text"]

LARGEST_BODY = 64 * 2**20
"""Bytes of a body, packed or unpacked. The largest page has 50,000 bars, 5 to 10 MB of JSON; a body of several times
that is not a page, and could take all memory: 2 MB of gzip may unpack to 2 GB."""
_PIECE = 2**20


def unpack(body: bytes, encoding: str) -> bytes:
    """Undo the Content-Encoding of a body.

    The HTTP library would accept a gzip stream that ends early; here its end mark and checksum count.

    Raises:
        Retryable: the body is not what its encoding says.
        WrongAnswer: it unpacks to more than LARGEST_BODY; no more than that was unpacked.
    """
    if not _is_gzip(encoding):
        return body
    try:
        return _unpacked(body)
    except (OSError, EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]  # isal has no type for it
        raise Retryable(f"the gzip body cannot be unpacked ({one_line(error)})", reason="undecodable") from error


def unpack_text(body: bytes, encoding: str, most: int) -> bytes:
    """The first `most` bytes of a body that is for people; of a broken body, as many as there are.

    Raises:
        WrongAnswer: it unpacks to more than LARGEST_BODY; no more than `most` and a piece was held at once.
    """
    try:
        if not _is_gzip(encoding):
            return body[:most]
    except Retryable:
        return b""
    text, size = bytearray(), 0
    try:
        for piece in _pieces(body):
            text += piece[: most - len(text)]
            size += len(piece)
            _check_size(size)
    except (OSError, EOFError, igzip_lib.IsalError):  # type: ignore[misc]  # isal has no type for it
        pass  # what came before is still text
    return bytes(text)


def _is_gzip(encoding: str) -> bool:
    match encoding.strip().lower():
        case "" | "identity":
            return False
        case "gzip" | "x-gzip":
            return True
        case other:
            raise Retryable(f"the body has an unknown encoding ({one_line(other)})", reason="undecodable")


def _unpacked(body: bytes) -> bytes:
    """A whole gzip body; in one call if it has one member, as the API's have."""
    only = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    whole = only.decompress(body, LARGEST_BODY + 1)
    _check_size(len(whole))
    if only.eof and not only.unused_data:
        return whole
    # Another member may follow, or the end is missing.
    pieces, size = [], 0
    for piece in _pieces(body):
        pieces.append(piece)
        size += len(piece)
        _check_size(size)
    return b"".join(pieces)


def _pieces(body: bytes) -> Iterator[bytes]:
    """A gzip body piece by piece, with all its members, checksums included."""
    with igzip.GzipFile(fileobj=io.BytesIO(body)) as file:  # type: ignore[no-untyped-call]  # isal has no type for it
        while piece := file.read(_PIECE):
            yield piece


def _check_size(size: int) -> None:
    if size > LARGEST_BODY:
        raise WrongAnswer(f"the body unpacks to more than {LARGEST_BODY // 2**20} MiB, which no page needs")
