"""Ends the processes that a process has started, and what these have started, where the system lists them (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["end_descendants", "end_session"]

_PROC = Path("/proc")


def end_descendants() -> None:
    """Kill all descendants of this process that are still running.

    lzop has its own process group, which would outlive its owner.
    """
    _kill(_descendants("self"))


def end_session(leader: int) -> None:
    """Kill a session: its leader, if that is still running, and what it has started."""
    with contextlib.suppress(OSError):
        os.kill(leader, signal.SIGSTOP)  # so that it starts no more meanwhile
    found = []
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            with contextlib.suppress(OSError, ValueError):
                # Behind the name, which is in parentheses and may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found += [int(entry.name)] if int(fields[3]) == leader else []
    _kill(found)


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
