"""`python -m polygon_async`: the command line."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """The console script's entry; returns the exit code."""
    try:
        from polygon_async.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("polygon-async: interrupted", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
