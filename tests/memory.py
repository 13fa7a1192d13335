"""The program in, run to its end; what the largest of its processes has taken, out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from conftest import Ended

if TYPE_CHECKING:
    from conftest import Program

    from polygon_async.sandbox import Sandbox

# A process inherits what its parent has taken as its own, until it is started: so the parent is a small one.
_WATCH = """
import os, pathlib, subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "polygon_async", *sys.argv[2:]])
_, status, usage = os.wait4(process.pid, 0)
pathlib.Path(sys.argv[1]).write_text(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run_watched(program: Program, *arguments: str, box: Sandbox) -> tuple[Ended, int]:
    """The program when it has ended, and how many MiB the largest of its processes took."""
    noted = program.directory / "peak"
    ended = subprocess.run(
        [sys.executable, "-c", _WATCH, str(noted), *program.with_defaults(arguments)],
        cwd=program.directory,
        env=program.environment(box, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    peak = int(noted.read_text()) // (1024 * 1024 if sys.platform == "darwin" else 1024)
    return Ended(ended.returncode, ended.stdout, ended.stderr), peak
