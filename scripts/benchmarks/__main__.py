"""Options in; the benchmark's table, and its figures as JSON where asked for, out."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import Bench, WrongResult
from programs import ProgramFailed
from sections import SECTIONS
from servers import Servers
from workload import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from figures import Section

_INTERRUPTED = 130
_FULL = Size(
    pages=16,
    baseline_tickers=1,
    long_pages=48,
    share_pages=(4, 12),
    memory_pages=(4, 100),
    wide_pages=4,
    small_tickers=3000,
    read=(50, 5),
    units=100_000,
)
_QUICK = Size(
    pages=2,
    baseline_tickers=1,
    long_pages=8,
    share_pages=(2, 6),
    memory_pages=(1, 4),
    wide_pages=1,
    small_tickers=300,
    read=(6, 2),
    units=10_000,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="The tool and the usual script side by side, against the same local servers.",
        epilog="Whatever stands behind -- goes to every run of the tool: scripts/bench --quick -- --processes 0",
    )
    parser.add_argument("--quick", action="store_true", help="a small version, a minute or two; --repeat is 1 then")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of which the median counts (default: 3)")
    parser.add_argument("--full-baseline", action="store_true", help="run the script on all tickers, too")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="S", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    return parser


def _size(*, quick: bool, full_baseline: bool) -> Size:
    from dataclasses import replace

    size = _QUICK if quick else _FULL
    return replace(size, baseline_tickers=8) if full_baseline else size


def _machine() -> dict[str, object]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load,
    }


def _measure(names: Sequence[str], bench: Bench, size: Size, measured: dict[str, Section]) -> None:
    for name in names:
        began = time.monotonic()
        sys.stderr.write(f"bench: {name} ...\n")
        section = measured[name] = SECTIONS[name](bench, size)
        section.show()
        sys.stderr.write(f"bench: {name} took {time.monotonic() - began:.0f} s\n")


def main() -> int:
    """Run the benchmark; returns the exit code."""
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:split])
    size = _size(quick=options.quick, full_baseline=options.full_baseline)
    repeat = options.repeat or (1 if options.quick else 3)
    measured: dict[str, Section] = {}
    machine = _machine()
    smaller = "; the targets are those of the full size" if options.quick else ""
    sys.stdout.write(
        ", ".join(f"{name} {value}" for name, value in machine.items()) + f", medians of {repeat}{smaller}\n"
    )
    sys.stdout.flush()
    # A kill cleans up like a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 0
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch, Servers() as servers:
            bench = Bench(servers=servers, scratch=Path(scratch), repeat=repeat, flags=given[split + 1 :])
            _measure(options.only or list(SECTIONS), bench, size, measured)
    except (ProgramFailed, WrongResult) as error:
        sys.stderr.write(f"bench: {error}\n")
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        code = _INTERRUPTED
    if options.json is not None:
        sections = {name: {"title": section.title, **section.as_json()} for name, section in measured.items()}
        facts = {
            "machine": machine,
            "repeat": repeat,
            "quick": options.quick,
            "complete": not code,
            "sections": sections,
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
