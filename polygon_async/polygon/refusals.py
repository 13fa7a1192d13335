"""An answer that is no page in, what it means out."""

from __future__ import annotations

import codecs
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import msgspec

from polygon_async.errors import Retryable, RunError, one_line, said_by
from polygon_async.polygon.unpacking import unpack_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polygon_async.system.proxies import Proxy, ProxyTrouble

__all__ = ["Said", "broken_connection", "error_text", "is_proxys_own", "retry_after_seconds", "said_of_proxy"]

_OF_PROXIES = frozenset({403, 502, 503, 504})
"""What a proxy may answer in the place of the API, beside 407."""
_LONGEST_RETRY_AFTER = 3600.0
"""Seconds; whoever asks for more is asked again after these, and may say so again."""
_LONGEST_TEXT = 64 * 1024
"""Bytes of an error body that are read; the API's own have a few hundred, a gateway's page some thousand."""


class Said(NamedTuple):
    """What an answer that is no page says."""

    text: str
    """In a line, with the request_id where there is one."""
    is_json: bool
    """Whether it is the API's own answer; a gateway's or a proxy's is a page or a word."""


class _ErrorBody(msgspec.Struct):
    error: str | None = None
    message: str | None = None
    request_id: str | None = None


def broken_connection(error: Exception, host: str, proxy: Proxy | None) -> Exception:
    """What it means that no whole answer came."""
    if proxy is not None and (trouble := proxy.trouble_of(error, host)) is not None:
        return said_of_proxy(trouble)
    if proxy is not None:
        host = f"{host} through the proxy in {proxy.variable}"
    text = one_line(str(error) or type(error).__name__)
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return RunError(
                f"the certificate of {host} cannot be trusted ({text}); check POLYGON_BASE_URL and the CA certificates"
            )
        case aiohttp.SocketTimeoutError():
            return Retryable("the answer stalled: no byte came within the stall time-out", reason="stall")
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            return Retryable(f"no whole answer from {host} in time", reason="timeout")
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
    """Whether the answer to a request that went through a proxy is that proxy's, and not the API's."""
    return status == 407 or (status in _OF_PROXIES and not said.is_json)


def said_of_proxy(trouble: ProxyTrouble) -> Exception:
    """What trouble with the proxy means: for a while, or for every request."""
    return Retryable(trouble.text, reason="proxy") if trouble.passes else RunError(trouble.text)


def error_text(body: bytes, encoding: str, request_id: str | None) -> Said:
    """What an error body says, in a line; of a long one the beginning is read.

    Raises:
        WrongAnswer: it unpacks to more than any page.
    """
    text = unpack_text(body, encoding, _LONGEST_TEXT).removeprefix(codecs.BOM_UTF8)
    is_json = True
    try:
        answer = msgspec.json.decode(text, type=_ErrorBody)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        answer, is_json = _ErrorBody(), False
        # A gateway's HTML page says nothing that its status does not; a short plain text may.
        answer.message = "" if b"<" in text else text.decode(errors="replace")
    said = one_line(answer.error or answer.message or "") or "without a word"
    found = answer.request_id or request_id
    return Said(f"{said}{said_by(found)}", is_json)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds that the answer asks to wait, told as seconds or as a date; None where it doesn't."""
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
