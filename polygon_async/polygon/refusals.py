"""What an answer means that is not a page, or a connection that failed."""

from __future__ import annotations

import codecs
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec

from polygon_async.errors import Retryable, RunError, one_line, said_by
from polygon_async.polygon.unpacking import unpack_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polygon_async.system.proxies import Proxy, ProxyTrouble

__all__ = ["Said", "broken_connection", "error_text", "is_proxys_own", "retry_after_seconds", "said_of_proxy"]

_OF_PROXIES = frozenset({403, 502, 503, 504})
"""What a proxy may answer instead of the API, besides 407."""
_LONGEST_RETRY_AFTER = 3600.0
"""Seconds; a longer wait is cut to this, and the API may ask for it again."""
_LONGEST_TEXT = 64 * 1024
"""Bytes of an error body that are read; the API's have a few hundred, a gateway's page a few thousand."""


class Said(NamedTuple):
    """The message of an answer that is not a page."""

    text: str
    """In one line, with the request_id if there is one."""
    by_api: bool
    """Whether it is the API's own answer; that of a gateway or a proxy is HTML, a word, or JSON without the API's
    word for its status."""
    is_plan: bool = False
    """Whether it says that the plan does not include what was asked for."""


class _ErrorBody(msgspec.Struct):
    status: Any = None
    error: str | None = None
    message: str | None = None
    request_id: str | None = None


def broken_connection(error: Exception, host: str, proxy: Proxy | None) -> Exception:
    """What it means that no complete answer arrived."""
    if proxy is not None and (trouble := proxy.trouble_of(error, host)) is not None:
        return said_of_proxy(trouble)
    if proxy is not None:
        host = f"{host} through the proxy in {proxy.variable}"
    text = one_line(str(error) or type(error).__name__)
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return RunError(
                f"the certificate of {host} cannot be trusted ({text}); check POLYGON_BASE_URL and the CA certificates"
                " (SSL_CERT_FILE names others)"
            )
        case aiohttp.SocketTimeoutError():
            return Retryable("the answer stalled: no bytes arrived within the stall timeout", reason="stall")
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            return Retryable(f"no complete answer from {host} in time", reason="timeout")
        case aiohttp.ClientPayloadError():
            return Retryable(f"the body was cut ({text})", reason="cut body")
        case aiohttp.ClientConnectorDNSError():
            return Retryable(f"the name {host} cannot be resolved", reason="dns")
        case aiohttp.ClientConnectorError():
            return Retryable(f"no connection to {host} ({text})", reason="no connection")
        case aiohttp.ClientResponseError():
            return Retryable(f"the answer is not HTTP ({one_line(error.message)})", reason="not http")
        case _:
            return Retryable(f"the connection to {host} broke ({text})", reason="reset")


def is_proxys_own(status: int, said: Said) -> bool:
    """Whether an answer that came through a proxy is the proxy's own, not the API's."""
    return status == 407 or (status in _OF_PROXIES and not said.by_api)


def said_of_proxy(trouble: ProxyTrouble) -> Exception:
    """What trouble with the proxy means: a retry, or the end of the run."""
    return Retryable(trouble.text, reason="proxy") if trouble.passes else RunError(trouble.text)


def error_text(body: bytes, encoding: str, request_id: str | None) -> Said:
    """The message of an error body in one line; of a long body only the beginning is read.

    Raises:
        WrongAnswer: it unpacks to more than any page.
    """
    text = unpack_text(body, encoding, _LONGEST_TEXT).removeprefix(codecs.BOM_UTF8)
    try:
        answer = msgspec.json.decode(text, type=_ErrorBody)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        answer = _ErrorBody()
        # A gateway's HTML page adds nothing to its status; a short plain text may.
        answer.message = "" if b"<" in text else text.decode(errors="replace")
    said = one_line(answer.error or answer.message or "") or "no message"
    found = answer.request_id or request_id
    by_api = isinstance(answer.status, str)
    return Said(f"{said}{said_by(found)}", by_api=by_api, is_plan=answer.status == "NOT_AUTHORIZED")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The seconds that the answer asks to wait, given as seconds or as a date; None if it does not ask."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), _LONGEST_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), _LONGEST_RETRY_AFTER)
