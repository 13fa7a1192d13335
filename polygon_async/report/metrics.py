"""A run's metrics as a file in the Prometheus text format, rewritten while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, one_line
from polygon_async.system.files import open_regular, replace_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from polygon_async.model.counters import Counters, Pace
    from polygon_async.report.summary import Summary

__all__ = ["MetricsFile"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN = 5.0
_PREFIX = "polygon_async_"
_LAST_SUCCESS = f"{_PREFIX}last_success_timestamp_seconds"


class MetricsFile:
    """A file for node_exporter's textfile collector, complete at any moment.

    Its name should end in `.prom`. The time of the last success is carried over from the earlier file,
    so that an alarm can tell how old the data are.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.time()
        self._last_success = _last_success(path)
        self._running = True
        self._exit_code: int | None = None
        self._counters: Counters | None = None
        self._pace: Pace | None = None
        self._total = 0
        try:
            replace_file(path, self._text())
        except OSError as error:
            said = one_line(error.strerror or error)
            raise ConfigError(f"--metrics-file {one_line(path)}: cannot be written ({said})") from error

    @contextlib.asynccontextmanager
    async def watch(self, counters: Counters, pace: Pace, total: int) -> AsyncIterator[None]:
        """Write the run's metrics every few seconds."""
        self._counters, self._pace, self._total = counters, pace, total
        stop = asyncio.Event()
        task = asyncio.create_task(self._write(stop))
        try:
            yield
        finally:
            # Its thread may be writing the file that `end` is about to write, too.
            stop.set()
            await asyncio.wait([task])

    def end(self, summary: Summary | None) -> None:
        """Write how the run ended; None: it could not start."""
        self._running = False
        self._exit_code = 2 if summary is None else summary.exit_code
        if self._exit_code == 0:
            self._last_success = time.time()
        self._replace(self._text())

    async def _write(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.to_thread(self._replace, self._text())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _SECONDS_BETWEEN)

    def _replace(self, text: str) -> None:
        try:
            replace_file(self._path, text)
        except OSError as error:
            log.warning("cannot write the metrics to %s (%s)", self._path, one_line(error.strerror or error))

    def _text(self) -> str:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """The current metrics; called by prometheus_client."""
        yield _gauge("running", "Whether a run is in progress.", [((), float(self._running))])
        yield _gauge("start_timestamp_seconds", "When the run started.", [((), self._began)])
        if self._last_success is not None:
            name = _LAST_SUCCESS.removeprefix(_PREFIX)
            yield _gauge(name, "When the last run with exit code 0 ended.", [((), self._last_success)])
        if self._exit_code is not None:
            yield _gauge("exit_code", "How the run ended.", [((), float(self._exit_code))])
        if self._counters is not None:
            yield from _counted(self._counters)
            yield from self._states(self._counters)
        if self._pace is not None:
            allowed = self._pace.per_second
            rate = float("inf") if allowed is None else allowed
            yield _gauge("allowed_requests_per_second", "The current rate limit; +Inf for none.", [((), rate)])

    def _states(self, counters: Counters) -> Iterator[Metric]:
        states = {str(state): count for state, count in counters.ended.items()}
        states["in flight"] = len(counters.in_flight)
        states["waiting"] = max(0, self._total - sum(states.values()))
        rows = [((state.replace(" ", "_"),), float(count)) for state, count in states.items()]
        yield _gauge("tickers", "Tickers by state.", rows, "state")
        queues = [((name,), float(length())) for name, length in counters.queues.items()]
        yield _gauge("queue_length", "Tickers waiting in each queue.", queues, "queue")


def _counted(counters: Counters) -> Iterator[Metric]:
    measures = counters.measures
    yield _counter("requests", "Requests sent, retries included.", [((), counters.requests)])
    answers = [((str(status),), count) for status, count in counters.answers.items()]
    yield _counter("answers", "Answers by HTTP status.", answers, "status")
    retries = [((reason.replace(" ", "_"),), count) for reason, count in counters.retries.items()]
    yield _counter("retries", "Retries by reason.", retries, "reason")
    yield _counter("pages", "Pages read.", [((), counters.pages)])
    yield _counter("bars", "Bars written to files.", [((), counters.bars)])
    yield _counter("csv_bytes", "Bytes written to CSVs.", [((), counters.csv_bytes)])
    yield _counter("stored_bytes", "Bytes of objects that were read back.", [((), counters.stored_bytes)])
    spent = [((what,), seconds) for what, seconds in measures.seconds.items()]
    yield _counter("spent_seconds", "Seconds spent, all tickers together, by activity.", spent, "on")
    shares = {"0.5": 0.5, "0.95": 0.95, "0.99": 0.99}
    known = [((name,), found) for name, share in shares.items() if (found := measures.latencies.percentile(share))]
    yield _gauge("request_seconds", "How long requests take, by quantile.", known, "quantile")


def _counter(name: str, said: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"{_PREFIX}{name}", said, labels=labels)
    for values, number in rows:
        family.add_metric(list(values), number)
    return family


def _gauge(name: str, said: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{_PREFIX}{name}", said, labels=labels)
    for values, number in rows:
        family.add_metric(list(values), number)
    return family


def _last_success(path: Path) -> float | None:
    """The time of the last success, from an earlier run's file."""
    from prometheus_client.parser import text_string_to_metric_families

    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8", opener=partial(open_regular, follow=True)) as file:
            text = file.read()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == _LAST_SUCCESS:
                    return float(sample.value)
    return None
