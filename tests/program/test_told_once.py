"""Trouble of many requests or tickers is told once, and ends a run that cannot succeed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited", "--no-upload")
TICKERS = tuple(f"T{number:02}" for number in range(30))


def test_the_same_trouble_of_many_requests_is_one_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* 1 status=429 1x")
    ended = program("--tickers", *TICKERS[:8], *RANGE, "--log-file", "log", "--log-level", "debug", box=box)
    assert ended.code == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if " WARNING " in line]
    assert len(warnings) == 1, warnings
    found = re.search(r"429 for (\d+) requests: waiting \d+\.\d s \(HTTP 429: ", warnings[0])
    assert found is not None
    each = re.findall(r"DEBUG +retry in .*\[GET ", (program.directory / "log").read_text())
    assert len(each) == int(found[1]) >= 2


def test_a_host_that_was_never_reached_ends_the_run(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """In the library's virtual time it takes 30 s (tests/polygon/test_outage.py); here, no patience is left."""
    box = sandbox()
    dead = {"POLYGON_BASE_URL": "http://127.0.0.1:9"}
    ended = program("--tickers", *TICKERS[:2], *RANGE, "--patience", "1", box=box, env=dead)
    assert ended.code == 1
    assert "no connection to 127.0.0.1" in ended.out


def failing(program: Program, box: Sandbox, *flags: str) -> tuple[int, str, dict[str, int]]:
    """Exit code, last line, and how the tickers ended."""
    ended = program("--tickers", *TICKERS, *RANGE, "--concurrency", "1", "--json", *flags, box=box)
    assert ended.err.count("Traceback") == 0
    return ended.code, ended.error, ended.summary["tickers"]


def test_a_number_of_failures_ends_the_run(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    troubles = [f"{ticker} 1 status=403" for ticker in (*TICKERS[1:5], *TICKERS[7:9])]
    box = sandbox(*troubles)
    code, said, counts = failing(program, box, "--max-failures", "5")
    assert code == 2
    assert "error: stopped after 5 tickers failed (--max-failures); the last: T07: HTTP 403" in said
    assert (counts["failed"], counts["done"], counts["unfinished"]) == (5, 3, 22)
    # The same command goes on, and stops again.
    code, said, counts = failing(program, box, "--fail-fast")
    assert "stopped at the first ticker that failed" in said
    assert (code, counts["failed"]) == (2, 1)
    code, _, counts = failing(program, box, "--max-failures", "unlimited")
    assert (code, counts["failed"], counts["done"]) == (1, 6, 24)


def test_all_failing_alike_is_a_matter_of_the_first_twenty(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* * status=404")
    code, said, counts = failing(program, box)
    assert (code, counts["failed"]) == (2, 20)
    assert "the first 20 tickers all failed in the same way" in said
    code, _, counts = failing(program, box, "--max-failures", "unlimited")
    assert (code, counts["failed"]) == (1, 30)


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_a_number_of_failures_that_cannot_be(program: Program, value: str) -> None:
    ended = program("--tickers", "QQ", "--max-failures", value, env={"POLYGON_API_KEY": "k" * 20})
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--max-failures" in ended.err


def test_failures_are_grouped_by_cause(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(*(f"{ticker} 1 status=404" for ticker in TICKERS[:5]), "T07 1 status=403")
    ended = program("--tickers", *TICKERS[:10], *RANGE, box=box)
    assert ended.code == 1
    lines = [line.strip() for line in ended.out.splitlines()]
    (grouped,) = [line for line in lines if line.startswith("failed ")]
    assert re.fullmatch(r"failed    5 tickers: HTTP 404: .*: T0\d(, T0\d){4}", grouped), grouped
    assert any(line.startswith("T07: HTTP 403: ") for line in lines)
    told = json.loads((program.directory / "output" / "report.json").read_text())
    assert [cause["tickers"] for cause in told["causes"]] == [5, 1]
