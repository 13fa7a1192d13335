"""A run stops before the disk is full, and goes on where there is room again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from trouble_cases import DAY, download

from polygon_async.errors import DiskUnusable
from polygon_async.run.directory import space_needed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox


class Disk:
    """Tells of so much room at each look; of the last one again and again."""

    def __init__(self, *free: int) -> None:
        self._free = list(free)

    def __call__(self, _path: object) -> shutil._ntuple_diskusage:
        free = self._free.pop(0) if len(self._free) > 1 else self._free[0]
        return shutil._ntuple_diskusage(2**40, 2**40 - free, free)


async def test_too_little_room_is_told_before_anything_is_asked(
    sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = sandbox()
    monkeypatch.setattr(shutil, "disk_usage", Disk(space_needed(16) - 1))
    with pytest.raises(DiskUnusable, match=r"nearly full .* MB are free, 168 MB are needed"):
        await download(box, ["QQ"], tmp_path)
    assert box.requests == []


async def test_a_disk_that_fills_up_stops_the_run_which_then_goes_on(
    sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = sandbox("QQ 2 stall", page_size=100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", Disk(2**40, 2**40, 2**20))
        summary = await download(box, ["QQ"], tmp_path)
    assert summary.exit_code == 2
    assert "nearly full" in (summary.error or "")
    assert any(name.endswith(".part") for name in names(tmp_path)), "what is whole can be gone on with"
    box.set_troubles([])
    begun = len(box.requests)
    assert (await download(box, ["QQ"], tmp_path)).exit_code == 0
    assert (tmp_path / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))
    pages = -(-len(box.market.days("QQ", DAY, DAY)) // 100)
    assert len(box.requests) - begun == pages - 1, "only the rest was asked for"
    assert names(tmp_path) == ["QQ_historical.csv"]
