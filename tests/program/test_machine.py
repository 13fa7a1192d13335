"""What the machine refuses is one line that names it; what can be done without is done without."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 3)
RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited")
LINE = f"polygon-async --from {DAY} --to {DAY} --rate unlimited --no-reference"
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux keeps them")


def error_of(ended: Ended) -> str:
    """The one line that a program says which could not run."""
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    return ended.err.removeprefix("polygon-async: error: ").rstrip("\n")


def all_is_there(program: Program, box: Sandbox, tickers: list[str]) -> None:
    """Every ticker's bars are in its file."""
    output = program.directory / "output"
    assert names(output) == sorted(f"{ticker}_historical.csv" for ticker in tickers)
    for ticker in tickers:
        assert (output / f"{ticker}_historical.csv").read_text() == csv_of(box.market.days(ticker, DAY, DAY))


# Open files


def test_more_files_may_be_open_than_at_first(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """As on macOS, whose soft limit is 256."""
    box = sandbox("* * latency=0.5")
    tickers = [f"T{number}" for number in range(100)]
    line = f"ulimit -Sn 80; {LINE} --concurrency 100 --no-upload --processes 0 --tickers {' '.join(tickers)}"
    ended = program.in_shell(line, box=box)
    assert ended.code == 0, ended.err
    assert len(box.requests) == len(tickers), "none had to be asked for again"
    all_is_there(program, box, tickers)


@pytest.mark.parametrize(
    "command", [f"{LINE} --tickers QQ", f"{LINE} --tickers QQ --no-upload", "polygon-async universe"]
)
def test_a_concurrency_that_needs_more_files_than_allowed_is_refused(
    program: Program, sandbox: Callable[..., Sandbox], command: str
) -> None:
    box = sandbox()
    said = error_of(program.in_shell(f"ulimit -n 256; {command} --concurrency 1000", box=box))
    found = re.fullmatch(
        r"--concurrency 1000 needs up to [\d,]+ open files at once, and the system allows 256;"
        r" use --concurrency (\d+), or raise that limit \(ulimit -n\)",
        said,
    )
    assert found, said
    assert box.requests == []
    assert program.in_shell(f"ulimit -n 256; {command} --concurrency {found[1]}", box=box).code == 0


# Threads and processes


THREADS = "no more threads can be started; end others, or raise the limit (ulimit -u, or the container's PID limit)"


@pytest.mark.parametrize("upload", [["--no-upload"], []])
def test_a_system_without_threads_is_told(
    program: Program,
    sandbox: Callable[..., Sandbox],
    threads_allowed: Callable[[int], dict[str, str | None]],
    upload: list[str],
) -> None:
    box = sandbox()
    assert error_of(program("--tickers", "QQ", *RANGE, *upload, box=box, env=threads_allowed(0))) == THREADS
    assert box.requests == []


def test_few_threads_do_the_same_work(
    program: Program, sandbox: Callable[..., Sandbox], threads_allowed: Callable[[int], dict[str, str | None]]
) -> None:
    box = sandbox()
    tickers = [f"T{number}" for number in range(12)]
    # The ledger's, and one for all the rest.
    flags = ("--tickers", *tickers, *RANGE, "--no-upload", "--processes", "0")
    ended = program(*flags, box=box, env=threads_allowed(2))
    assert ended.code == 0, ended.err
    all_is_there(program, box, tickers)


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_a_run_that_lacks_a_thread_ends_well_or_stops(
    program: Program,
    sandbox: Callable[..., Sandbox],
    threads_allowed: Callable[[int], dict[str, str | None]],
    allowed: int,
) -> None:
    box = sandbox()
    tickers = [f"T{number}" for number in range(12)]
    flags = ("--tickers", *tickers, *RANGE)
    ended = program(*flags, box=box, env=threads_allowed(allowed))
    assert ended.code in (0, 2), ended.err
    assert "Traceback" not in ended.err
    if ended.code == 2:
        assert ended.error == f"polygon-async: error: {THREADS}"
        # The same command ends it.
        assert program(*flags, box=box).code == 0
    all_is_there(program, box, tickers)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_no_process_for_lzop_stops_the_run(
    program: Program,
    sandbox: Callable[..., Sandbox],
    refusing: Callable[..., dict[str, str | None]],
    processes: str,
) -> None:
    flags = ("--tickers", "QQ", "AAPL", *RANGE, "--processes", processes)
    ended = program(*flags, box=sandbox(), env=refusing(fork="EAGAIN", vfork="EAGAIN"))
    assert ended.code == 2, ended.err
    assert ended.error.startswith("polygon-async: error: no more processes can be started; end others, or raise")
    assert "Traceback" not in ended.err


# Places


@linux
def test_a_working_directory_that_is_gone_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    line = "mkdir gone; cd gone; rmdir ../gone; polygon-async --tickers QQ"
    said = error_of(program.in_shell(line, box=sandbox()))
    assert said == ("the working directory cannot be used (No such file or directory); cd to one that exists")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110 (a device)
@pytest.mark.parametrize("command", ["--tickers QQ", "universe", "verify"])
def test_a_log_file_without_room_is_told_first(program: Program, sandbox: Callable[..., Sandbox], command: str) -> None:
    box = sandbox()
    said = error_of(program(*command.split(), "--log-file", "/dev/full", box=box))
    assert said == "--log-file /dev/full: cannot be written (No space left on device)"
    assert box.requests == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_log_file_that_fails_later_is_given_up_in_one_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("* * latency=0.1")
    log = program.directory / "log"
    os.mkfifo(log)

    def read_one_line() -> None:
        with log.open() as lines:
            lines.readline()

    reader = threading.Thread(target=read_one_line)
    reader.start()
    flags = ("--tickers", *(f"T{number}" for number in range(8)), "--concurrency", "1", "--no-upload", *RANGE)
    ended = program(*flags, "--log-file", "log", "--quiet", box=box)
    reader.join()
    assert ended.code == 0, ended.err
    assert re.sub(r"^\S+ ERROR +", "", ended.err) == (
        f"--log-file {log} can no longer be written (Broken pipe); from now on, the log goes to standard error only\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110 (a device)
def test_the_exit_code_is_right_where_nothing_can_be_said(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    assert program.in_shell("polygon-async --tickers QQ --from tomorrow 2>/dev/full", box=sandbox()).code == 2


# File systems


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EBADF"])
def test_a_file_system_without_locks_is_told_with_the_way_out(
    program: Program, sandbox: Callable[..., Sandbox], refusing: Callable[..., dict[str, str | None]], name: str
) -> None:
    box = sandbox()
    said = error_of(program("--tickers", "QQ", *RANGE, box=box, env=refusing(flock=name)))
    assert said.startswith("output cannot be locked (")
    assert said.endswith(
        "): its file system, perhaps a network share, does not support locks; use an --output-dir on a local disk"
    )
    assert box.requests == []


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ({"fsync": "EINVAL", "fdatasync": "EINVAL"}, "refuses fsync; a power failure may lose finished files"),
        ({"utimensat": "EPERM"}, "refuses to set file dates; the same bars may give a different .lzo"),
    ],
    ids=["fsync", "utime"],
)
def test_what_a_file_system_never_does_is_done_without_and_said_once(
    program: Program,
    sandbox: Callable[..., Sandbox],
    refusing: Callable[..., dict[str, str | None]],
    calls: dict[str, str],
    said: str,
) -> None:
    box = sandbox()
    tickers = ["AAPL", "QQ", "T1", "T2"]
    ended = program("--tickers", *tickers, *RANGE, box=box, env=refusing(**calls))
    assert ended.code == 0, ended.err
    assert ended.err.count(f"output: its file system {said}\n") == 1
    all_is_there(program, box, tickers)


def test_a_disk_that_fails_to_sync_is_not_done_without(
    program: Program, sandbox: Callable[..., Sandbox], refusing: Callable[..., dict[str, str | None]]
) -> None:
    said = error_of(program("--tickers", "QQ", *RANGE, box=sandbox(), env=refusing(fsync="EIO", fdatasync="EIO")))
    assert said == "output cannot be written (Input/output error)"
