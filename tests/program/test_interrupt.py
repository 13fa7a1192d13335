"""Ctrl-C and SIGTERM at any moment: what is said, what stays and what goes."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from door import Answered, Arrived, door, is_object_put, refusal
from interrupting import interrupted
from stored import LZOP, decompressed, stored
from waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

DAY = dt.date(2026, 3, 2)
RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited")
PASSING_THE_CHECK = f'case "$*" in *lzop-check*|-dc) exec "{LZOP}" "$@";; esac\n'
"""How a script that is called lzop gets through the check at the start."""


def wait_until_said(process: subprocess.Popen[str], *words: str) -> None:
    """Return as soon as a program has logged all of these."""
    assert process.stderr is not None
    said = b""
    while not all(word.encode() in said for word in words):
        # Past the stream's buffer, so that communicate() finds all the rest.
        more = os.read(process.stderr.fileno(), 65536)
        assert more, said
        said += more


class Gate:
    """A pipe in the place of a file: whoever reads it waits until it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()
        self._pipe: int | None = None

    def stand(self) -> None:
        """Take the file's place."""
        pipe = self._path.with_name("pipe")
        os.mkfifo(pipe)
        pipe.replace(self._path)

    def is_reached(self) -> bool:
        """Whether somebody waits."""
        with contextlib.suppress(OSError):
            self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        return self._pipe is not None

    def open(self) -> None:
        """Let them read what was there before."""
        assert self._pipe is not None
        os.write(self._pipe, self._content)
        os.close(self._pipe)


def assert_clean(directory: Path) -> None:
    """Nothing is left but whole files, and parts that can be gone on with."""
    assert [name for name in names(directory) if not name.endswith((".csv", ".csv.part"))] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_downloading_keeps_what_is_done(
    program: Program, sandbox: Callable[..., Sandbox], number: signal.Signals
) -> None:
    box = sandbox("STUCK 2 stall", "HALF 2 stall_body", page_size=100)
    tickers = ["QQ", "STUCK", "HALF", "NODATA"]
    output = program.directory / "output"
    with program.running("--tickers", *tickers, "--concurrency", "3", *RANGE, box=box) as process:
        wait_until_said(process, "QQ uploaded", "NODATA no data")
        wait_until(lambda: {("STUCK", 2), ("HALF", 2)} <= {(r.ticker, r.page) for r in box.requests}, process)
        out, _ = interrupted(process, number)
    assert re.match(r"1 of 4 tickers done, 1 without data, 2 not finished, in \d+\.\d s ", out)
    assert_clean(output)
    assert (output / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))
    assert not (output / "STUCK_historical.csv").exists()
    assert [item.tags["symbol"] for item in stored(box)] == ["QQ"]
    left = (output / "failed.csv").read_text()
    assert "STUCK,not finished: interrupted\n" in left
    assert "HALF,not finished: interrupted\n" in left

    box.set_troubles([])
    # The last line of the summary is the whole command, ready to paste.
    title, _, line = out.splitlines()[-1].strip().partition(" ")
    assert (title, line.split()[0]) == ("again", "polygon-async")
    again = program.in_shell(line, box=box)
    assert again.code == 0, again.err
    assert (output / "STUCK_historical.csv").read_text() == csv_of(box.market.days("STUCK", DAY, DAY))
    assert sorted(item.tags["symbol"] for item in stored(box)) == ["HALF", "QQ", "STUCK"]


