"""The credentials of an S3 client: had and renewed as botocore does it, or the run stops with one line."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from polygon_async.errors import StorageUnusable
from polygon_async.store.errors import local_trouble, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiobotocore.session import AioSession
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

    @classmethod
    async def of(
        cls, session: AioSession, on_secret: Callable[[str | None], object], *, may_ask: bool
    ) -> Credentials | None:
        """The credentials that a session finds, ready; None if the settings name none.

        With `may_ask`, the code of an MFA device may be asked for.

        Raises:
            StorageUnusable: the settings name some, and they cannot be had.
        """
        ask = _code_of_device if may_ask else _nobody
        with _told():
            session.get_component("credential_provider").get_provider("assume-role")._prompter = ask  # noqa: SLF001
            source = await session.get_credentials()
        if source is None:
            return None
        credentials = cls(source, on_secret)
        await credentials.ready()
        return credentials

    async def ready(self) -> Any:
        """The credentials as they are now, renewed where it is time for that.

        Raises:
            StorageUnusable: there are none, or they cannot be renewed.
        """
        with _told():
            ready = await self._source.get_frozen_credentials()
        if ready != self._known:
            _check(ready)
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


def _check(ready: Any) -> None:
    """Check what is signed with: botocore takes whatever a variable, a helper program or a server holds.

    Raises:
        StorageUnusable: it can be in no request.
    """
    parts = {"access key": ready.access_key, "secret key": ready.secret_key, "session token": ready.token or None}
    for name, value in parts.items():
        if value == "" or (value is None and name != "session token"):
            raise StorageUnusable(f"the S3 credentials have no {name}; renew them and start again")
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            raise StorageUnusable(f"the {name} of the S3 credentials has invalid characters; copy it again")


def _nobody(prompt: str) -> str:
    """Nobody is asked.

    Raises:
        EOFError: always.
    """
    raise EOFError(prompt)


def _code_of_device(prompt: str) -> str:
    """The code of an MFA device, from the terminal; where there is none, a line of standard input.

    Raises:
        EOFError: there is neither.
    """
    import getpass
    import warnings

    with warnings.catch_warnings():
        # It would go on, after two lines about the echo of a terminal that does not exist.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except getpass.GetPassWarning:
            code = sys.stdin.readline().strip() if sys.stdin else ""
    if not code:
        raise EOFError("the role asks for an MFA code, and there is no terminal to type it into")
    return code


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn whatever is raised into the error that stops the run.

    Credentials come from programs and servers, and botocore reads what they answer without checks.
    """
    try:
        yield
    except Exception as error:  # foreign code: whatever it raises
        raise StorageUnusable(f"cannot get the S3 credentials: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    """What is wrong with the credentials, and what to do."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoAuthTokenError,
        SSOError,
        TokenRetrievalError,
        UnauthorizedSSOTokenError,
    )

    said = local_trouble(error).rstrip(" .:")
    match error:
        case UnauthorizedSSOTokenError():
            return "the SSO session has ended; log in again (aws sso login) and start again"
        case SSOError() | TokenRetrievalError() | NoAuthTokenError():
            return f"{said}; log in again (aws sso login) and start again"
        case ClientError():
            return f"{error.operation_name}: {words_of(error)}; renew them and start again"
        case EOFError():
            return f"{said}; assume it beforehand and start again"
        case BotoCoreError() | OSError() | RuntimeError():
            return f"{said}; check the AWS settings or renew the credentials, and start again"
        case _:
            return f"their source cannot be read ({said or type(error).__name__}); renew them and start again"
