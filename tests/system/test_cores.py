"""As many cores are counted as the control groups leave a process, whatever the machine has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from polygon_async.settings.values import parse_processes
from polygon_async.system.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

VISIBLE = 16


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(VISIBLE)), raising=False)


def machine(directory: Path, groups: str, **files: str) -> dict[str, Path]:
    """A system whose control groups are these, as files by their names (`/` is written `__`)."""
    (directory / "groups").write_text(groups)
    for name, text in files.items():
        file = directory / "mounts" / name.replace("__", "/").replace("DOT", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {"groups": directory / "groups", "mounts": directory / "mounts"}


@pytest.mark.parametrize(
    ("quota", "counted"),
    [("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 2), ("3200000 100000", 16), ("max 100000", 16)],
)
def test_a_containers_own_limit_counts(quota: str, counted: int, tmp_path: Path) -> None:
    assert usable_cores(**machine(tmp_path, "0::/\n", cpuDOTmax=f"{quota}\n")) == counted


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        "0::/user.slice/run.scope\n",
        cpuDOTmax="max 100000\n",
        **{"user.slice__cpu.max": "300000 100000\n", "user.slice__run.scope__cpu.max": "400000 100000\n"},
    )
    assert usable_cores(**found) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_the_older_kind_of_groups_counts(mount: str, tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        "11:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/docker/1f\n",
        **{
            f"{mount}__cpu.cfs_quota_us": "200000\n",
            f"{mount}__cpu.cfs_period_us": "100000\n",
            f"{mount}__docker__1f__cpu.cfs_quota_us": "-1\n",
            f"{mount}__docker__1f__cpu.cfs_period_us": "100000\n",
            "memory__docker__1f__cpu.max": "1 100000\n",
        },
    )
    assert usable_cores(**found) == 2


@pytest.mark.parametrize(
    ("groups", "limit"),
    [("", "1 1"), ("rubbish\n0\n::\n", "1 1"), ("0::/\n", "rubbish"), ("0::/\n", "0 0"), ("0::/\n", "")],
)
def test_what_tells_nothing_limits_nothing(groups: str, limit: str, tmp_path: Path) -> None:
    assert usable_cores(**machine(tmp_path, groups, cpuDOTmax=limit)) == VISIBLE
    assert usable_cores(groups=tmp_path / "none", mounts=tmp_path / "mounts") == VISIBLE


def test_pinning_counts_where_it_leaves_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert usable_cores(**machine(tmp_path, "0::/\n", cpuDOTmax="900000 100000")) == 2


def test_as_many_processes_read_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(tmp_path, "0::/\n", cpuDOTmax="100000 100000\n")
    monkeypatch.setattr(usable_cores, "__kwdefaults__", found)
    assert parse_processes("auto") == 1
