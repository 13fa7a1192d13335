"""What hangs has its time, is killed then, and is done once more; or its ticker fails by name, and the others go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from conftest import csv_of
from trouble_cases import download

from polygon_async.system import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from polygon_async.sandbox import Sandbox

SYMBOLS = ["AAPL", "MSFT", "QQ"]
FLAGS: dict[str, Any] = {"from": "2026-02-17", "processes": "2", "concurrency": "2"}


@contextlib.contextmanager
def stopping(box: Sandbox, after: int) -> Iterator[set[int]]:
    """Stop the processes that read pages, those that are there after so many requests."""
    stopped: set[int] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not (is_over.wait(0.001) or stopped):
            for child in multiprocessing.active_children() if len(box.requests) >= after else ():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGSTOP)
                    stopped.add(child.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield stopped
    finally:
        is_over.set()
        watcher.join()


async def test_processes_that_hang_cost_their_time_and_no_bar(
    sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 2.0)
    box = sandbox(page_size=6000)
    with stopping(box, after=4) as stopped:
        summary = await download(box, SYMBOLS, tmp_path, **FLAGS)
    assert summary.exit_code == 0
    assert stopped
    for symbol in SYMBOLS:
        truth = csv_of(box.market.days(symbol, summary.start, summary.end))
        assert (tmp_path / f"{symbol}_historical.csv").read_text() == truth
    assert len({request.path_qs for request in box.requests}) == len(box.requests), "nothing was asked for twice"
    assert [message for message in caplog.messages if message.endswith("took longer than 2 s; its process was killed")]
    assert multiprocessing.active_children() == []
