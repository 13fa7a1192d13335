"""Processes that upload: what they do is what one would do here, and their ends cost no object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from door import Answered, Arrived, door, is_object_put, refusal
from proxy import Fault, proxy
from stored import LZOP, decompressed, stored

from polygon_async.errors import StorageUnusable
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import CsvFile, Unit
from polygon_async.store import delivery_pool
from polygon_async.store.bucket import open_bucket
from polygon_async.store.delivery import Delivery
from polygon_async.store.delivery_pool import DeliveryPool
from polygon_async.store.upload import Uploader
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from polygon_async.model.units import Receipt
    from polygon_async.sandbox import Sandbox
    from polygon_async.store.objects import ObjectDescription

COLLECTED = datetime(2026, 3, 4, 1, 2, tzinfo=UTC)
DAY = date(2026, 3, 3)


@pytest.fixture
def box(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    box = sandbox()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    # The first delivery starts a process, and more than two in flight another one.
    monkeypatch.setattr(delivery_pool, "_MANY", 1)
    monkeypatch.setattr(delivery_pool, "_JOBS_FOR_ONE", 2)
    return box


def csv_of(directory: Path, name: str) -> tuple[Unit, CsvFile]:
    """A unit, and a small CSV for it."""
    path = directory / f"{name}_historical.csv"
    content = f"{name},1,2,3\n".encode() * 300
    path.write_bytes(content)
    ticker = Ticker(name, AssetType.STOCKS, "NYSE", "USD")
    csv = CsvFile(
        path=path,
        bars=300,
        first=1772548200000,
        last=1772548200000,
        duplicates=0,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return Unit(ticker=ticker, start=DAY, end=DAY, adjusted=True), csv


@contextlib.asynccontextmanager
async def pool_for(box: Sandbox, directory: Path, *, most: int = 1, lzop: str = LZOP) -> AsyncIterator[DeliveryPool]:
    async with Threads(4) as offload, open_bucket(box.bucket, connections=8) as bucket:
        local = Delivery(
            uploader=Uploader(bucket, offload=offload),
            lzop=lzop,
            directory=directory,
            offload=offload,
            replace=False,
            patience=30.0,
        )
        async with (
            DeliveryPool(local, most=most, expected=10_000, connections=8, on_secret=lambda _: None) as pool,
            asyncio.timeout(60),
        ):
            yield pool


async def deliver(pool: DeliveryPool, directory: Path, name: str) -> tuple[Receipt, ObjectDescription]:
    unit, csv = csv_of(directory, name)
    return await pool(unit, csv, collected=COLLECTED, on_stage=lambda _: None)


async def started(pool: DeliveryPool, directory: Path, name: str = "FIRST") -> int:
    """Deliver one file here, which starts a process, and wait for that; returns its number."""
    await deliver(pool, directory, name)
    [process] = pool._processes
    await process.has_started.wait()
    assert process.is_ready
    assert process._child is not None
    number = process._child._process.pid
    assert number is not None
    return number


async def test_what_a_process_delivers_is_what_is_delivered_here(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    names = [f"T{number}" for number in range(40)]
    async with pool_for(box, tmp_path, most=2) as pool:
        await started(pool, tmp_path)
        found = await asyncio.gather(*(deliver(pool, tmp_path, name) for name in names))
        assert len(pool._processes) == 2
        assert pool._local.seconds["upload"] > 0
    assert {receipt.key for receipt, _ in found} == {item.key for item in stored(box)} - {
        item.key for item in stored(box) if item.tags["symbol"] == "FIRST"
    }
    for item in stored(box):
        assert decompressed(item) == (tmp_path / f"{item.tags['symbol']}_historical.csv").read_bytes()
        assert len(item.tags) == 8
    assert not list(tmp_path.glob("*.lzo"))


async def test_a_process_that_is_killed_takes_no_object_with_it(box: Sandbox, tmp_path: Path) -> None:
    names = [f"T{number}" for number in range(20)]
    async with pool_for(box, tmp_path) as pool:
        number = await started(pool, tmp_path)
        deliveries = [asyncio.create_task(deliver(pool, tmp_path, name)) for name in names]
        await deliveries[0]
        os.kill(number, signal.SIGKILL)
        await asyncio.gather(*deliveries)
    assert {item.tags["symbol"] for item in stored(box)} == {"FIRST", *names}
    assert len(stored(box)) == len(names) + 1
    assert not list(tmp_path.glob("*.lzo"))


async def test_a_process_that_says_nothing_is_killed(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery_pool, "_SECONDS_BETWEEN_LOOKS", 0.5)
    monkeypatch.setattr(delivery_pool, "_SECONDS_OF_SILENCE", 2.0)
    async with pool_for(box, tmp_path) as pool:
        os.kill(await started(pool, tmp_path), signal.SIGSTOP)
        await deliver(pool, tmp_path, "AAPL")
    assert {item.tags["symbol"] for item in stored(box)} == {"FIRST", "AAPL"}
    assert "the process uploading AAPL has died; uploading it again" in caplog.text


def is_over(pid: int) -> bool:
    """Whether a process has ended, buried or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_lzop_ends_with_the_process_that_has_started_it(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would write the file that is compressed once more meanwhile."""
    command, told = tmp_path / "lzop", tmp_path / "told"
    os.mkfifo(told)
    waits = (
        f'case "$*" in *AAPL*) mkdir {tmp_path}/first 2>/dev/null && {{ echo $$ > {told}; exec sleep 1000; }};; esac'
    )
    command.write_text(f'#!/bin/sh\n{waits}\nexec {LZOP} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setattr(delivery_pool, "_MOST_LOST", 1)
    async with pool_for(box, tmp_path, lzop=str(command)) as pool, Threads(1) as thread:
        number = await started(pool, tmp_path)
        delivery = asyncio.create_task(deliver(pool, tmp_path, "AAPL"))
        lzop = int(await thread(told.read_text))
        os.kill(number, signal.SIGKILL)
        await delivery
        if sys.platform == "linux":
            assert is_over(lzop)
        assert not pool._most, "one process was lost, and no more are started"
        await deliver(pool, tmp_path, "QQ")
    assert {item.tags["symbol"] for item in stored(box)} == {"FIRST", "AAPL", "QQ"}
    assert not list(tmp_path.glob("*.lzo"))


async def test_a_process_that_gets_no_credentials_says_so_in_one_line(
    box: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    async with pool_for(box, tmp_path) as pool:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        await deliver(pool, tmp_path, "A")
        [process] = pool._processes
        await process.has_started.wait()
        await deliver(pool, tmp_path, "B")
    assert "uploading from this process, as no others can be started (" in caplog.text
    assert "Traceback" not in capfd.readouterr().err
    assert {item.tags["symbol"] for item in stored(box)} == {"A", "B"}


async def test_what_is_given_up_leaves_nothing(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(where=rb"PUT [^ ]*AAPL", stall_after=100, times=1000)
    async with proxy(box.environment["AWS_ENDPOINT_URL_S3"], fault) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        async with pool_for(box, tmp_path) as pool:
            await started(pool, tmp_path)
            given_up = asyncio.create_task(deliver(pool, tmp_path, "AAPL"))
            await fault.happened.wait()
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert not pool._processes[0].jobs
            # It goes on to serve the others.
            await deliver(pool, tmp_path, "QQ")
            assert pool._processes[0].is_ready
    assert {item.tags["symbol"] for item in stored(box)} == {"FIRST", "QQ"}
    assert not list(tmp_path.glob("*.lzo"))


async def test_errors_and_log_lines_come_from_a_process_as_from_here(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    full = False

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if is_object_put(asked) and full:
            return refusal(507, "XMinioStorageFull")
        if is_object_put(asked) and "If-None-Match" in asked.headers:
            return refusal(501, "NotImplemented")
        return forward()

    with door(box.environment["AWS_ENDPOINT_URL_S3"], rule) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        async with pool_for(box, tmp_path) as pool:
            await started(pool, tmp_path)
            await deliver(pool, tmp_path, "QQ")
            full = True
            with pytest.raises(StorageUnusable, match="full"):
                await deliver(pool, tmp_path, "AAPL")
    told = [message for message in caplog.messages if "does not support conditional writes" in message]
    assert 1 <= len(told) <= 2, "here, and once from elsewhere"
    assert not list(tmp_path.glob("*.lzo"))


async def test_without_a_process_all_is_delivered_here(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(delivery_pool, "Child", refuse)
    async with pool_for(box, tmp_path) as pool:
        for name in ("A", "B", "C"):
            await deliver(pool, tmp_path, name)
    assert {item.tags["symbol"] for item in stored(box)} == {"A", "B", "C"}
    assert "uploading from this process, as no others can be started (no more processes)" in caplog.text
