"""A run starts the processes that its pages need, and not one for each core before it has seen a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of
from trouble_cases import download

from polygon_async.system import processes
from polygon_async.system.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What each process was told to import, one for each that was started."""
    told: list[str | None] = []

    class Counted(Worker):
        def __init__(self, preload: str | None) -> None:
            told.append(preload)
            super().__init__(preload)

    monkeypatch.setattr(processes, "Worker", Counted)
    return told


@pytest.mark.parametrize(
    ("symbols", "size", "most"),
    [(["QQ"], None, 2), ([f"T{number}" for number in range(20)], 200, 2), (["AAPL", "MSFT", "QQ"], 6000, 3)],
    ids=["one small page", "many small pages", "three large tickers"],
)
async def test_a_run_starts_what_it_needs(
    symbols: list[str],
    size: int | None,
    most: int,
    started: list[str | None],
    sandbox: Callable[..., Sandbox],
    tmp_path: Path,
) -> None:
    box = sandbox(page_size=size)
    flags: dict[str, Any] = {"from": "2026-02-17", "processes": "16"}
    summary = await download(box, symbols, tmp_path, **flags)
    assert summary.exit_code == 0
    for symbol in symbols:
        truth = csv_of(box.market.days(symbol, summary.start, summary.end))
        assert (tmp_path / f"{symbol}_historical.csv").read_text() == truth
    assert 1 <= len(started) <= most


async def test_a_run_that_has_nothing_to_ask_starts_none(
    started: list[str | None], sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox()
    flags: dict[str, Any] = {"from": "2026-02-17", "processes": "16"}
    await download(box, ["QQ"], tmp_path, **flags)
    started.clear()
    assert (await download(box, ["QQ"], tmp_path, **flags)).exit_code == 0
    assert started == []


async def test_a_short_run_of_small_pages_starts_none(
    started: list[str | None], sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    assert (await download(sandbox(), ["QQ", "AAPL"], tmp_path, processes="16")).exit_code == 0
    assert started == []
