"""An event loop that records the connections made in it: whoever opens one ends it before the loop does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket


class RecordingLoop(asyncio.SelectorEventLoop):
    """The usual loop; at its end, an open connection is an error of the test that made it."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[tuple[asyncio.Transport, socket.socket]] = []

    @property
    def connections(self) -> dict[socket.socket, asyncio.Transport]:
        """Those that are not closed yet."""
        return {sock: transport for transport, sock in self._made if sock.fileno() != -1}

    def close(self) -> None:
        """End the loop.

        Raises:
            AssertionError: connections are open that were made in it.
        """
        left = [] if self.is_closed() else [str(sock) for sock in self.connections]
        super().close()
        assert not left, f"connections that nobody has ended: {', '.join(left)}"

    # asyncio's own hooks: nothing public sees both sides' transports, and those whose TLS handshake does not end well.

    def _make_socket_transport(self, sock: socket.socket, *args: Any, **kwargs: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(sock, *args, **kwargs)  # type: ignore[misc]  # not in typeshed
        self._made.append((transport, sock))
        return transport

    def _make_ssl_transport(self, rawsock: socket.socket, *args: Any, **kwargs: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_ssl_transport(rawsock, *args, **kwargs)  # type: ignore[misc]  # not in typeshed
        self._made.append((transport, rawsock))
        return transport
