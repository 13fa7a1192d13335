"""Counts the cores that this process may really use: a container often sees the whole machine but may use a share."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["usable_cores"]

_GROUPS = Path("/proc/self/cgroup")
_MOUNTS = Path("/sys/fs/cgroup")


def usable_cores(*, groups: Path = _GROUPS, mounts: Path = _MOUNTS) -> int:
    """The number of cores that the process may run on, or fewer if its share of time is less.

    Python counts the former only (taskset, cpuset). A container's limit of CPU time is its control group's
    quota, which a share of less than one core counts as one.

    Args:
        groups: Where the system tells the process's control groups.
        mounts: Where those are found.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(share) for share in _shares(groups, mounts))]))


def _shares(groups: Path, mounts: Path) -> Iterator[float]:
    """Cores' worth of time that the process's groups may use; those without a limit tell nothing."""
    try:
        lines = groups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # another system
    for line in lines:
        if line.count(":") < 2:
            continue
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for directory in _chain(path, mounts, mounts / "unified"):
                yield from _share(_words(directory / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for directory in _chain(path, mounts / controllers, mounts / "cpu"):
                quota, period = _words(directory / "cpu.cfs_quota_us"), _words(directory / "cpu.cfs_period_us")
                yield from _share([*quota, *period])


def _chain(path: str, *mounts: Path) -> Iterator[Path]:
    """A group and those that it is in, as far as they are there: within a container the outer ones are not.

    Each of them may limit it.
    """
    parts = [part for part in path.split("/") if part]
    for mount in mounts:
        for length in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:length])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return []


def _share(words: list[str]) -> Iterator[float]:
    """Quota over period (both in microseconds), if there is a quota: `max` or -1 means none."""
    with contextlib.suppress(ValueError):
        quota, period = (int(word) for word in words)
        if quota > 0 and period > 0:
            yield quota / period
