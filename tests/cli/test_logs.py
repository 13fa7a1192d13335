"""Logs: JSON lines that say what happened to whom, a file beside standard error, silence where it is asked for."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from polygon_async.cli.logs import JsonFormatter
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited", "--no-upload")


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_tell_what_happened_to_whom(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("QQ 1 status=503 1x", "BAD * status=404")
    flags = ("--log-format", "json", "--log-file", "log.jsonl", "--quiet")
    ended = program("--tickers", "QQ", "BAD", *RANGE, *flags, box=box)
    assert ended.code == 1
    told = lines((program.directory / "log.jsonl").read_text())
    assert all({"time", "level", "event", "message", "run"} <= set(line) for line in told)
    assert len({line["run"] for line in told}) == 1
    events = {line["event"]: line for line in told}
    assert events["run_started"]["tickers"] == 2
    assert (events["retry"]["ticker"], events["retry"]["reason"]) == ("QQ", "503")
    assert (events["ticker_done"]["ticker"], events["ticker_done"]["state"]) == ("QQ", "saved")
    assert events["ticker_done"]["bars"] > 0
    failed = events["ticker_failed"]
    assert (failed["ticker"], failed["level"]) == ("BAD", "error")
    assert "HTTP 404" in failed["error"]
    assert (events["run_ended"]["exit_code"], events["run_ended"]["requests"]) == (1, 3)
    # Quiet is about standard error, and lets failures through.
    assert [line["event"] for line in lines(ended.err)] == ["ticker_failed"]
    assert ended.out.startswith("1 of 2 tickers done")

    again = program("--tickers", "QQ", *RANGE, "--log-file", "log.jsonl", "--quiet", "--force", box=box)
    assert (again.code, again.err) == (0, "")
    whole = (program.directory / "log.jsonl").read_text()
    assert whole.startswith(json.dumps(told[0], ensure_ascii=False)), "appended, never written over"
    assert "QQ saved" in whole.splitlines()[-1]


def test_a_log_file_that_cannot_be_written_is_told_first(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE, "--log-file", "none/log", box=box)
    assert (ended.code, box.requests) == (2, [])
    assert ended.err == ("polygon-async: error: --log-file none/log: cannot be written (No such file or directory)\n")


@pytest.mark.parametrize("name", ["polygon_async.x", "botocore"])
def test_no_secret_passes_in_a_message_a_fact_or_a_traceback(name: str) -> None:
    formatter = JsonFormatter(Redactor(["s3cr3t/key"]))
    error = ValueError("s3cr3t/key")
    said = "say %s (request_id 77) [GET /v2/aggs/ticker/X:BTCUSD/range]"
    record = logging.LogRecord(name, logging.ERROR, "x.py", 1, said, ("s3cr3t/key",), (type(error), error, None))
    record.facts = {"key": "a s3cr3t/key", "count": 3}
    text = formatter.format(record)
    assert "s3cr3t" not in text
    told = json.loads(text)
    assert (told["count"], told["request_id"], told["ticker"]) == (3, "77", "X:BTCUSD")
    assert told.get("logger") == (None if name.startswith("polygon") else name)
