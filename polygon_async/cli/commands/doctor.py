"""The `doctor` command: checks what a download needs, one line each."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

from polygon_async.cli.flags import LOGGING, add_shared
from polygon_async.cli.logs import log_to
from polygon_async.cli.terminal import COULD_NOT, run_cancellable, say
from polygon_async.errors import ConfigError
from polygon_async.settings.settings import settings_from

if TYPE_CHECKING:
    import argparse

    from polygon_async.cli.commands import Call
    from polygon_async.run.doctor import Check
    from polygon_async.settings.settings import Settings

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Check what a download needs, one line each: disk, lzop, network, key, how much history the plan has and which rate
it allows, the rights in the bucket, and the clock. It sends at most a dozen requests, and changes nothing but one small
object in the bucket, which it removes."""
EPILOG = """\
exit codes:
  0  all is well (warnings included)                    2    a flag or a variable cannot be used
  1  a check failed

examples:
  polygon-async doctor
  polygon-async doctor --bucket s3://research/minutes
"""
_FAILED = 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `doctor`."""
    what = parser.add_argument_group("what to check")
    add_shared(what, "--bucket", "--key-prefix", "--output-dir", "--rate")
    what.add_argument("--no-upload", dest="upload", action="store_false", help="skip the checks of lzop and the bucket")
    add_shared(parser.add_argument_group("output"), "--json", *LOGGING)


def run(call: Call) -> int:
    """Make the checks, and print each as soon as it is made."""
    log_to(logging.StreamHandler(), call.flags, call.redact)
    settings, key_trouble = _settings(call)
    checks: list[Check] = []
    if not run_cancellable(_examined(call, settings, key_trouble, checks)):
        return COULD_NOT
    code = _FAILED if any(check.state == "failed" for check in checks) else 0
    if call.flags.json:
        told = [{"check": check.name, "state": check.state, "text": check.text} for check in checks]
        return code if say(call.redact(json.dumps({"exit_code": code, "checks": told}))) else COULD_NOT
    return code


def _settings(call: Call) -> tuple[Settings, str | None]:
    """The settings, and why there is no key to try, if there is none.

    Raises:
        ConfigError: any other flag or variable cannot be used.
    """
    flags = {**vars(call.flags), "processes": "0"}
    settings = settings_from(flags, call.environment, needs_key=False)
    try:
        return settings_from(flags, call.environment), None
    except ConfigError as error:
        return settings, str(error)


async def _examined(call: Call, settings: Settings, key_trouble: str | None, checks: list[Check]) -> bool:
    """Make all checks; returns whether they could be printed."""
    from polygon_async.run.doctor import examine

    examination = examine(settings, key_trouble=key_trouble, on_secret=call.redact.add)
    async with contextlib.aclosing(examination) as each:
        async for check in each:
            checks.append(check)
            line = f"{check.state:<8} {check.name:<9} {check.text}"
            if not call.flags.json and not say(call.redact(line)):
                return False
    return True
