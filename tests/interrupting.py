"""A run that is interrupted where a test wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    import subprocess


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """What a program says that is interrupted now and ends as one should."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "never awaited" not in err
    assert "Error" not in err
    assert err.splitlines()[-1] in {
        "polygon-async: interrupted; run the same command again to resume",
        "polygon-async: interrupted, quitting immediately; run the same command again to resume",
    }
    return out, err
