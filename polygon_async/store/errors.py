"""What botocore's errors mean: whether they fail one ticker or stop the run, and what to do about them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from polygon_async.errors import StorageUnusable, UploadFailed, one_line
from polygon_async.system.certificates import unusable_bundle
from polygon_async.system.machine import no_more
from polygon_async.system.proxies import proxies_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polygon_async.system.proxies import ProxyTrouble

__all__ = [
    "DENIED",
    "NO_TAGS",
    "advice_on",
    "code_of",
    "is_about_tags",
    "is_unknown_to_store",
    "local_trouble",
    "status_of",
    "store_errors",
    "words_of",
]

_FULL = "the store is full or over its quota; make room there and start again"
_RUN_STOPPERS = {
    "NoSuchBucket": "the bucket does not exist; create it, or name another (S3_BUCKET or --bucket)",
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret does not match the access key; check AWS_SECRET_ACCESS_KEY or the profile",
    "AuthorizationHeaderMalformed": "the region does not match the bucket; set AWS_REGION to the bucket's",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION (or AWS_ENDPOINT_URL_S3)",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION",
    "ExpiredToken": "the credentials have expired; renew them and start again",
    "ExpiredTokenException": "the credentials have expired; renew them and start again",
    "TokenRefreshRequired": "the credentials have expired; renew them and start again",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "InvalidClientTokenId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it and start again",
    "AccountProblem": "the account cannot be used",
    "AllAccessDisabled": "all access to the bucket is disabled",
    "NotSignedUp": "the account is not signed up for S3",
    "InvalidBucketName": "this is not a valid bucket name",
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
}
"""What fails for one upload and would for every other, by S3's code, and what to do."""
NO_TAGS = (
    "every object gets eight tags, which some stores do not keep (Cloudflare R2, Backblaze B2);"
    " choose another store, or --no-upload for CSVs only"
)
DENIED = frozenset({"AccessDenied", "403", "Forbidden"})
"""Codes of a denial by policy."""
_NOT_ENOUGH = "the store lacks something that every upload needs; choose another, or --no-upload for CSVs only"


@contextlib.contextmanager
def store_errors(act: str, *, has_stored: bool) -> Iterator[None]:
    """Turn what botocore raises while doing `act` into the error family.

    `has_stored`: whether the run has stored anything; if not, a denial concerns every upload.
    """
    from aiohttp import ClientError as BodyError
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        if (advice := advice_on(error)) is not None:
            raise StorageUnusable(f"{act}: {advice} ({words_of(error)})") from error
        if code_of(error) in DENIED:
            needed = "PutObject, PutObjectTagging, GetObject, GetObjectTagging"
            text = f"{act} is denied ({words_of(error)}); the policy must allow {needed}"
            # If nothing has been stored yet, nothing can be; else only this key is denied.
            raise (UploadFailed(text) if has_stored else StorageUnusable(text)) from error
        if is_about_tags(error) or is_unknown_to_store(error):
            text = f"{act} failed ({words_of(error)})"
            needed = NO_TAGS if is_about_tags(error) else _NOT_ENOUGH
            raise (UploadFailed(text) if has_stored else StorageUnusable(f"{text}; {needed}")) from error
        raise UploadFailed(f"{act} failed ({words_of(error)})") from error
    except NoCredentialsError as error:  # others' trouble is told before a request is signed: store/credentials.py
        raise StorageUnusable(f"{act}: {local_trouble(error)}") from error
    except (BotoCoreError, BodyError, OSError) as error:
        if (trouble := no_more(_cause(error))) is not None:
            raise trouble from error
        if (proxy := _proxy_trouble(error)) is not None:
            raise (UploadFailed if proxy.passes else StorageUnusable)(f"{act} failed: {proxy.text}") from error
        # A body that is cut short raises aiohttp's own error.
        raise UploadFailed(f"{act} failed ({one_line(error)})") from error


def advice_on(error: Any) -> str | None:
    """What to do about an S3 error that every upload would meet; None for any other."""
    return _RUN_STOPPERS.get(code_of(error), _FULL if status_of(error) == 507 else None)


def is_unknown_to_store(error: Any) -> bool:
    """Whether the store says that it does not know what was asked, or one of its headers."""
    return status_of(error) == 501 or code_of(error) == "NotImplemented"


def is_about_tags(error: Any) -> bool:
    """Whether an S3 error's message names the tags' header, or the store does not know requests about tags."""
    is_request = "Tagging" in error.operation_name and is_unknown_to_store(error)
    return is_request or "x-amz-tagging" in words_of(error).lower()


def local_trouble(error: Exception) -> str:
    """What is wrong at this end of the connection, and what to do."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        HTTPClientError,
        NoCredentialsError,
        NoRegionError,
        SSLError,
    )

    if (proxy := _proxy_trouble(error)) is not None:
        return proxy.text
    if (trouble := no_more(_cause(error))) is not None:
        return str(trouble)
    match error:
        case NoCredentialsError():
            return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        case NoRegionError():
            return "there is no region; set AWS_REGION"
        case EndpointConnectionError() | ConnectTimeoutError():
            return f"{one_line(error)}; check AWS_ENDPOINT_URL_S3 and the network"
        case SSLError():
            return f"{one_line(error)}; check AWS_ENDPOINT_URL_S3 and AWS_CA_BUNDLE"
        case HTTPClientError() if type(error) is HTTPClientError and isinstance(_cause(error), OSError):
            # Before connecting, nothing but the certificate bundle is read.
            bundle = unusable_bundle("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
            return bundle or f"{one_line(error)}; check ca_bundle in the AWS profile"
        case _:
            return one_line(error)


def _cause(error: BaseException) -> BaseException:
    """What botocore's own error is about."""
    cause = getattr(error, "kwargs", {}).get("error")
    return cause if isinstance(cause, BaseException) else error


def _proxy_trouble(error: BaseException) -> ProxyTrouble | None:
    """What an error says about the proxy of a request; None if it is not about a proxy."""
    from botocore.exceptions import EndpointConnectionError, ProxyConnectionError

    if not isinstance(error, EndpointConnectionError | ProxyConnectionError):
        return None
    cause = _cause(error)
    host = urlsplit(error.kwargs.get("proxy_url") or "").hostname or getattr(cause, "host", None)
    proxy = next((each for each in proxies_named() if each.host == host), None)
    return None if proxy is None else proxy.trouble_of(cause, "the store")


def code_of(error: Any) -> str:
    """An S3 error's code; for HEAD only the status."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def status_of(error: Any) -> int | None:
    """The HTTP status behind an S3 error."""
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def words_of(error: Any) -> str:
    """An S3 error's code and, if the store gave one, message."""
    message = one_line(error.response.get("Error", {}).get("Message", ""))
    return f"{code_of(error)}: {message}" if message else code_of(error) or "no error code"
