"""Until a program has got somewhere: no sleeps, no guesses."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return as soon as `reached()`; fail when the program ends before."""
    while not reached():
        assert process.poll() is None, process.communicate()
        # Not for a time: until the program ends, looked at now and then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
