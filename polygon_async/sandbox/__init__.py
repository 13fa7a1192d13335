"""A local Polygon and an embedded S3 store, over real HTTP with real signatures, without an account.

For the demo, the tests and the benchmark. It imports no wing, and no wing may import it. Read `Sandbox` below
first, then `polygon` (the server) and `trouble` (what it can be told to do wrong).
"""

import datetime as dt
import secrets
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from polygon_async.sandbox.market import Bar, Market
from polygon_async.sandbox.pages import Pages
from polygon_async.sandbox.polygon import HOST, Plan, Polygon, Request, read_rate
from polygon_async.sandbox.profile import Event

if TYPE_CHECKING:
    from polygon_async.sandbox.s3 import EmbeddedS3

__all__ = ["Bar", "Market", "Request", "Sandbox"]


class Sandbox:
    """A local Polygon and, if asked for, a local S3 store: `with Sandbox() as box: ...`."""

    def __init__(
        self,
        *,
        troubles: Iterable[str] = (),
        page_size: int | None = None,
        latency: float = 0.0,
        rate_limit: str | None = None,
        history_from: str | dt.date | None = None,
        next_host: str = HOST,
        s3: "bool | EmbeddedS3" = False,
        bucket: str | None = None,
    ) -> None:
        """Nothing is opened before start().

        Args:
            troubles: lines as trouble.py describes them.
            page_size: most rows per page, below the limit that a request asks for.
            latency: seconds before each answer.
            rate_limit: such as 5/min; requests beyond it get a 429.
            history_from: first day of the plan; ranges wholly before it get a 403.
            next_host: the host inside next_url.
            s3: whether to start a store, or one that runs already and is to be shared.
            bucket: a bucket of that name, if not the store's first one.

        Raises:
            ValueError: a trouble, the rate or the date is not of its form.
        """
        requests, window = read_rate(rate_limit)
        day = dt.date.fromisoformat(history_from) if isinstance(history_from, str) else history_from
        self.api_key = secrets.token_urlsafe(24)
        self.market = Market()
        self.base_url = ""
        self._pages = Pages(self.market, host=next_host, page_size=page_size)
        self._polygon = Polygon(
            Plan(self.api_key, day, requests, window),
            pages=self._pages,
            latency=latency,
            troubles=troubles,
        )
        self._s3_wanted, self._bucket = s3, bucket
        self._s3: EmbeddedS3 | None = None

    def __enter__(self) -> Self:
        """Start, as a context manager."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Open the ports."""
        if self._s3_wanted:
            self._s3 = _store(self._s3_wanted)
            if self._bucket:
                self._s3.create_bucket(self._bucket)
        self.base_url = f"http://127.0.0.1:{self._polygon.start()}"

    def stop(self) -> None:
        """Close what start() opened; a shared store goes on."""
        self._polygon.stop()
        if self._s3 is not None and self._s3_wanted is True:
            self._s3.stop()
        self._s3 = None

    @property
    def s3(self) -> "EmbeddedS3":
        """The store.

        Raises:
            RuntimeError: this sandbox has none.
        """
        if self._s3 is None:
            message = "this sandbox has no S3 store: Sandbox(s3=True)"
            raise RuntimeError(message)
        return self._s3

    @property
    def bucket(self) -> str:
        """The bucket that the environment names."""
        return self._bucket or self.s3.bucket

    @property
    def requests(self) -> list[Request]:
        """All requests to the API so far, in the order of their arrival."""
        return self._polygon.requests

    def forget_requests(self) -> None:
        """Begin the list of requests anew."""
        self._polygon.forget_requests()

    def set_troubles(self, lines: Iterable[str]) -> None:
        """Replace the active troubles and their counts."""
        self._polygon.set_troubles(lines)

    def split(self, ticker: str, day: dt.date, *, before: int = 1, after: int) -> None:
        """Let a ticker's shares be split, `after` for `before`, on a day: adjusted prices change, and no others."""
        self.market.splits.tell(ticker, Event(day, before, after))
        self._pages.forget()

    def s3_client(self) -> Any:
        """A boto3 client of the store, to look at what is there; close it after use."""
        return self.s3.client()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a program finds this sandbox."""
        found = {"POLYGON_BASE_URL": self.base_url, "POLYGON_API_KEY": self.api_key}
        if self._s3 is not None:
            found |= {
                "AWS_ENDPOINT_URL_S3": self._s3.endpoint,
                "AWS_ACCESS_KEY_ID": self._s3.access_key,
                "AWS_SECRET_ACCESS_KEY": self._s3.secret_key,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_REGION": "us-east-1",
                "S3_BUCKET": self.bucket,
            }
        return found


def _store(wanted: "bool | EmbeddedS3") -> "EmbeddedS3":
    """The store to use: a new one, or the one that is handed in."""
    # moto takes a second to import: only who wants a store pays for it.
    from polygon_async.sandbox.s3 import EmbeddedS3

    if isinstance(wanted, EmbeddedS3):
        return wanted
    store = EmbeddedS3()
    store.start()
    return store
