"""`python -m polygon_async`: the command line."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """The console script's entry; returns the exit code."""
    from polygon_async.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
