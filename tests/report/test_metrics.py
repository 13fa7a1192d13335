"""The metrics file: what Prometheus reads in it is what the run did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "50/s", "--no-upload", "--metrics-file", "m.prom")


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """Every sample by its name, without the program's, and its labels' values."""
    families = text_string_to_metric_families(path.read_text())
    return {
        (sample.name.removeprefix("polygon_async_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_file_tells_what_the_run_did_and_when_one_went_well(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("QQ 1 status=503 1x", "BAD * status=404")
    path = program.directory / "m.prom"
    good = program("--tickers", "QQ", "NODATA", *RANGE, "--json", box=box)
    assert good.code == 0, good.err
    told, summary = samples(path), good.summary
    assert told["requests_total",] == summary["requests"] == 4
    assert (told["answers_total", "200"], told["answers_total", "503"]) == (3, 1)
    assert told["retries_total", "503"] == 1
    assert (told["bars_total",], told["csv_bytes_total",]) == (summary["bars"], summary["csv_bytes"])
    assert (told["tickers", "saved"], told["tickers", "no_data"], told["tickers", "waiting"]) == (1, 1, 0)
    assert (told["running",], told["exit_code",], told["allowed_requests_per_second",]) == (0, 0, 50)
    assert told["spent_seconds_total", "network"] > 0
    assert told["last_success_timestamp_seconds",] >= told["start_timestamp_seconds",]

    bad = program("--tickers", "BAD", *RANGE, box=box)
    assert bad.code == 1
    later = samples(path)
    assert later["exit_code",] == 1
    assert later["last_success_timestamp_seconds",] == told["last_success_timestamp_seconds",]


def test_a_metrics_file_that_cannot_be_written_is_told_first(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE[:-1], "none/m.prom", box=box)
    assert (ended.code, box.requests) == (2, [])
    said = "--metrics-file none/m.prom: cannot be written (No such file or directory)"
    assert ended.err == f"polygon-async: error: {said}\n"
