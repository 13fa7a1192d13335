"""The `completion` command: prints the script that makes a shell complete commands and flags."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from polygon_async.cli.terminal import COULD_NOT, say_file
from polygon_async.errors import ConfigError

if TYPE_CHECKING:
    from polygon_async.cli.commands import Call

__all__ = ["DESCRIPTION", "EPILOG", "add_flags", "run"]

DESCRIPTION = """\
Print a script with which a shell completes the commands and flags of polygon-async."""
EPILOG = """\
examples:
  polygon-async completion bash > ~/.local/share/bash-completion/completions/polygon-async
  polygon-async completion zsh > ~/.zfunc/_polygon-async     (with ~/.zfunc in fpath, before compinit)
"""
_SHELLS = ("bash", "zsh")
_FILES = frozenset({"universe", "log_file", "metrics_file", "output"})
_DIRECTORIES = frozenset({"output_dir"})


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The shell's name."""
    usual = Path(os.environ.get("SHELL", "")).name
    default = usual if usual in _SHELLS else None
    parser.add_argument(
        "shell", nargs="?", choices=_SHELLS, default=default, help="bash or zsh (default: the one in SHELL)"
    )


def run(call: Call) -> int:
    """Print the script."""
    import shtab

    if call.flags.shell is None:
        usual = Path(os.environ.get("SHELL", "")).name
        raise ConfigError(f"{f'SHELL is {usual}' if usual else 'SHELL is not set'}; name the shell: bash or zsh")
    return 0 if say_file(shtab.complete(_whole(), shell=call.flags.shell)) else COULD_NOT


def _whole() -> argparse.ArgumentParser:
    """One parser of all commands; without a command the flags are the download's."""
    from polygon_async.cli.commands import COMMANDS

    whole = argparse.ArgumentParser(prog="polygon-async", allow_abbrev=False)
    whole.add_argument("--version", action="store_true", help="the program's version")
    COMMANDS[0].module().add_flags(whole)
    subparsers = whole.add_subparsers()
    for command in COMMANDS:
        own = subparsers.add_parser(command.name, help=command.line)
        command.module().add_flags(own)
        _complete_files(own)
    _complete_files(whole)
    return whole


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let the shell complete file names where a flag takes a file."""
    import shtab

    for action in parser._actions:  # noqa: SLF001 (argparse offers no other way to its flags)
        if action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's own attribute
        elif action.dest in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # shtab's own attribute
