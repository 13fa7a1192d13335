"""A case of refusal in, the answer that Polygon (or the nginx in front of it) gives out."""

import datetime as dt
import email.utils
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

JSON = "application/json"
HTML = "text/html"
PLAIN = "text/plain; charset=utf-8"

_PRICING = "https://polygon.io/pricing"
_TOO_FAST = (
    f"You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. {_PRICING}"
)
_ELSEWHERE = "http://elsewhere.invalid"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, before it is compressed and sent."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that gets no page; `answer` is what it gets."""

    def __init__(self, answer: Answer) -> None:
        """Keep the answer for the one who sends it."""
        super().__init__(answer.status)
        self.answer = answer


def error(status: int, text: str, *, word: str = "ERROR") -> Answer:
    """The API's own error body: the reason is in `error`, or in `message` for the other words."""
    request_id = secrets.token_hex(16)
    reason = "error" if word == "ERROR" else "message"
    body = {"status": word, "request_id": request_id, reason: text}
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers={"X-Request-Id": request_id})


def unknown_key() -> Answer:
    """The key is none that the server knows."""
    return error(401, "Unknown API Key")


def missing_key() -> Answer:
    """Neither the query nor a header has a key."""
    return error(401, "API Key was not provided")


def outside_plan() -> Answer:
    """The dates are not in the plan."""
    text = f"Your plan doesn't include this data timeframe. Please upgrade your plan at {_PRICING}"
    return error(403, text, word="NOT_AUTHORIZED")


def not_entitled(status: int = 403) -> Answer:
    """The product is not in the plan."""
    text = f"You are not entitled to this data. Please upgrade your plan at {_PRICING}"
    return error(status, text, word="NOT_AUTHORIZED")


def too_fast(headers: dict[str, str] | None = None) -> Answer:
    """More requests than the plan allows."""
    plain = error(429, _TOO_FAST)
    return Answer(plain.status, plain.body, plain.content_type, {**plain.headers, **(headers or {})})


def bad_time(name: str) -> Answer:
    """A `from` or `to` that is no date and no number."""
    return error(400, f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps")


def backwards() -> Answer:
    """A range that ends before it begins."""
    return error(400, "The parameter 'to' cannot be a time that occurs before 'from'")


def no_such_path() -> Answer:
    """An address that the API does not have."""
    return Answer(404, b"404 page not found", PLAIN)


def nginx(status: int) -> Answer:
    """The gateway's own page."""
    phrases = {code.value: code.phrase for code in HTTPStatus} | {504: "Gateway Time-out"}
    title = f"{status} {phrases.get(status, 'Error')}"
    body = (
        f"<html>\n<head><title>{title}</title></head>\n<body>\n<center><h1>{title}</h1></center>\n"
        "<hr><center>nginx/1.19.2</center>\n</body>\n</html>\n"
    )
    return Answer(status, body.encode(), HTML)


_OWN_FORMS: dict[int, Callable[[], Answer]] = {
    400: lambda: bad_time("from"),
    401: unknown_key,
    403: not_entitled,
    404: no_such_path,
    408: lambda: error(408, "Request timed out"),
    429: too_fast,
    499: lambda: Answer(499, b"", PLAIN),
    500: lambda: error(500, "Internal server error"),
}


def with_status(status: int) -> Answer:
    """The body that usually comes with a status."""
    form = _OWN_FORMS.get(status)
    return form() if form else nginx(status)


def _http_date(seconds: float) -> str:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return email.utils.format_datetime(moment, usegmt=True)


def play(kind: str, argument: str, *, key: str, path: str) -> Answer | None:
    """The answer of a trouble that needs no page, or None for the other kinds."""
    plays: dict[str, Callable[[], Answer]] = {
        "status": lambda: with_status(int(argument)),
        "rate429": lambda: too_fast({"Retry-After": argument} if argument else None),
        "rate429date": lambda: too_fast({"Retry-After": _http_date(float(argument))}),
        "empty429": lambda: Answer(429, b"", PLAIN),
        "plan403": outside_plan,
        "blocked": lambda: nginx(403),
        "not_found": lambda: error(404, "Ticker not found.", word="NOT_FOUND"),
        "not_authorized_200": lambda: not_entitled(200),
        "error_200": lambda: error(200, "Internal server error"),
        "exceeded_200": lambda: error(200, _TOO_FAST),
        "html_200": lambda: Answer(200, nginx(200).body, HTML),
        "blank_200": lambda: Answer(200, b""),
        "no_count": lambda: Answer(200, b'{"status":"OK","request_id":"%s"}' % secrets.token_hex(16).encode()),
        "bomb_status": lambda: with_status(int(argument)),
        "redirect": lambda: Answer(302, b"", PLAIN, {"Location": (argument or _ELSEWHERE) + path}),
        "key_echo": lambda: error(400, f"Bad request for key {key}"),
        "key_echo_500": lambda: error(500, f"Internal server error while serving key {key}"),
    }
    return plays[kind]() if kind in plays else None
