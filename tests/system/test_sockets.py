"""No connection outlives its client, whatever the server does: it reads no more, or says no farewell."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp.connector
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from recording import RecordingLoop
from stored import DESCRIPTION

from polygon_async.model.access import Access
from polygon_async.model.counters import Counters
from polygon_async.model.rate import parse_rate
from polygon_async.polygon.reference import entry_of
from polygon_async.polygon.session import open_polygon
from polygon_async.store.bucket import open_bucket
from polygon_async.store.upload import Uploader
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path
    from typing import Any

    from polygon_async.store.bucket import Bucket


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate for this machine, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


@dataclass(slots=True)
class Deaf:
    """A server that hears the beginning of a request and nothing after it."""

    url: str
    port: int
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def clients(self) -> list[asyncio.Transport]:
        """The client's ends of the connections that are still open."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, RecordingLoop)
        return [transport for sock, transport in loop.connections.items() if sock.getsockname()[1] != self.port]

    async def filled(self) -> None:
        """Until it was asked, and so much is sent to it that the rest waits."""
        await self.asked.wait()
        while not any(transport.get_write_buffer_size() for transport in self.clients()):  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0)


class _Hearing(asyncio.Protocol):
    def __init__(self, asked: asyncio.Event, connections: list[asyncio.Transport]) -> None:
        self._asked = asked
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connections.append(transport)

    def data_received(self, data: bytes) -> None:
        transport = self._connections[-1]
        transport.pause_reading()
        if b"100-continue" in data.lower():
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._asked.set()


@contextlib.asynccontextmanager
async def deaf(certificate: Path | None) -> AsyncIterator[Deaf]:
    """Such a server, over TLS where there is a certificate."""
    asked, connections = asyncio.Event(), list[asyncio.Transport]()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Hearing(asked, connections), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Deaf(f"http{'s' if context else ''}://127.0.0.1:{port}", port, asked)
    finally:
        server.close()
        for transport in connections:
            transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture(params=["http", "https"])
async def server(request: pytest.FixtureRequest, certificate: Path) -> AsyncIterator[Deaf]:
    """A deaf server."""
    async with deaf(certificate if request.param == "https" else None) as server:
        yield server


@contextlib.asynccontextmanager
async def bucket_of(server: Deaf, certificate: Path) -> AsyncIterator[Bucket]:
    """A bucket there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        patch.setenv("AWS_CA_BUNDLE", str(certificate))
        async with open_bucket("some-bucket", connections=1) as bucket:
            yield bucket


async def cancelled(work: Coroutine[Any, Any, object], *, after: Coroutine[Any, Any, object]) -> None:
    """Begin the work, and cancel it after something has happened."""
    task = asyncio.ensure_future(work)
    await after
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_upload_that_is_cancelled_while_the_server_reads_no_more_leaves_no_connection(
    server: Deaf, certificate: Path, tmp_path: Path
) -> None:
    (tmp_path / "A.lzo").write_bytes(os.urandom(8 * 2**20))
    async with Threads(2) as offload, bucket_of(server, certificate) as bucket:
        storing = Uploader(bucket, offload=offload).store(
            tmp_path / "A.lzo", DESCRIPTION, replace=False, deadline=1000.0
        )
        await cancelled(storing, after=server.filled())
        assert server.clients(), "it waits for the rest to be sent"
    assert server.clients() == []


async def test_a_question_that_is_cancelled_leaves_no_connection(server: Deaf, certificate: Path) -> None:
    async with bucket_of(server, certificate) as bucket:
        await cancelled(bucket.inspect(DESCRIPTION.key), after=server.asked.wait())
    assert server.clients() == []


async def test_a_request_to_the_api_that_is_cancelled_leaves_no_connection(
    server: Deaf, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    access = Access(
        base_url=server.url,
        api_key="key",
        rate=parse_rate("unlimited"),
        patience=1000.0,
        stall_timeout=1000.0,
        outage_patience=1000.0,
        connections=1,
    )
    async with Threads(1) as offload, open_polygon(access, offload=offload, counters=Counters()) as client:
        await cancelled(entry_of("AAPL", day=dt.date(2026, 1, 5), client=client), after=server.asked.wait())
    assert server.clients() == []


async def test_a_tls_handshake_that_is_cancelled_leaves_no_connection(certificate: Path) -> None:
    async with deaf(None) as mute:  # answers no TLS handshake
        server = Deaf(mute.url.replace("http:", "https:"), mute.port, mute.asked)
        async with bucket_of(server, certificate) as bucket:
            await cancelled(bucket.inspect(DESCRIPTION.key), after=server.asked.wait())
        assert server.clients() == []
