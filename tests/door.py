"""A door in front of a server: real HTTP in, real HTTP out, and a test's own rule in between."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that came to the door."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that leaves by it."""

    status: int
    headers: dict[str, str]
    body: bytes


def refusal(status: int, code: str) -> Answered:
    """An error as S3 words it."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said by the door</Message></Error>'.encode()
    return Answered(status, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body)


@contextlib.contextmanager
def door(
    endpoint: str,
    rule: Callable[[Arrived, Callable[[], Answered]], Answered],
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """The address of a server that passes requests on to `endpoint` as the rule wants it, over TLS if it is given."""
    parts = urlsplit(endpoint)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = Arrived(self.command, self.path, dict(self.headers.items()), body)
            answered = rule(asked, lambda: self.forward(asked))
            self.send_response_only(answered.status)
            for name, value in answered.headers.items():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answered.body)
                # A body that is cut short ends with its connection.
                promised = int(answered.headers.get("Content-Length", "0"))
                self.close_connection = self.close_connection or len(answered.body) < promised

        def forward(self, asked: Arrived) -> Answered:
            headers = {name: value for name, value in asked.headers.items() if name.lower() != "expect"}
            with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
                connection.request(asked.method, asked.path, asked.body, headers)
                answer = connection.getresponse()
                return Answered(answer.status, dict(answer.getheaders()), answer.read())

        def handle(self) -> None:
            # Clients that are killed in the middle are part of the tests, and those that do not trust the server.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                super().handle()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_CONNECT = answer  # noqa: N815 (the server's own names)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def is_object_put(asked: Arrived) -> bool:
    """Whether a request writes an object (and not its tags alone)."""
    return asked.method == "PUT" and "tagging" not in asked.path


@contextlib.contextmanager
def uncounted(endpoint: str) -> Iterator[str]:
    """A store that does not say how many tags an object has, as some do not; they have to be asked for."""

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        answer = forward()
        answer.headers.pop("x-amz-tagging-count", None)
        return answer

    with door(endpoint, rule) as without:
        yield without
