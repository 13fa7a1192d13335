"""argv in, exit code out."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async._version import __version__
from polygon_async.cli.commands import COMMANDS, Call, named
from polygon_async.cli.flags import parser_for
from polygon_async.cli.terminal import COULD_NOT, INTERRUPTED, complain, open_streams, refuse
from polygon_async.errors import ConfigError, Interrupted, PolygonAsyncError
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import DEFAULTS
from polygon_async.system.machine import no_more
from polygon_async.system.redaction import Redactor

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from polygon_async.cli.commands import Command

__all__ = ["main", "parser"]


def parser(command: Command = COMMANDS[0]) -> argparse.ArgumentParser:
    """The parser of a command's flags, with its help; the first command's help also lists the others."""
    module, is_first = command.module(), command == COMMANDS[0]
    parser = parser_for(
        "polygon-async" if is_first else f"polygon-async {command.name}",
        description=module.DESCRIPTION,
        epilog=f"{_list_of_commands()}\n{module.EPILOG}" if is_first else module.EPILOG,
    )
    if is_first:
        parser.add_argument("-V", "--version", action="version", version=f"polygon-async {__version__}")
    module.add_flags(parser)
    return parser


def _list_of_commands() -> str:
    lines = "".join(f"  {command.name:<12}{command.line}\n" for command in COMMANDS)
    return f"commands (first argument; each has its own --help):\n{lines}"


def _here() -> Path:
    """The working directory, where `.env` and relative paths are looked for."""
    try:
        return Path.cwd()
    except OSError as error:
        text = f"the working directory cannot be used ({error.strerror}); cd to one that exists"
        raise ConfigError(text) from error


def _is_new(environment: Environment) -> bool:
    """Whether there is nothing yet that a download could begin with."""
    key = environment.get("POLYGON_API_KEY", "MASSIVE_API_KEY")
    return key is None and not Path(DEFAULTS["universe"]).exists()


def _welcome() -> int:
    complain("error: nothing to download yet. Set POLYGON_API_KEY in the environment or in .env, and name tickers:")
    complain("  polygon-async --tickers AAPL MSFT --no-upload     (CSVs in output/; without --no-upload also into S3)")
    complain("  polygon-async --help                              (everything else)")
    return COULD_NOT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    open_streams()
    # numpy starts threads of its own when it is imported, which nothing here needs: without this, it takes
    # a system that allows no more of them for a Ctrl-C.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        command, words = named(given)
    except ConfigError as error:
        return refuse(str(error), as_json="--json" in given)
    flags = parser(command).parse_args(words)
    as_json = getattr(flags, "json", False)
    redact = Redactor()
    # Until the command handles signals itself, a SIGTERM ends it as a Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        environment = Environment.load(_here())
        for secret in environment.secrets():
            redact.add(secret)
        if not given and _is_new(environment):
            return _welcome()
        return command.module().run(Call(flags=flags, environment=environment, redact=redact))
    except KeyboardInterrupt:
        return refuse("interrupted before anything was fetched", as_json=as_json, code=INTERRUPTED)
    except Interrupted as error:
        return refuse(str(error), as_json=as_json, code=INTERRUPTED)
    except PolygonAsyncError as error:
        return refuse(redact(str(error)), as_json=as_json)
    except (RuntimeError, OSError, BaseExceptionGroup) as error:
        # Wherever it was that no more threads or processes were to be had.
        if (found := no_more(error)) is None:
            raise
        return refuse(str(found), as_json=as_json)
