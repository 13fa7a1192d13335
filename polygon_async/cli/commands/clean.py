"""The `clean` command: removes what no run will use any more, after saying what."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, say
from polygon_async.settings.settings import output_directory
from polygon_async.system.files import disk_errors

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Remove what no run will use any more, after listing it: parts of abandoned tickers, files of runs that were killed,
lists whose tickers are all done since, and outdated caches. Bars, parts that a run will continue, the ledger and
the reports stay. No download may be running in the directory."""
EPILOG = """\
exit codes:
  0  removed, or nothing to remove                      2    a run is using the directory, or it has no ledger

examples:
  polygon-async clean --dry-run
  polygon-async clean --output-dir bars
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `clean`."""
    what = parser.add_argument_group("what to clean")
    add_shared(what, "--output-dir")
    what.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


def run(call: Call) -> int:
    """List what is left over, and remove it."""
    from polygon_async.ledger.database import existing
    from polygon_async.report.words import counted, size
    from polygon_async.run.directory import claimed
    from polygon_async.run.leftovers import leftovers

    flags = call.flags
    log_to(logging.StreamHandler(), flags, call.redact)
    directory = output_directory(vars(flags))
    existing(directory)
    with claimed(directory), disk_errors(directory):
        found, kept = leftovers(directory)
        if not flags.json and found:
            lines = [f"{each.path}  {size(each.size)}: {each.why}" for each in found]
            if not say(call.redact("\n".join(lines))):
                return COULD_NOT
        if not flags.dry_run:
            for each in found:
                _remove(each.path)
    total = sum(each.size for each in found)
    if flags.json:
        told = {
            "removed": not flags.dry_run,
            "files": [{"path": str(each.path), "bytes": each.size, "why": each.why} for each in found],
            "bytes": total,
            "parts_kept": kept,
        }
        return 0 if say(call.redact(json.dumps(told))) else COULD_NOT
    rest = f"; {counted(kept, 'part')} kept for the run that will continue" if kept else ""
    act = "would remove" if flags.dry_run else "removed"
    result = f"{act} {counted(len(found), 'file')}, {size(total)}" if found else "nothing to remove"
    return 0 if say(f"{result}{rest}") else COULD_NOT


def _remove(path: Path) -> None:
    with disk_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
