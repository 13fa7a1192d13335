"""Nothing in, the sandbox's Polygon and S3 store in processes of their own out, and what a run asked of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import resource
import secrets
import signal
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from isal import igzip
from store import LightStore

from polygon_async.sandbox.market import Market
from polygon_async.sandbox.pages import Pages
from polygon_async.sandbox.polygon import HOST, Plan, Polygon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from workload import Job

    from polygon_async.sandbox.pages import Page
    from polygon_async.sandbox.query import Query

__all__ = ["Servers", "Use"]

_CACHE_BYTES = 3 * 2**30
_STORE_BYTES = 2**30
_READY_SECONDS = 60
_PATH = "{base}/v2/aggs/ticker/{ticker}/range/1/minute/{start}/{end}?adjusted=true&sort=asc&limit=50000"
_COUNT = re.compile(rb'"resultsCount":(\d+)')
_NEXT = re.compile(rb'"next_url":"([^"]+)"')
_SPAWN = multiprocessing.get_context("spawn")


class _CountedPages(Pages):
    """Pages that know how many of them had to be made, which takes longer than sending them."""

    made = 0

    def page(self, query: Query, *, extra: int = 0) -> Page:
        self.made += 1
        return super().page(query, extra=extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was asked of the servers since the last reset."""

    requests: int
    """Of the API."""
    cold: int
    """Pages that the API had to make first."""
    objects: int
    """In the bucket."""
    api_cpu: float
    """Seconds."""
    s3_cpu: float
    """Seconds."""


def _serve_api(pipe: Connection) -> None:
    pages = _CountedPages(Market(), host=HOST, page_size=None, cache_bytes=_CACHE_BYTES)
    key = secrets.token_urlsafe(24)
    api = Polygon(Plan(key, None, None, 1.0), pages=pages)
    cpu = 0.0

    def reset() -> None:
        nonlocal cpu
        api.forget_requests()
        pages.made = 0
        cpu = time.process_time()

    def use() -> dict[str, float]:
        return {"requests": len(api.requests), "cold": pages.made, "api_cpu": time.process_time() - cpu}

    def arrivals() -> list[float]:
        return [request.time for request in api.requests]

    def latency(seconds: float) -> None:
        api.set_troubles([f"* * latency={seconds}"] if seconds else [])

    found = {"POLYGON_BASE_URL": f"http://127.0.0.1:{api.start()}", "POLYGON_API_KEY": key}
    try:
        _answer(pipe, found, {"reset": reset, "use": use, "arrivals": arrivals, "latency": latency, "pin": _pin})
    finally:
        api.stop()


def _serve_s3(pipe: Connection) -> None:
    from polygon_async.sandbox.s3 import REGION, EmbeddedS3

    with EmbeddedS3() as store, contextlib.closing(store.client()) as client:
        cpu = 0.0

        def keys() -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

        def reset() -> int:
            nonlocal cpu
            for key in keys():
                client.delete_object(Bucket=store.bucket, Key=key)
            cpu = time.process_time()
            return _peak_memory()

        def use() -> dict[str, float]:
            spent = time.process_time() - cpu
            return {"objects": len(keys()), "s3_cpu": spent}

        found = {
            "AWS_ENDPOINT_URL_S3": store.endpoint,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "S3_BUCKET": store.bucket,
        }
        _answer(pipe, found, {"reset": reset, "use": use, "pin": _pin})


def _serve_light_s3(pipe: Connection) -> None:
    store = LightStore()
    port = store.start()
    cpu = 0.0

    def reset() -> int:
        nonlocal cpu
        store.objects.clear()
        cpu = time.process_time()
        return _peak_memory()

    def use() -> dict[str, float]:
        return {"objects": len(store.objects), "s3_cpu": time.process_time() - cpu}

    def latency(seconds: float) -> None:
        store.latency = seconds

    found = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "light",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "S3_BUCKET": "light",
    }
    _answer(pipe, found, {"reset": reset, "use": use, "pin": _pin, "latency": latency})


def _answer(pipe: Connection, found: dict[str, str], acts: dict[str, Callable[..., object]]) -> None:
    """Say where the server is found, then do what is asked until nobody asks any more."""
    pipe.send(found)
    with contextlib.suppress(EOFError):
        while True:
            act, *arguments = pipe.recv()
            pipe.send(acts[act](*arguments))


