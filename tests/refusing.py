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
    from pathlib import Path

_SOURCE = """
#include <errno.h>
#include <stddef.h>

static int refused(int number) { errno = number; return -1; }
"""
# Threads that end give their place to no other: a test says how many are started, and not how many there are at once.
_THREADS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

static int started;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *given)
{
    typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST) > ALLOWED) return EAGAIN;
    return ((create *) dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, work, given);
}
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

    def make(**calls: str) -> dict[str, str | None]:
        functions = [f"{_CALLS[call]} {{ return refused({getattr(errno, name)}); }}\n" for call, name in calls.items()]
        return {"LD_PRELOAD": str(_library(tmp_path_factory, _SOURCE + "".join(functions)))}

    return make


@pytest.fixture
def threads_allowed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, str | None]]:
    """Makes the variables with which each process may start so many threads, and no more."""

    def make(allowed: int) -> dict[str, str | None]:
        library = _library(tmp_path_factory, _THREADS, f"-DALLOWED={allowed}")
        # Those of numpy's BLAS, as many as there are cores, are not what is counted.
        return {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}

    return make


def _library(directories: pytest.TempPathFactory, source: str, *flags: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    directory = directories.mktemp("refusing")
    (directory / "refusing.c").write_text(source)
    library = directory / "refusing.so"
    always = (
        "-shared",
        "-fPIC",
        "-fno-builtin",
        "-o",
        str(library),
        str(directory / "refusing.c"),
        "-ldl",
        "-lpthread",
    )
    subprocess.run([compiler, *flags, *always], check=True, env=_plain())
    return library


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
