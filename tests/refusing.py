"""A system that refuses: chosen calls to the C library fail in the programs of a test."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_SOURCE = """
#include <errno.h>
#include <stddef.h>

static int refused(int number) { errno = number; return -1; }
"""
_CALLS = {
    "flock": "int flock(int file, int act)",
    "fsync": "int fsync(int file)",
    "fdatasync": "int fdatasync(int file)",
    "utimensat": "int utimensat(int place, const char *path, const void *times, int flags)",
    "fork": "int fork(void)",
    "vfork": "int vfork(void)",
}


@pytest.fixture
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str | None]]:
    """Makes the variables with which calls are refused: `refusing(flock="ENOLCK")`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")

    def make(**calls: str) -> dict[str, str | None]:
        directory = tmp_path_factory.mktemp("refusing")
        functions = [f"{_CALLS[call]} {{ return refused({getattr(errno, name)}); }}\n" for call, name in calls.items()]
        (directory / "refusing.c").write_text(_SOURCE + "".join(functions))
        library = directory / "refusing.so"
        flags = ("-shared", "-fPIC", "-fno-builtin", "-o", str(library), str(directory / "refusing.c"))
        subprocess.run([compiler, *flags], check=True, env=_plain())
        return {"LD_PRELOAD": str(library)}

    return make


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