def test_an_interrupt_while_everybody_waits_ends_at_once(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* * rate429=3600")
    tickers = [f"T{count}" for count in range(10)]
    arguments = ("--tickers", *tickers, "--json", *RANGE[:-1], "1/h")
    with program.running(*arguments, "--log-level", "error", box=box) as process:
        wait_until(lambda: bool(box.requests), process)
        out, err = interrupted(process, signal.SIGINT)
    assert err == "polygon-async: interrupted; run the same command again to resume\n"
    assert '"exit_code": 130, "error": null, "interrupted": true' in out
    assert '"unfinished": ["T0", "T1", ' in out
    assert_clean(program.directory / "output")


def test_an_interrupt_during_an_upload_leaves_no_compressed_file(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box, output = sandbox(), program.directory / "output"
    arrived, leave = threading.Event(), threading.Event()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if is_object_put(asked) and "/STUCK/" in asked.path:
            arrived.set()
            leave.wait()
            return refusal(503, "SlowDown")
        return forward()

    with door(store.endpoint, rule) as endpoint:
        arguments = ("--tickers", "QQ", "STUCK", "--no-keep-csv", *RANGE)
        with program.running(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint}) as process:
            wait_until_said(process, "QQ uploaded")
            wait_until(arrived.is_set, process)
            assert not (output / "QQ_historical.csv").exists()
            out, _ = interrupted(process, signal.SIGINT)
        leave.set()
    assert out.startswith("1 of 2 tickers done, 1 not finished, in ")
    assert names(output) == ["STUCK_historical.csv", "failed.csv"]
    assert (output / "STUCK_historical.csv").read_text() == csv_of(box.market.days("STUCK", DAY, DAY))
    (item,) = stored(box)
    assert decompressed(item).decode() == csv_of(box.market.days("QQ", DAY, DAY))


@pytest.mark.parametrize("how", ["exec ", ""], ids=["lzop", "a script around it"])
def test_an_interrupt_during_lzop_ends_lzop_too(how: str, program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    told = program.directory / "process"
    sleep = shutil.which("sleep")
    command.write_text(
        f'#!/bin/sh\n{PASSING_THE_CHECK}echo half > "$3"\necho $$ > {told}.new\n'
        f"mv {told}.new {told}\n{how}{sleep} 1000\n"
    )
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    with program.running("--tickers", "QQ", *RANGE, box=box, env={"PATH": path}) as process:
        wait_until(told.exists, process)
        assert (output / "QQ_historical.csv.lzo").exists()
        interrupted(process, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert_clean(output)
    assert (output / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))
    assert stored(box) == []


def test_a_second_interrupt_is_no_traceback(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* 1 stall")
    with program.running("--tickers", "QQ", "AAPL", *RANGE, box=box) as process:
        wait_until(lambda: len(box.requests) == 2, process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        interrupted(process, signal.SIGINT)
    assert_clean(program.directory / "output")


def test_an_interrupt_while_the_run_is_summed_up_ends_it_and_the_next_run_does_the_rest(
    program: Program, sandbox: Callable[..., Sandbox], calendar: Path
) -> None:
    box, output = sandbox(), program.directory / "output"
    sessions = Path(os.environ["XDG_CACHE_HOME"], "polygon_async", calendar.name)
    arguments = ("--tickers", "QQ", "NODATA", "--no-upload", *RANGE)
    first, second = Gate(sessions), Gate(sessions)
    first.stand()
    with program.running(*arguments, box=box) as process:
        wait_until(first.is_reached, process)  # as the run begins
        second.stand()
        first.open()
        wait_until(second.is_reached, process)  # as gaps are looked for: every ticker has ended
        process.send_signal(signal.SIGTERM)
        shutil.copy(calendar, sessions.with_name("whole"))
        sessions.with_name("whole").replace(sessions)
        second.open()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted while looking for gaps: none appear in the summary or report" in err
    assert re.match(r"1 of 2 tickers done, 1 without data, in \d+\.\d s ", out)
    assert "failed.csv" not in out, "nothing is left to be run again"
    assert names(output) == ["QQ_historical.csv", "no_data.csv"]
    report = json.loads((output / "report.json").read_text())
    assert (report["interrupted"], report["coverage"]["of"], report["tickers"]["done"]) == (True, 0, 1)
    assert [run["state"] for run in program("status", "--json").summary["runs"]] == ["interrupted"]

    again = program(*arguments, "--json", box=box)
    assert again.code == 0, again.err
    (done,) = again.summary["done"]
    assert (done["earlier"], done["sessions"]["with_bars"]) == (True, 1)
    assert [run["state"] for run in program("status", "--json").summary["runs"]] == ["done"]


def test_an_interrupt_before_anything_is_fetched_says_so(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    arrived, leave = threading.Event(), threading.Event()

    def rule(_asked: Arrived, _forward: Callable[[], Answered]) -> Answered:
        arrived.set()
        leave.wait()
        return refusal(503, "SlowDown")

    with door(store.endpoint, rule) as endpoint:
        with program.running("--tickers", "QQ", *RANGE, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint}) as process:
            wait_until(arrived.is_set, process)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=15)
        leave.set()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("polygon-async: interrupted")
    assert "Traceback" not in err
    assert box.requests == []


def test_a_second_signal_leaves_at_once_and_the_next_run_goes_on(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    """Whatever hangs: here the store, which never answers, and lzop before it."""
    box, output = sandbox(page_size=300), program.directory / "output"
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    told, sleep = program.directory / "process", shutil.which("sleep")
    command.write_text(
        f"#!/bin/sh\n{PASSING_THE_CHECK}trap '' TERM INT\necho $$ > {told}.new\nmv {told}.new {told}\n{sleep} 1000\n"
    )
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    arguments = ("--tickers", "QQ", *RANGE)
    with program.running(*arguments, box=box, env={"PATH": path}) as process:
        wait_until(told.exists, process)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith("run the same command again to resume")
    requests = len(box.requests)
    again = program(*arguments, "--json", box=box)
    assert again.code == 0, again.err
    assert len(box.requests) == requests, "the CSV was whole"
    assert names(output) == ["QQ_historical.csv"]
    assert [item.tags["symbol"] for item in stored(box)] == ["QQ"]
