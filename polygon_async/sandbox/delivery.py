"""A whole answer and a kind of trouble in, the bytes of a good or broken HTTP exchange out."""

import asyncio
import codecs
import functools
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from aiohttp import web

from polygon_async.sandbox.answers import PLAIN, Answer
from polygon_async.sandbox.pages import gzipped

CHUNKED_FROM = 16_384
"""Bodies from this size on are sent in chunks, smaller ones with Content-Length, as the API does."""

_PIECE = 256 * 1024
_DRIPS = 20
_GZIP = 16 + zlib.MAX_WBITS
_BLANKS_OF_A_STATUS = 256
"""MiB."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be sent, and where."""

    request: web.BaseRequest
    status: int
    body: bytes
    headers: dict[str, str]
    argument: str
    closing: asyncio.Event
    """Set when the server stops: nobody may wait longer than that."""

    @property
    def half(self) -> bytes:
        """The part of the body that arrives where the rest does not."""
        return self.body[: len(self.body) // 2]


Delivery = Callable[[Parcel], Awaitable[web.StreamResponse]]


async def send(parcel: Parcel) -> web.StreamResponse:
    """The whole answer."""
    if len(parcel.body) < CHUNKED_FROM:
        return web.Response(status=parcel.status, body=parcel.body, headers=parcel.headers)
    pieces = (parcel.body[at : at + _PIECE] for at in range(0, len(parcel.body), _PIECE))
    response = await _chunks(parcel, pieces)
    await response.write_eof()
    return response


async def _chunks(parcel: Parcel, pieces: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(status=parcel.status, headers=parcel.headers)
    response.enable_chunked_encoding()
    await response.prepare(parcel.request)
    for piece in pieces:
        await response.write(piece)
    return response


async def _promise(parcel: Parcel) -> web.StreamResponse:
    """Headers that promise the whole body, and half of it."""
    response = web.StreamResponse(status=parcel.status, headers=parcel.headers)
    response.content_length = len(parcel.body)
    await response.prepare(parcel.request)
    await response.write(parcel.half)
    return response


def _close(parcel: Parcel) -> None:
    """Send what is written, then end the connection."""
    if parcel.request.transport is not None:
        parcel.request.transport.close()


def _reset(parcel: Parcel) -> None:
    transport = parcel.request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    # Lingering for zero seconds makes the kernel send RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def reset(parcel: Parcel) -> web.StreamResponse:
    """No answer: the connection is reset."""
    _reset(parcel)
    return web.Response()


async def _drop(parcel: Parcel) -> web.StreamResponse:
    response = await _promise(parcel)
    _close(parcel)
    return response


async def _drop_chunked(parcel: Parcel) -> web.StreamResponse:
    response = await _chunks(parcel, [parcel.half])
    _close(parcel)
    return response


async def _stall(parcel: Parcel) -> web.StreamResponse:
    # The client's leaving cancels this handler.
    await parcel.closing.wait()
    return await reset(parcel)


async def _stall_body(parcel: Parcel) -> web.StreamResponse:
    response = await _promise(parcel)
    await parcel.closing.wait()
    _reset(parcel)
    return response


async def _pause(parcel: Parcel, seconds: float) -> None:
    """Sleep, but not beyond the server's end."""
    try:
        await asyncio.wait_for(parcel.closing.wait(), seconds)
    except TimeoutError:
        return


async def _drip(parcel: Parcel) -> web.StreamResponse:
    response = web.StreamResponse(status=parcel.status, headers=parcel.headers)
    response.content_length = len(parcel.body)
    await response.prepare(parcel.request)
    size = -(-len(parcel.body) // _DRIPS)
    for at in range(0, len(parcel.body), max(size, 1)):
        await response.write(parcel.body[at : at + size])
        await _pause(parcel, float(parcel.argument) / _DRIPS)
    await response.write_eof()
    return response


def wrap(answer: Answer, kind: str, argument: str, *, gzip: bool) -> tuple[Answer, bool]:
    """The answer as it goes out, and whether it is (or pretends to be) compressed."""
    body = answer.body[: len(answer.body) // 2] if kind == "cut_json" else answer.body
    if kind == "bom":
        body = codecs.BOM_UTF8 + body
    if kind == "deep":
        body = body[:-1] + b',"deep":' + b"[" * int(argument) + b"]" * int(argument) + b"}"
    if kind in {"bomb", "bomb_status"}:
        blanks = int(argument) if kind == "bomb" else _BLANKS_OF_A_STATUS
        return replace(answer, body=_behind_blanks(body, blanks)), True
    if kind == "wrong_type":
        answer = replace(answer, content_type=PLAIN)
    if kind == "bad_gzip":
        return replace(answer, body=b"this was never compressed: " + body[:100]), True
    if kind == "cut_gzip":
        whole = gzipped(body)
        return replace(answer, body=whole[: len(whole) // 2]), True
    if gzip and body:
        return replace(answer, body=gzipped(body)), True
    return replace(answer, body=body), False


def _behind_blanks(body: bytes, mib: int) -> bytes:
    """The body as gzip, with so many MiB of blanks before it."""
    packed, compressor = _blanks(mib)
    compressor = compressor.copy()
    return packed + compressor.compress(body) + compressor.flush()


@functools.cache
def _blanks(mib: int) -> "tuple[bytes, zlib._Compress]":
    """So many MiB of blanks, and what goes on behind them; a copy of it, as this one is kept."""
    compressor = zlib.compressobj(wbits=_GZIP)
    return b"".join([compressor.compress(b" " * 2**20) for _ in range(mib)]), compressor


DELIVERIES: dict[str, Delivery] = {
    "reset": reset,
    "drop": _drop,
    "drop_chunked": _drop_chunked,
    "stall": _stall,
    "stall_body": _stall_body,
    "drip": _drip,
}
