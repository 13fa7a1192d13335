"""A command in; its output, time, CPU and, where asked for, the memory of its whole process tree out."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Memory", "ProgramFailed", "Run", "run"]

_BETWEEN_SAMPLES = 0.05
_GRACE = 10
_YOUNG = 0.1
_PROC = Path("/proc")


class ProgramFailed(Exception):
    """A program under measurement did not end well."""


@dataclass(slots=True)
class Memory:
    """Peaks of a process tree, in bytes; sampled, so that what is shorter than a sample may be missed."""

    rss: int = 0
    """Resident sizes added up: what processes share counts in each of them."""
    pss: int = 0
    """Proportional sizes added up: what processes share counts once; 0 where the system does not tell."""
    main: int = 0
    """Resident size of the first process alone."""
    processes: int = 0

    def note(self, pid: int) -> None:
        """Look at the tree once."""
        sizes = _tree(pid)
        self.rss = max(self.rss, sum(sizes.values()))
        self.pss = max(self.pss, sum(map(_pss, sizes)))
        self.main = max(self.main, sizes.get(pid, 0))
        self.processes = max(self.processes, len(sizes))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program."""

    seconds: float
    cpu: float
    """Seconds of CPU, those of its children included."""
    output: str
    memory: Memory | None


def run(command: Sequence[str], env: Mapping[str, str], *, cwd: Path, memory: bool = False) -> Run:
    """Run a command to its end; with `memory`, sample its tree meanwhile.

    Raises:
        ProgramFailed: its exit code was not 0; with the end of what it said.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = perf_counter()
        process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            with _sampling(process.pid) if memory else contextlib.nullcontext() as peaks:
                _, status, use = os.wait4(process.pid, 0)
        except BaseException:
            _end(process)
            raise
        seconds = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ProgramFailed(
                f"{' '.join(command[:6])} ... ended with {process.returncode}: {_tail(errors.fileno())}"
            )
        output.seek(0)
        return Run(seconds, use.ru_utime + use.ru_stime, output.read().decode(), peaks)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a program clean up, but not for ever."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 1000, max(0, size - 1000)).decode(errors="replace").strip()


@contextlib.contextmanager
def _sampling(pid: int) -> Iterator[Memory]:
    peaks = Memory()
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_BETWEEN_SAMPLES):
            peaks.note(pid)

    thread = threading.Thread(target=sample, name="memory")
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _tree(root: int) -> dict[int, int]:
    """Resident bytes of a process and of all that descend from it."""
    table = _processes_of_linux() if _PROC.is_dir() else _processes_of_ps()
    found = {root: table[root][1]} if root in table else {}
    grew = True
    while grew:
        more = {pid: size for pid, (parent, size) in table.items() if parent in found and pid not in found}
        found |= more
        grew = bool(more)
    return found


def _processes_of_linux() -> dict[int, tuple[int, int]]:
    """Parent and resident bytes by process."""
    page = os.sysconf("SC_PAGE_SIZE")
    table = {}
    now = float((_PROC / "uptime").read_text().split()[0])
    for entry in os.listdir(_PROC):  # noqa: PTH208 (twenty times a second: paths would cost more than the reading)
        if entry.isdigit():
            with contextlib.suppress(OSError):
                # Behind the name, which is in parentheses and may hold anything: state, parent, ... start, ... pages.
                fields = (_PROC / entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                age = now - int(fields[19]) / os.sysconf("SC_CLK_TCK")
                if age > _YOUNG or not _is_about_to_change(entry, fields[1]):
                    table[int(entry)] = (int(fields[1]), int(fields[21]) * page)
    return table


def _is_about_to_change(pid: str, parent: str) -> bool:
    """Whether a new process still is its parent's twin, in the parent's memory: it has not begun its own program."""
    return (_PROC / pid / "cmdline").read_bytes() == (_PROC / parent / "cmdline").read_bytes()


def _processes_of_ps() -> dict[int, tuple[int, int]]:
    said = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, check=True)  # noqa: S607
    rows = (map(int, line.split()) for line in said.stdout.splitlines())
    return {pid: (parent, kib * 1024) for pid, parent, kib in rows}


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
