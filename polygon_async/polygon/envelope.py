"""The part of an answer around its rows: is it JSON, is it an answer, and is its status OK?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from polygon_async.errors import Refused, Retryable, Untrue, WrongAnswer, one_line, said_by

if TYPE_CHECKING:
    from msgspec.json import Decoder

__all__ = ["Head", "check_head", "check_speed", "decode", "shapeless", "unanswered"]

_TRUE_STATUS = frozenset({"OK", "DELAYED"})
_TOO_FAST = re.compile(r"exceeded .*requests|too many requests|(exceeded|hit|reached) .*rate limit", re.IGNORECASE)


class Head(msgspec.Struct):
    """The fields that all answers have."""

    status: str | None = None
    error: str | None = None
    message: str | None = None
    request_id: str | None = None

    @property
    def said_by(self) -> str:
        """The end of a message about this answer."""
        return said_by(self.request_id)


_H = TypeVar("_H", bound=Head)


def decode(decoder: Decoder[_H], body: bytes) -> _H:
    """The answer in a body.

    Raises:
        Retryable: The body is not JSON; another attempt may bring it complete.
        WrongAnswer: It is JSON but not an answer, or nested too deeply to be one.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        # The type is checked before the rest: what begins like a number or a list may not be JSON at all.
        _check_syntax(body)
        raise shapeless(error) from error
    except RecursionError as error:
        raise WrongAnswer("the answer is nested too deeply to be a page") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error


def _check_syntax(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:
        return  # too deep to tell, and in any case not a page
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> Retryable:
    return Retryable(f"the body is not JSON ({one_line(error)})", reason="undecodable")


def shapeless(error: Exception) -> WrongAnswer:
    """The error for JSON whose fields or types are not the API's."""
    return WrongAnswer(f"the answer does not have the shape of a page: {one_line(error)}")


def unanswered(head: Head) -> Retryable:
    """The error for an answer with neither rows nor a count of them; an empty answer has a count of 0."""
    return Retryable(f"the answer has neither results nor a count of them{head.said_by}", reason="undecodable")


def check_head(head: Head) -> None:
    """Check the answer's own status.

    Raises:
        Refused: It says that the key is not entitled to this.
        Retryable: It says that there were too many requests, whatever its HTTP status.
        Untrue: It says anything else.
    """
    if head.status in _TRUE_STATUS:
        return
    said = one_line(head.error or head.message or "no message")
    if head.status == "NOT_AUTHORIZED":
        raise Refused(f"the API answers NOT_AUTHORIZED: {said}{head.said_by}", status=403, is_plan=True)
    check_speed(head)
    by_api = head.status is not None or head.request_id is not None
    raise Untrue(f"the answer's own status is {one_line(repr(head.status))}: {said}{head.said_by}", by_api=by_api)


def check_speed(head: Head) -> None:
    """Check the words of an answer that brings nothing, whatever its status: there may be more than it says.

    Raises:
        Retryable: It says that there were too many requests.
    """
    said = one_line(f"{head.error or ''} {head.message or ''}")
    if _TOO_FAST.search(said):
        raise Retryable(f"the answer, HTTP 200, says: {said}{head.said_by}", reason="exceeded")
