"""The first word of a command line in, the command that it names out; its module is imported only when it is called.

Another command is a module here that offers what `CommandModule` lists, and its line in `COMMANDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

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
    """What its help ends with: examples, at least."""

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Give the parser the command's flags; nothing heavy is imported for it."""

    def run(self, call: Call) -> int:
        """Do it, and return the exit code.

        Raises:
            PolygonAsyncError: It could not be done: told in one line, exit code 2.
        """


@dataclass(frozen=True, slots=True)
class Command:
    """One command, before it is called."""

    name: str
    line: str
    """What it does, as the list of commands says it."""

    def room(self) -> CommandModule:
        """Its module, which has its name."""
        return cast("CommandModule", import_module(f"{__name__}.{self.name}"))


COMMANDS = (
    Command("download", "download, compress and upload bars: what is done when no command is named"),
    Command("plan", "tell what a download will take, before anything is spent"),
    Command("status", "tell what the ledger knows: what is done, pending and failed"),
    Command("report", "write the report of a run again, as a page and as JSON"),
    Command("verify", "look whether the objects are in the bucket as they were uploaded; repair them"),
    Command("universe", "write a universe's CSV from the API's own list of tickers"),
    Command("completion", "print the script with which bash or zsh completes all of this"),
)


def named(words: list[str]) -> tuple[Command, list[str]]:
    """The command of a command line and the rest of it; a ticker of that name further on is a ticker."""
    for command in COMMANDS:
        if words[:1] == [command.name]:
            return command, words[1:]
    return COMMANDS[0], words
