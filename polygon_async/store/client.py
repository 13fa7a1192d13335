"""Open a client of the S3 store that the environment's settings point at."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.errors import StorageUnusable, one_line
from polygon_async.store.credentials import Credentials
from polygon_async.store.errors import local_trouble
from polygon_async.system.hosts import names_a_host
from polygon_async.system.proxies import proxy_for
from polygon_async.system.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from botocore.awsrequest import AWSRequest
    from types_aiobotocore_s3 import S3Client

    from polygon_async.store.session import VerifyingSession

__all__ = ["limit_attempts", "open_client"]

_NO_ADDRESS = (
    "S3 cannot be used: the store's address must begin with http:// or https://, as in https://host:port; check"
    " AWS_ENDPOINT_URL_S3, or endpoint_url in the AWS profile"
)


@contextlib.asynccontextmanager
async def open_client(
    on_secret: Callable[[str | None], object], *, may_ask: bool = True, **settings: Any
) -> AsyncIterator[S3Client]:
    """A client configured by botocore's own settings (environment, profiles, roles).

    Args:
        on_secret: Told the secrets, wherever they come from, now and when they are renewed, so that no log shows them.
        may_ask: Whether the code of an MFA device may be asked for.
        settings: botocore's, as its Config takes them.

    Raises:
        StorageUnusable: the settings or credentials cannot be used.
        ConfigError: the proxy cannot be used.
    """
    import aioboto3
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore import __version__ as botocore_version
    from botocore.exceptions import BotoCoreError

    async with Sockets() as sockets:
        try:
            found = get_session()
            session = aioboto3.Session(botocore_session=found)
            credentials = await Credentials.of(found, on_secret, may_ask=may_ask)
            if found.get_config_variable("user_agent_appid") is None:
                # botocore's own name is long, and put together anew twice for each request.
                settings["user_agent"] = f"polygon-async/{__version__} botocore/{botocore_version}"
            # What this program sends has the right types; looking at each costs a tenth of a small request.
            config = AioConfig(http_session_cls=partial(_http_session, sockets), parameter_validation=False, **settings)
            opening = session.client("s3", config=config)
            client = await opening.__aenter__()
        except StorageUnusable:
            raise
        except (BotoCoreError, ValueError) as error:
            if str(error).startswith("Invalid endpoint"):
                raise StorageUnusable(_NO_ADDRESS) from error
            raise StorageUnusable(f"S3 cannot be used: {local_trouble(error)}") from error
        except Exception as error:  # botocore reads what a profile holds without checks
            raise StorageUnusable(f"S3 cannot be used: the AWS settings cannot be read ({one_line(error)})") from error
        _sign_checksums(client)
        _resolve_once(client)
        if credentials is not None:
            client.meta.events.register("before-sign.s3", credentials.before_signing)
        try:
            if not names_a_host(client.meta.endpoint_url):
                raise StorageUnusable(_NO_ADDRESS)
            # Before anything is asked: botocore takes whatever the variable holds for an HTTP proxy.
            proxy_for(client.meta.endpoint_url, by_scheme_only=True)
            yield client
        finally:
            await asyncio.shield(opening.__aexit__(None, None, None))


def _http_session(sockets: Sockets, *, connector_args: dict[str, Any], **settings: Any) -> VerifyingSession:
    """A session whose connections end with the client; botocore's settings know no such argument of the connector."""
    from polygon_async.store.session import VerifyingSession

    return VerifyingSession(connector_args={**connector_args, "socket_factory": sockets.open}, **settings)


def _sign_checksums(client: S3Client) -> None:
    """Let the signature of a body that has a SHA-256 header cover that header, and not the body once more.

    Over plain http botocore would hash the whole body, on the event loop; the header is signed with the others.
    """
    from botocore.config import Config

    config = client.meta.config
    chosen = config.s3 or {}
    if "payload_signing_enabled" in chosen:
        return
    without_body = config.merge(Config(s3={**chosen, "payload_signing_enabled": False}))

    def sign(request: AWSRequest, **_: object) -> None:
        if "x-amz-checksum-sha256" in request.headers:
            request.context["client_config"] = without_body

    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-sign.s3.{operation}", sign)


def _resolve_once(client: S3Client) -> None:
    """Have the rules that find the store's address applied once, and not for every key that is written.

    S3's rules take the key, and use it for nothing; botocore remembers what it found for each one.
    """
    # There is no public way; without it, all is as right, and an upload costs some 3% more.
    resolver = getattr(client, "_ruleset_resolver", None)
    getattr(resolver, "_param_definitions", {}).pop("Key", None)


@contextlib.contextmanager
def limit_attempts(client: S3Client, operation: str, *, attempts: int) -> Iterator[None]:
    """Give up requests of one kind after this many attempts without an answer, as botocore's own waits grow long.

    Its settings apply to a whole client, and another client would take long to create.
    """
    event = f"needs-retry.s3.{operation}"

    def give_up(*, attempts: int, caught_exception: Exception | None, **_: Any) -> None:
        if caught_exception is not None and attempts >= most:
            raise caught_exception

    most = attempts
    client.meta.events.register_first(event, give_up)
    try:
        yield
    finally:
        client.meta.events.unregister(event, give_up)
