"""What hangs has its time, is killed then, and is done once more; or its ticker fails by name, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of
from stored import LZOP, csv_file, decompressed, stored
from trouble_cases import download

from polygon_async.run import fetch, local, unit
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.store import delivery, digests
from polygon_async.store.packing import Packer
from polygon_async.system import limits, threads
from polygon_async.system.redaction import Redactor
from polygon_async.system.threads import Threads
from polygon_async.verify.run import Wanted, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 3.0)
    box = sandbox(page_size=6000)
    with stopping(box, after=4) as stopped:
        summary = await download(box, SYMBOLS, tmp_path, **FLAGS)
    assert summary.exit_code == 0
    assert stopped
    for symbol in SYMBOLS:
        truth = csv_of(box.market.days(symbol, summary.start, summary.end))
        assert (tmp_path / f"{symbol}_historical.csv").read_text() == truth
    assert len({request.path_qs for request in box.requests}) == len(box.requests), "nothing was asked for twice"
    assert [message for message in caplog.messages if message.endswith("took longer than 3 s; its process was killed")]
    assert multiprocessing.active_children() == []


def install_lzop(
    directory: Path, arguments: str, times: int, monkeypatch: pytest.MonkeyPatch, *, after: int = 0
) -> None:
    """An lzop, first on the PATH, that stands still for so many calls whose arguments look like this.

    It does so after the first ones, which are those of the check at the start.
    """
    hung, passed = directory / "hung", directory / "passed"
    hung.mkdir(parents=True)
    passed.mkdir()
    command = directory / "lzop"
    command.write_text(
        f"""#!/bin/bash
if [[ "$*" == {arguments} ]]; then
    if (( $(ls {passed} | wc -l) < {after} )); then touch {passed}/$$
    elif (( $(ls {hung} | wc -l) < {times} )); then touch {hung}/$$; sleep 1000; fi
fi
exec {LZOP} "$@"
"""
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def living() -> set[str]:
    """The groups of all processes that are not dead, where the system tells."""
    groups = set()
    for told in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group, *_ = told.read_text().rpartition(")")[2].split()
            groups |= set() if state in "ZX" else {group}
    return groups


@pytest.mark.parametrize(("act", "arguments"), [("compressing", '"-f "*AAPL_*'), ("testing", '"-t "*AAPL_*')])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_lzop_that_hangs_is_killed_and_run_once_more(
    times: int,
    act: str,
    arguments: str,
    sandbox: Callable[..., Sandbox],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 3.0)
    install_lzop(tmp_path / "bin", arguments, times, monkeypatch)
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    flags: dict[str, Any] = {"upload": True, "bucket": box.bucket, "patience": "30", "concurrency": "1"}
    summary = await download(box, SYMBOLS, tmp_path / "output", **flags)
    killed = f"lzop took longer than 3 s while {act} AAPL_historical.csv, and was killed"
    assert [message for message in caplog.messages if message.startswith("lzop took")] == [killed] * times
    uploaded = {item.tags["symbol"] for item in stored(box)}
    assert len({decompressed(item) for item in stored(box)}) == len(uploaded)
    told = {outcome.unit.ticker.symbol: outcome.error for outcome in summary.failed}
    if times == 1:
        assert (uploaded, told) == (set(SYMBOLS), {})
    else:
        assert uploaded == {"MSFT", "QQ"}
        assert told == {"AAPL": f"lzop took longer than 3 s while {act} AAPL_historical.csv, twice"}
    assert not list((tmp_path / "output").glob("*.lzo"))
    assert not living() & {mark.name for mark in (tmp_path / "bin" / "hung").iterdir()}


async def test_an_lzop_that_hangs_over_many_files_holds_up_none_of_them(
    sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 3.0)
    install_lzop(tmp_path / "bin", '"-f -p"*', 1, monkeypatch)
    sources = {name: tmp_path / f"{name}_historical.csv" for name in ("A", "B", "C")}
    for name, source in sources.items():
        source.write_text(f"{name}\n" * 1000)
    csvs = [csv_file(source) for source in sources.values()]
    async with Threads(4) as offload:
        pack = Packer(str(tmp_path / "bin" / "lzop"), offload=offload)
        targets = [source.with_name(f"{source.name}.lzo") for source in sources.values()]
        both = await asyncio.gather(*map(pack, csvs, targets))
        again = await asyncio.gather(*map(pack, csvs, targets))
    assert both == [None, None, None]
    killed = "lzop took longer than 3 s while compressing A_historical.csv and others, and was killed"
    assert [message for message in caplog.messages if message.startswith("lzop took")] == [killed]
    assert [content and unpacked(content) for content in again] == [source.read_bytes() for source in sources.values()]
    assert not list(tmp_path.glob("*.lzo"))


def unpacked(content: bytes) -> bytes:
    return subprocess.run([LZOP, "-dc"], input=content, capture_output=True, check=True).stdout


async def test_an_lzop_that_hangs_over_an_object_is_a_finding(
    sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    directory = tmp_path / "output"
    await download(box, SYMBOLS, directory, upload=True, bucket=box.bucket)
    monkeypatch.setattr(limits, "_LEAST_SECONDS", 3.0)
    install_lzop(tmp_path / "bin", '"-dc"', 1, monkeypatch, after=1)
    flags = {"patience": "1", "concurrency": "1", "output_dir": str(directory), "bucket": box.bucket}
    settings = settings_from(flags, Environment(box.environment, {}))
    found = await verify(Wanted(settings=settings, deep=True), redact=Redactor([box.api_key]))
    (finding,) = found.findings
    assert (str(finding.kind), finding.text) == ("unreadable", "it could not be read within 3 s")
    assert len(found.checked) == len(SYMBOLS)


@pytest.mark.parametrize(
    ("module", "step", "told"),
    [
        (local, "find_history", "reading {}/QQ_historical.csv has taken"),
        (fetch, "finish", "finishing {}/QQ_2026-03-04_2026-03-04_adjusted.csv.part has taken"),
        (unit, "extended", "extending {}/QQ_historical.csv has taken"),
        (digests, "_digests_of", "hashing {}/QQ_historical.csv.lzo has taken"),
        (unit, "holds", "reading {}/QQ_historical.csv has taken"),
    ],
)
async def test_a_disk_that_hangs_is_told_with_the_file(
    sandbox: Callable[..., Sandbox],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    told: str,
) -> None:
    """Each step goes on when it was told, and not before."""
    box, directory, event = sandbox(), tmp_path / "output", threading.Event()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    assert (await download(box, ["QQ"], directory)).exit_code == 0
    real, begin = getattr(module, step), told.format(directory)

    def hang(*arguments: Any, **more: Any) -> Any:
        assert event.wait(30), begin
        return real(*arguments, **more)

    monkeypatch.setattr(module, step, hang)
    monkeypatch.setattr(threads, "seconds_for", lambda _: 0.0)
    monkeypatch.setattr(delivery, "MOST_BYTES", 0)  # what is compressed together with others is hashed in memory
    monkeypatch.setattr(
        threads.log, "warning", lambda text, *facts: event.set() if (text % facts).startswith(begin) else None
    )
    following: dict[str, Any] = {
        "from": "2026-03-04",
        "to": "2026-03-04",
        "upload": True,
        "bucket": box.bucket,
        "keep_csv": True,
    }
    summary = await download(box, ["QQ"], directory, **({} if step == "holds" else following), patience="30")
    assert (summary.exit_code, event.is_set()) == (0, True)
