"""The sockets that an HTTP client opens, so that none of them outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Sockets"]

_TURNS = 20
"""Of the event loop; it sees and closes a socket that has been shut down within three."""


class Sockets:
    """Opens sockets for aiohttp's connector, and closes those that are still open when the context ends.

    Closing a connection only begins its end: a request that is cancelled while its body is sent leaves
    a connection that waits until the server has read the rest, and one over TLS waits for the
    server's farewell. aiohttp forgets both, and a server that does neither would keep them open for as
    long as it likes. So enter this context before the client's.
    """

    def __init__(self) -> None:
        self._opened: WeakSet[socket.socket] = WeakSet()

    def open(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for an address as returned by `getaddrinfo`: the connector's `socket_factory`."""
        family, kind, protocol, *_ = address
        opened = socket.socket(family=family, type=kind, proto=protocol)
        self._opened.add(opened)
        return opened

    async def __aenter__(self) -> Sockets:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down what is left, and let the event loop close it: a socket belongs to its transport."""
        left = [each for each in self._opened if _is_open(each)]
        for each in left:
            with contextlib.suppress(OSError):  # not connected, or not any more
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(_TURNS):
            if not any(map(_is_open, left)):
                return
            await asyncio.sleep(0)


def _is_open(opened: socket.socket) -> bool:
    return opened.fileno() != -1
