"""Many tickers with every trouble at random, uploads included: every outcome is right, and nothing is left open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from trouble_cases import DAY, LATER, LINES, SIZE, Case, download, lively_tickers

from polygon_async.model.states import OutcomeState
from polygon_async.polygon.pace import limiter, patience
from polygon_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from conftest import Program

    from polygon_async.sandbox.s3 import EmbeddedS3

TICKERS = 150
SEED = 20260303
PASSING = [line for line in LINES if "stall" not in line.trouble]
"""Without stalls: a machine that is busy with so many tickers stalls by itself, for longer than a test can wait."""
EMPTY = [f"NODATA{number}" for number in range(5)]


def drawn(count: int) -> Iterator[Case]:
    """So many tickers, each with a trouble of its own."""
    chance, symbols = random.Random(SEED), lively_tickers()
    while count:
        line, times = chance.choice(PASSING), chance.choice(["1x", ""])
        # One ticker that is sent away for seconds again and again keeps all the others waiting.
        if times or "rate429" not in line.trouble or "=" not in line.trouble:
            yield Case(line, chance.choice([1, LATER]), times, next(symbols))
            count -= 1


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 (names of files that may be gone already)


def objects(client: Any, bucket: str) -> dict[str, str]:
    """The decompressed objects of a bucket by their tickers."""
    found: dict[str, str] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            packed = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            unpacked = subprocess.run(["lzop", "-dc"], input=packed, capture_output=True, check=True).stdout
            assert found.setdefault(entry["Key"].split("/")[1], unpacked.decode()) == unpacked.decode()
    return found


@pytest.mark.timeout(300)
async def test_every_outcome_is_right_and_nothing_is_left(
    store: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "_LONGEST_UNTOLD_PAUSE", 0.01)
    monkeypatch.setattr(patience, "_REFUSALS_IN_A_ROW", 1)
    cases = list(drawn(TICKERS))
    bucket = store.create_bucket()
    with contextlib.closing(store.client()) as client:
        assert objects(client, bucket) == {}
    before = open_files()
    with Sandbox(troubles=[case.trouble for case in cases], page_size=SIZE, s3=store, bucket=bucket) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        symbols = [*(case.symbol for case in cases), *EMPTY]
        flags: dict[str, Any] = {
            "upload": True,
            "concurrency": "32",
            "patience": "2",
            "bucket": bucket,
        }
        summary = await download(box, symbols, tmp_path, **flags)
        requests = box.requests

    # Every outcome is right.
    states = {outcome.unit.ticker.symbol: outcome.state for outcome in summary.outcomes}
    reasons = {outcome.unit.ticker.symbol: outcome.error for outcome in summary.failed}
    whole = {case.symbol: case.csv() for case in cases if case.way.state is OutcomeState.SAVED}
    expected = {case.symbol: OutcomeState.UPLOADED if case.symbol in whole else case.way.state for case in cases}
    assert states == expected | dict.fromkeys(EMPTY, OutcomeState.NO_DATA), reasons
    assert (summary.exit_code, summary.error, len(summary.outcomes)) == (1, None, len(symbols))
    for case in cases:
        if case.way.state is OutcomeState.FAILED:
            assert case.line.words in (reasons[case.symbol] or "")
    assert summary.counters.requests == len(requests)

    # What is there is the truth.
    files = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
    assert set(files) == {*(f"{symbol}_historical.csv" for symbol in whole), "failed.csv", "no_data.csv"}
    assert {symbol: files[f"{symbol}_historical.csv"] for symbol in whole} == whole
    with contextlib.closing(store.client()) as client:
        assert objects(client, bucket) == whole
        assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    listed = {line.split(",")[0] for line in files["failed.csv"].splitlines()[1:]}
    assert listed == set(reasons)

    # Nothing is left open.
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("offload")]
    # The store's own threads close their ends when they notice that ours are closed.
    async with asyncio.timeout(20):
        while open_files() > before:  # noqa: ASYNC110 (nobody tells when the last one is closed)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(2))
async def test_windows_side_by_side_bring_the_truth_or_a_failure(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "_LONGEST_UNTOLD_PAUSE", 0.01)
    chance = random.Random(seed)
    # Which bars a page holds depends on the windows, so no trouble that changes what the truth is.
    told = [line for line in PASSING if line.changed is None and line.ever.whole and "=1" not in line.trouble]
    healing = [line for line in told if line.once.state is OutcomeState.SAVED and line.first is None]
    good, bad = [f"G{number}" for number in range(5)], [f"B{number}" for number in range(5)]
    troubles = [f"{symbol} {page} {chance.choice(healing).trouble} 1x" for symbol in good for page in (1, 2, 3)]
    troubles += [f"{symbol} {chance.randint(1, 3)} {chance.choice(told).trouble}" for symbol in bad]
    with Sandbox(troubles=troubles, page_size=50) as box:
        flags: dict[str, Any] = {"from": "2026-03-02", "concurrency": "32", "patience": "4"}
        summary = await download(box, [*good, *bad], tmp_path, side_by_side=True, **flags)
        truth = {symbol: csv_of(box.market.days(symbol, summary.start, summary.end)) for symbol in (*good, *bad)}
        firsts = sum("limit=" in request.path_qs for request in box.requests)
    assert firsts > 2 * len(truth), "nothing was fetched in windows"
    done = {outcome.unit.ticker.symbol for outcome in summary.done}
    assert {path.name.partition("_")[0] for path in tmp_path.glob("*_historical.csv")} == done
    assert {symbol: (tmp_path / f"{symbol}_historical.csv").read_text() for symbol in done} == {
        symbol: truth[symbol] for symbol in done
    }
    failed = {outcome.unit.ticker.symbol: outcome.error for outcome in summary.failed}
    assert set(good) <= done, failed
    assert set(failed) == set(bad) - done
    assert asyncio.all_tasks() == {asyncio.current_task()}


def peak_memory(program: Program, box: Sandbox, tickers: int) -> int:
    """What a run over so many tickers takes at most, in the system's unit."""
    universe = program.directory / "universe.csv"
    universe.write_text("ticker\n" + "".join(f"M{number}\n" for number in range(tickers)))
    flags = ["--universe", str(universe), "--output-dir", f"of{tickers}", "--no-upload", "--concurrency", "32"]
    days = ["--from", str(DAY), "--to", str(DAY), "--rate", "unlimited", "--patience", "5"]
    with program.running(*flags, *days, "--log-level", "error", box=box) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert len(list((program.directory / f"of{tickers}").glob("*_historical.csv"))) == tickers
    return usage.ru_maxrss


def test_memory_stays_flat_however_many_tickers_there_are(program: Program) -> None:
    with Sandbox(page_size=200, troubles=["* 1 status=503 1x", "* 2 reset 1x"]) as box:
        assert peak_memory(program, box, 300) < 1.2 * peak_memory(program, box, 50)
