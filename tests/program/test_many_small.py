"""Many small tickers: they share runs of lzop, and processes of their own upload them; a kill changes nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from stored import decompressed, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 3)
TICKERS = [f"S{number}" for number in range(120)]
AT_ONCE = """
import sys
from polygon_async.store import delivery_pool
from polygon_async.__main__ import main
delivery_pool._MANY = 1
sys.exit(main())
"""
"""The program, but for how many uploads a second it takes until a process is started: a busy machine has fewer."""
OWN_SOCKETS = 3
"""Of a process that uploads nothing: to its parent, and its event loop's."""
FLAGS = ("--universe", "u.csv", "--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited", "--concurrency", "16")


def uploading(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a program has started, as soon as they have connections of their own to the store."""
    found: list[int] = []
    children: list[str] = []
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            children += task.read_text().split()
    for child in map(Path("/proc").joinpath, children):
        with contextlib.suppress(OSError):
            sockets = [entry for entry in (child / "fd").iterdir() if str(entry.readlink()).startswith("socket:")]
            # An lzop that is about to start has its parent's for a moment.
            is_ours = b"spawn_main" in (child / "cmdline").read_bytes()
            found += [int(child.name)] if is_ours and len(sockets) > OWN_SOCKETS else []
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("whose", ["its own", "the one that uploads"])
def test_a_kill_while_processes_upload_leaves_every_object_once(
    whose: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    (program.directory / "u.csv").write_text("\n".join(["ticker", *TICKERS]))
    with subprocess.Popen(
        [sys.executable, "-c", AT_ONCE, *FLAGS, "--processes", "1", "--no-reference"],
        cwd=program.directory,
        env=program.environment(box, {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (children := uploading(process)):
            assert process.poll() is None, "it ended before a process was started to upload"
        if whose == "its own":
            process.kill()
            process.wait()
        else:
            # As soon as it has something to do.
            os.kill(children[0], signal.SIGKILL)
            _, said = process.communicate()
            assert process.returncode == 0, said
    while any(Path(f"/proc/{child}").exists() for child in children):
        pass  # it ends with its parent, a moment later
    ended = program(*FLAGS, "--processes", "1", "--no-reference", "--json", box=box)
    assert ended.code == 0, ended.err
    objects = {item.tags["symbol"]: item for item in stored(box)}
    assert len(stored(box)) == len(objects) == len(TICKERS)
    for ticker in TICKERS[::20]:
        assert decompressed(objects[ticker]).decode() == csv_of(box.market.days(ticker, DAY, DAY))
    assert names(program.directory / "output") == sorted(f"{ticker}_historical.csv" for ticker in TICKERS)
