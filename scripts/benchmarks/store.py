"""Nothing in; an S3 store of a few lines out, so light that it is not what is measured.

It keeps no content, checks no signature, and knows only what a download asks for.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

__all__ = ["LightStore"]

_HEAD_END = b"\r\n\r\n"
_LIST = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
_NO_KEY = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
_TAKEN = b"<Error><Code>PreconditionFailed</Code><Message>taken</Message></Error>"


@dataclass(frozen=True, slots=True)
class _Object:
    lines: bytes
    """Header lines of an answer about it."""
    tags: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    lines: bytes = b""
    """Header lines."""
    body: bytes = b""


@dataclass(slots=True)
class LightStore:
    """The objects, and the server's thread."""

    latency: float = 0.0
    """Seconds that every answer takes."""
    objects: dict[str, _Object] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> int:
        """Serve from a thread; returns the port."""
        server = self._loop.run_until_complete(self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        port: int = server.sockets[0].getsockname()[1]
        return port

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> _Answer:
        """What is said to a request."""
        path, _, query = target.partition("?")
        key = unquote(path)
        if method == "PUT" and "tagging" not in query:
            return self._put(key, headers, body)
        if method == "GET" and "list-type" in query:
            return _Answer(200, body=_LIST)
        found = self.objects.get(key)
        if found is None:
            return _Answer(404, body=_NO_KEY)
        if method == "GET" and "tagging" in query:
            return _Answer(200, body=_as_xml(found.tags))
        if method == "DELETE":
            del self.objects[key]
            return _Answer(204)
        return _Answer(200, found.lines)

    def _put(self, key: str, headers: dict[str, str], body: bytes) -> _Answer:
        if headers.get("if-none-match") == "*" and key in self.objects:
            return _Answer(412, body=_TAKEN)
        if "if-match" in headers:
            return _Answer(404, body=_NO_KEY)
        self.objects[key] = made = _made(headers, body)
        return _Answer(200, next(line for line in made.lines.splitlines(keepends=True) if line.startswith(b"ETag")))


class _Connection(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, store: LightStore) -> None:
        self._store = store
        self._data = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(_HEAD_END)) >= 0:
            first, *lines = self._data[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            begin = end + len(_HEAD_END)
            whole = begin + int(headers.get("content-length", 0))
            if len(self._data) < whole:
                if "expect" in headers and len(self._data) == begin:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = bytes(self._data[begin:whole])
            del self._data[:whole]
            method, target, _ = first.split(" ")
            said = _spelt(method, self._store.answer(method, target, headers, body))
            if self._store.latency:
                asyncio.get_running_loop().call_later(self._store.latency, self._transport.write, said)
            else:
                self._transport.write(said)


def _spelt(method: str, answer: _Answer) -> bytes:
    """An answer as it is sent; one about an object has the object's own length."""
    has_length = method == "HEAD" and answer.status == 200
    length = b"" if has_length else b"Content-Length: %d\r\n" % len(answer.body)
    body = b"" if method == "HEAD" else answer.body
    return b"HTTP/1.1 %d -\r\n%s%s\r\n%s" % (answer.status, length, answer.lines, body)


def _made(headers: dict[str, str], body: bytes) -> _Object:
    tags = parse_qsl(headers.get("x-amz-tagging", ""))
    kept = [
        f"{name}: {value}" for name, value in headers.items() if name.startswith(("x-amz-meta-", "x-amz-checksum-"))
    ]
    kept += [f"Content-Length: {len(body)}", f'ETag: "{hashlib.md5(body, usedforsecurity=False).hexdigest()}"']
    # As AWS and MinIO do.
    kept += [f"x-amz-tagging-count: {len(tags)}"] if tags else []
    return _Object("".join(f"{line}\r\n" for line in kept).encode("latin-1"), tags)


def _as_xml(tags: list[tuple[str, str]]) -> bytes:
    rows = "".join(f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in tags)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()
