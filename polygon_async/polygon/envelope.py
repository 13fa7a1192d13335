"""A body in; what is around its rows, whatever they are, out: is it JSON, is it an answer, does it say yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from polygon_async.errors import Refused, Retryable, WrongAnswer, one_line, said_by

if TYPE_CHECKING:
    from msgspec.json import Decoder

__all__ = ["Head", "check_head", "decode", "shapeless", "unanswered"]

_TRUE_STATUS = frozenset({"OK", "DELAYED"})


class Head(msgspec.Struct):
    """What says whether an answer is one, whatever else is in it."""

    status: str | None = None
    error: str | None = None
    message: str | None = None
    request_id: str | None = None

    @property
    def said_by(self) -> str:
        """How a message about this answer ends."""
        return said_by(self.request_id)


_H = TypeVar("_H", bound=Head)


def decode(decoder: Decoder[_H], body: bytes) -> _H:
    """The answer that a body is.

    Raises:
        Retryable: The body is no JSON; another attempt may bring it whole.
        WrongAnswer: It is JSON, and no answer; or nested so deep that it is neither.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        # The type is looked at before the rest: what begins like a number or a list may not be JSON at all.
        _check_syntax(body)
        raise shapeless(error) from error
    except RecursionError as error:
        raise WrongAnswer("the answer is nested so deep that it is no page") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error


def _check_syntax(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:
        return  # too deep to tell, and no page in any case
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> Retryable:
    return Retryable(f"the body is not JSON ({one_line(error)})", reason="undecodable")


def shapeless(error: Exception) -> WrongAnswer:
    """What it means that JSON has other fields or types than the API's."""
    return WrongAnswer(f"the answer does not have the shape of a page: {one_line(error)}")


def unanswered(head: Head) -> Retryable:
    """What it means that an answer has neither rows nor a count of them: an empty one says that it counts none."""
    return Retryable(f"the answer has neither results nor a count of them{head.said_by}", reason="undecodable")


def check_head(head: Head) -> None:
    """See that the answer itself says that it is one.

    Raises:
        Refused: It says that the key is not entitled to this.
        WrongAnswer: It says anything else.
    """
    if head.status in _TRUE_STATUS:
        return
    said = one_line(head.error or head.message or "without a word")
    if head.status == "NOT_AUTHORIZED":
        raise Refused(f"the API answers NOT_AUTHORIZED: {said}{head.said_by}", status=403)
    raise WrongAnswer(f"the answer's own status is {one_line(repr(head.status))}: {said}{head.said_by}")
