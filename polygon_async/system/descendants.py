"""Ends the processes that a process has started, and what these have started, where the system lists them (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["end_descendants", "end_session", "kill_tree"]

_PROC = Path("/proc")


def end_descendants(pid: int | None = None) -> None:
    """Kill all descendants of a process (this one by default) that are still running.

    lzop has its own process group, which would outlive its owner.
    """
    _kill(_descendants("self" if pid is None else str(pid)))


def end_session(leader: int) -> None:
    """Kill what is left of the session of a process that has ended."""
    found = []
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            with contextlib.suppress(OSError, ValueError):
                # Behind the name, which is in parentheses and may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found += [int(entry.name)] if int(fields[3]) == leader else []
    _kill(found)


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants; it is stopped first, so that it starts no more."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGSTOP)
    end_descendants(pid)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)


def _descendants(pid: str) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it is gone
        for task in (_PROC / pid / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return [*found, *(below for child in found for below in _descendants(str(child)))]
