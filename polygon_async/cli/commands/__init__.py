"""The commands: which one a command line names. A command's module is imported only when it is called.

To add one: a module here that offers what `CommandModule` lists, and its line in `COMMANDS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from polygon_async.errors import ConfigError, one_line

if TYPE_CHECKING:
    import argparse

    from polygon_async.settings.environment import Environment
    from polygon_async.system.redaction import Redactor

__all__ = ["COMMANDS", "Call", "Command", "CommandModule", "named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a command is given to work with."""

    flags: argparse.Namespace
    environment: Environment
    redact: Redactor
    """Knows the environment's secrets already."""


class CommandModule(Protocol):
    """What a command's module offers."""

    DESCRIPTION: str
    EPILOG: str
    """The end of its help: examples, at least."""

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's flags to the parser, without importing anything heavy."""

    def run(self, call: Call) -> int:
        """Run the command and return the exit code.

        Raises:
            PolygonAsyncError: it cannot run; `main` prints the error in one line and returns exit code 2.
        """


@dataclass(frozen=True, slots=True)
class Command:
    """One command, before it is called."""

    name: str
    line: str
    """What it does, as shown in the list of commands."""

    def module(self) -> CommandModule:
        """Its module, imported now; it has the command's name."""
        return cast("CommandModule", import_module(f"{__name__}.{self.name}"))


COMMANDS = (
    Command("download", "download, compress and upload bars: the default command"),
    Command("doctor", "check key, plan, bucket, lzop, disk, clock and network, one line each"),
    Command("plan", "estimate what a download will take, before you spend anything"),
    Command("status", "show what the ledger knows: what is done, pending and failed"),
    Command("report", "rewrite the report of a run, as a page and as JSON"),
    Command("clean", "remove what no run will use any more: abandoned parts, stale lists and caches"),
    Command("verify", "check that the bucket's objects are as they were uploaded; repair them"),
    Command("read", "read stored bars back, as Parquet or CSV, on request adjusted for splits"),
    Command("universe", "write a universe's CSV from the API's own list of tickers"),
    Command("completion", "print a script with which bash or zsh completes all of this"),
)


def named(words: list[str]) -> tuple[Command, list[str]]:
    """The command that the first word names, and the other words; further on, such a word is a ticker."""
    if words[:1] == ["help"] or (words[:1] in (["-h"], ["--help"]) and len(words) > 1):
        # `help status` and `-h status` are `status --help`.
        command, _ = named(words[1:2])
        return command, ["--help"]
    for command in COMMANDS:
        if words[:1] == [command.name]:
            return command, words[1:]
    if words and not words[0].startswith("-"):
        raise ConfigError(_unknown(words[0]))
    return COMMANDS[0], words


def _unknown(word: str) -> str:
    """What is said of a first word that is no command."""
    import difflib

    said = one_line(repr(word))
    near = difflib.get_close_matches(word.lower(), [command.name for command in COMMANDS], n=1, cutoff=0.6)
    if near:
        return f"there is no command {said}; did you mean {near[0]}?"
    if re.fullmatch(r"([XCIO]:)?[A-Z0-9.]{1,12}([A-Z0-9:._=+-]*)", word):
        return f"there is no command {said}; for a ticker: polygon-async --tickers {word}"
    return f"there is no command {said} (--help lists the commands)"
