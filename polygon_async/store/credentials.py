"""The credentials of an S3 client: had and renewed as botocore does it, or the run stops with one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polygon_async.errors import StorageUnusable, one_line
from polygon_async.store.errors import local_trouble, words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSRequest

__all__ = ["Credentials"]


class Credentials:
    """Gets the credentials ready before a request is signed.

    botocore gets them while it signs, where an error of theirs (an SSO session that has ended, a role that
    may no longer be assumed, a helper program that fails) looks like one of the request. It is the next
    request's trouble as well, and every ticker's.

    Args:
        source: botocore's own credentials object.
        on_secret: Told the secrets, so that no log shows them: they change when they are renewed.
    """

    def __init__(self, source: Any, on_secret: Callable[[str | None], object]) -> None:
        self._source = source
        self._on_secret = on_secret
        self._known: object = None

    async def ready(self) -> Any:
        """The credentials as they are now, renewed where it is time for that.

        Raises:
            StorageUnusable: there are none, or they cannot be renewed.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            ready = await self._source.get_frozen_credentials()
        # What a helper program or a server answers is read without checks: KeyError, ValueError. RuntimeError: what
        # was renewed has expired already.
        except (BotoCoreError, ClientError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise StorageUnusable(f"the S3 credentials cannot be had: {_advice(error)}") from error
        if ready != self._known:
            self._known = ready
            self._on_secret(ready.secret_key)
            self._on_secret(ready.token)
        return ready

    async def before_signing(self, request: AWSRequest, **_: object) -> None:
        """botocore's event: have this request signed with credentials that are ready."""
        from aiobotocore.credentials import AioCredentials

        ready = await self.ready()
        given = AioCredentials(ready.access_key, ready.secret_key, ready.token)
        request.context["signing"] = {**request.context.get("signing", {}), "request_credentials": given}


def _advice(error: Exception) -> str:
    """What is wrong with the credentials, and what to do."""
    from botocore.exceptions import (
        ClientError,
        NoAuthTokenError,
        SSOError,
        TokenRetrievalError,
        UnauthorizedSSOTokenError,
    )

    match error:
        case UnauthorizedSSOTokenError():
            return "the SSO session has ended; log in again (aws sso login) and start again"
        case SSOError() | TokenRetrievalError() | NoAuthTokenError():
            return f"{local_trouble(error)}; log in again (aws sso login) and start again"
        case ClientError():
            return f"{error.operation_name}: {words_of(error)}; renew them and start again"
        case KeyError() | ValueError():
            return f"what gives them out cannot be read ({one_line(error)}); renew them and start again"
        case _:
            return f"{local_trouble(error)}; renew them and start again"