def _pin(cores: Sequence[int]) -> None:
    """Have all threads of this process run on these cores only, and those that it will start."""
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 (names are all that is wanted)
        os.sched_setaffinity(int(thread), cores)


def _peak_memory() -> int:
    """Bytes of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Server:
    """One server's process, and the pipe on which it answers."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=serve, args=(theirs,), daemon=True)
        # A Ctrl-C in the terminal is for the parent to answer, which then closes the pipe.
        # What is ignored at a process's start, it goes on ignoring.
        own = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._process.start()
        signal.signal(signal.SIGINT, own)
        theirs.close()
        if not self._pipe.poll(_READY_SECONDS):
            raise TimeoutError("a server did not start")
        self.found: dict[str, str] = self._pipe.recv()

    def ask(self, *question: object) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()


class Servers:
    """Both servers: `with Servers() as servers: ...`."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self._api = _Server(_serve_api)
            stack.callback(self._api.stop)
            self._s3 = _Server(_serve_s3)
            stack.callback(self._stop_store)
            self._light_s3 = _Server(_serve_light_s3)
            stack.callback(self._light_s3.stop)
            self._is_light = False
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _stop_store(self) -> None:
        """Whichever it is by then."""
        self._s3.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a program finds them; a reset may change the store's."""
        return {**self._api.found, **self._store.found}

    @property
    def _store(self) -> _Server:
        return self._light_s3 if self._is_light else self._s3

    def reset(self, *, latency: float, light: bool = False) -> None:
        """Empty the bucket, begin counting anew, and answer every page `latency` seconds late.

        With `light`, the store is the one that costs next to nothing, and it is as late as the API.
        """
        self._is_light = light
        self._light_s3.ask("latency", latency)
        if light:
            self._light_s3.ask("reset")
        # The store gives back little of what deleted objects took.
        elif self._s3.ask("reset") > _STORE_BYTES:
            self._s3.stop()
            self._s3 = _Server(_serve_s3)
            self._s3.ask("reset")
        self._api.ask("latency", latency)
        self._api.ask("reset")

    def use(self) -> Use:
        """What was asked since the last reset."""
        return Use(**self._api.ask("use"), **self._store.ask("use"))

    def arrivals(self) -> list[float]:
        """When the API's requests since the last reset arrived, in seconds of its own clock."""
        found: list[float] = self._api.ask("arrivals")
        return found

    def pin(self, cores: Sequence[int]) -> None:
        """Have both servers run on these cores only; Linux only."""
        for server in (self._api, self._s3, self._light_s3):
            server.ask("pin", cores)

    def first_page(self, job: Job) -> bytes:
        """The first page of the job's first ticker, as it is sent: compressed."""
        return self._get(self._first_url(job, job.tickers[0]))

    def warm(self, job: Job) -> dict[str, int]:
        """Have every page of the job made, without a delay; returns the bars of each ticker."""
        self._api.ask("latency", 0)
        with ThreadPoolExecutor(2) as threads:
            return dict(zip(job.tickers, threads.map(lambda ticker: self._walk(job, ticker), job.tickers), strict=True))

    def _walk(self, job: Job, ticker: str) -> int:
        bars = 0
        url: str | None = self._first_url(job, ticker)
        while url is not None:
            body = igzip.decompress(self._get(url))  # type: ignore[no-untyped-call]  # isal has no type for it
            count = _COUNT.search(body, 0, 1000)
            onward = _NEXT.search(body, max(0, len(body) - 1000))
            bars += int(count[1]) if count else 0
            url = self._here(onward[1].decode()) if onward else None
        return bars

    def _first_url(self, job: Job, ticker: str) -> str:
        base = self.environment["POLYGON_BASE_URL"]
        return _PATH.format(base=base, ticker=ticker, start=job.start, end=job.end)

    def _here(self, next_url: str) -> str:
        parts = urlsplit(next_url)
        return f"{self.environment['POLYGON_BASE_URL']}{parts.path}?{parts.query}"

    def _get(self, url: str) -> bytes:
        key = self.environment["POLYGON_API_KEY"]
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "gzip"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (our own loopback address)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            body: bytes = answer.read()
        return body
