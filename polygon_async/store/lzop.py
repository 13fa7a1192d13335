"""A file in, its .lzo, and whether that is a good one, out. Blocking: it runs in the executor."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

from polygon_async.bars.part import disk_errors
from polygon_async.errors import CompressionFailed, ConfigError, DiskUnusable, one_line

__all__ = ["Compression", "end_children", "find_lzop"]

_MAGIC = b"\x89LZO\x00\r\n\x1a\n"
"""What every lzop file begins with."""


def find_lzop() -> str:
    """The path of lzop.

    Raises:
        ConfigError: it is not installed.
    """
    lzop = shutil.which("lzop")
    if lzop is None:
        raise ConfigError(
            "lzop is not installed; apt-get install lzop (or brew install lzop), or --no-upload for CSVs only"
        )
    return lzop


def end_children() -> None:
    """Kill all that this process has started and not seen the end of, where the system tells (Linux).

    lzop has a process group of its own, which outlives this process.
    """
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in map(int, task.read_text().split()):
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


class Compression:
    """One run of lzop, and one of its own test on what it wrote; both can be stopped from another thread."""

    def __init__(self, lzop: str, source: Path, target: Path) -> None:
        self._lzop = lzop
        self._source = source.absolute()
        self._target = target.absolute()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def compress(self) -> None:
        """Write the target, whatever stood there.

        Raises:
            CompressionFailed: lzop failed, was killed, or wrote nothing.
            DiskUnusable: the disk is full.
        """
        self._call("compressing", "-f", "-o", str(self._target), "--", str(self._source))
        if not self._target.is_file():
            raise CompressionFailed(f"lzop wrote no {self._target.name}")

    def test(self) -> None:
        """Look whether the target is what it should be.

        Raises:
            CompressionFailed: it does not pass `lzop -t`, or the test was killed.
        """
        self._call("testing", "-t", "--", str(self._target))
        self._check_magic()

    def stop(self) -> None:
        """Kill lzop; what waits for it then fails soon."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                # All of its group: what is called lzop may be a script that waits for the real one.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _check_magic(self) -> None:
        """A wrapper that does nothing passes its own test, too."""
        with disk_errors(self._target), self._target.open("rb") as file:
            magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            raise CompressionFailed(f"what lzop wrote as {self._target.name} is no lzop file")

    def _call(self, act: str, *arguments: str) -> None:
        # The variable LZOP would add options of the user's own.
        environment = {name: value for name, value in os.environ.items() if name != "LZOP"}
        with self._lock:
            if self._stopped:
                raise CompressionFailed(f"{act} {self._source.name} was stopped")
            try:
                self._process = subprocess.Popen(
                    [self._lzop, *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    # A Ctrl-C in the terminal is for this program to answer.
                    process_group=0,
                )
            except OSError as error:
                raise CompressionFailed(f"lzop cannot be started ({one_line(error.strerror or error)})") from error
        _, said = self._process.communicate()
        if self._process.returncode == 0:
            return
        words = one_line(said.decode(errors="replace")) or "without a word"
        if "No space left" in words:
            raise DiskUnusable(f"the disk is full ({self._target}); free some space and start again")
        code = self._process.returncode
        ended = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise CompressionFailed(f"lzop {ended} while {act} {self._source.name}: {words}")
