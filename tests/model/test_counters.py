"""Where a run's time went: percentiles that hold, and a series that stays short however long the run."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from polygon_async.model.counters import Latencies, Measures, Series


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=300))
def test_percentiles_are_right_to_a_twentieth(seconds: list[float]) -> None:
    latencies = Latencies()
    for each in seconds:
        latencies.note(each)
    median = sorted(seconds)[(len(seconds) + 1) // 2 - 1]
    found = latencies.percentile(0.5)
    assert found is not None
    assert median * 0.999 <= found <= median * 1.051
    assert (latencies.percentile(1.0) or 0) >= max(seconds) * 0.999


def test_nothing_is_said_of_no_request() -> None:
    assert Measures().as_json() == {"seconds_in": {}, "latency_ms": {"p50": None, "p95": None, "p99": None}}


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_a_series_loses_no_request_and_stays_short(moments: list[float]) -> None:
    series = Series()
    for moment in sorted(moments):
        series.at(moment).requests += 1
    assert sum(span.requests for span in series.spans.values()) == len(moments)
    assert len(series.spans) <= 240
    assert int(max(moments) / series.seconds) in series.spans
