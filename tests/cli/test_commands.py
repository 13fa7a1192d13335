"""The first word of the command line: what it can be, and what each command's help says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import names

from polygon_async.cli.commands import COMMANDS, named
from polygon_async.cli.main import main, parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.cli.commands import Command
    from polygon_async.sandbox import Sandbox

DAY = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")
HEAVY = {"aiobotocore", "aiohttp", "botocore", "isal", "msgspec", "numpy", "pandas", "rich", "sqlite3"}

every_command = pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])


@pytest.mark.parametrize("word", ["", "download"])
def test_without_a_command_it_is_a_download(program: Program, sandbox: Callable[..., Sandbox], word: str) -> None:
    ended = program(*filter(None, [word]), "--tickers", "QQ", "--no-upload", *DAY, box=sandbox())
    assert ended.code == 0, ended.err
    assert names(program.directory / "output") == ["QQ_historical.csv"]


def test_only_the_first_word_is_a_command() -> None:
    words = ["--tickers", *(command.name for command in COMMANDS)]
    command, rest = named(words)
    assert (command.name, rest) == ("download", words)
    assert parser(command).parse_args(rest).tickers == words[1:]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("Download", "there is no command 'Download'; did you mean download?"),
        ("statsu", "there is no command 'statsu'; did you mean status?"),
        ("AAPL", "there is no command 'AAPL'; for a ticker: polygon-async --tickers AAPL"),
        ("X:BTCUSD", "there is no command 'X:BTCUSD'; for a ticker: polygon-async --tickers X:BTCUSD"),
        ("./sp500.csv", "there is no command './sp500.csv' (--help lists the commands)"),
    ],
)
def test_another_first_word_is_refused(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err == f"polygon-async: error: {said}\n"


@pytest.mark.parametrize("words", [["help", "status"], ["-h", "status"], ["--help", "status"]])
def test_help_of_a_command_is_asked_for_in_any_order(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: polygon-async status ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ticker", "AAPL"], "unrecognized arguments: --ticker AAPL; did you mean --tickers?"),
        (["--start", "2026-03-02"], "unrecognized arguments: --start 2026-03-02; did you mean --from?"),
        (["verify", "--repiar"], "unrecognized arguments: --repiar; did you mean --repair?"),
    ],
)
def test_what_was_meant_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert f" error: {said} (--help lists the flags)\n" in capsys.readouterr().err


def test_who_has_nothing_yet_is_told_how_to_begin(program: Program) -> None:
    ended = program()
    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("polygon-async: ") for line in lines)
    assert "POLYGON_API_KEY" in lines[0]
    assert "--tickers AAPL MSFT" in lines[1]


def test_small_things_are_forgiven(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["-V"])
    assert capsys.readouterr().out.startswith("polygon-async ")
    flags = ("--tickers", "AAPL", "--from", "-30d", "--to", "yesterday", "--rate", "5/m", "--log-level", "INFO")
    planned = program("plan", "--offline", *flags)
    assert (planned.code, planned.err) == (0, "")
    assert " at 5/min" in planned.out


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        assert f"  {command.name:<12}{command.line}" in lines


@every_command
def test_every_command_has_a_help_of_its_own_with_examples(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    own = "" if command.name == "download" else f" {command.name}"
    assert text.startswith(f"usage: polygon-async{own} [-h]")
    assert "examples:\n  polygon-async" in text
    for action in parser(command)._actions:
        assert action.help, action.option_strings


@every_command
def test_the_readme_tells_of_every_command_and_flag(command: Command) -> None:
    text = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert f"| `{command.name}` | " in text
    for action in parser(command)._actions:
        for flag in action.option_strings:
            assert flag == "-h" or f"`{flag}" in text, flag


def test_the_help_and_the_readme_name_the_same_defaults() -> None:
    text = (Path(__file__).parent.parent.parent / "README.md").read_text()
    table = text[text.index("### Flags and variables") :]
    table = table[: table.index("| only in the environment")]
    told: dict[str, str] = {}
    for line in table.splitlines():
        flags, _, rest = line.removeprefix("| ").partition(" | ")
        if flags.startswith("`--"):
            default = re.split(r" ?\| ?", rest.removeprefix("|").strip())[1 if rest.startswith("`") else 0]
            told |= dict.fromkeys(re.findall(r"`(--[\w-]+)", flags), default.strip("`"))
    actions = {flag: action for action in parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert set(told) == set(actions)
    for flag, action in actions.items():
        found = re.search(r"\(default: ([^,;)]+)", action.help or "")
        assert told[flag] == (found[1] if found else ""), flag


@every_command
def test_no_help_imports_anything_heavy(command: Command) -> None:
    look = (
        "import sys\nfrom polygon_async.cli.main import parser\nfrom polygon_async.cli.commands import COMMANDS\n"
        f"[command] = [c for c in COMMANDS if c.name == {command.name!r}]\nparser(command).format_help()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY.isdisjoint(loaded.stdout.split())


@every_command
def test_a_wrong_flag_is_one_line(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--nonsense"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("polygon-async")
    assert err.endswith("error: unrecognized arguments: --nonsense (--help lists the flags)\n")
    assert err.count("\n") == 1


@every_command
def test_a_command_that_cannot_start_says_so_in_one_line(command: Command, program: Program) -> None:
    (program.directory / ".env").write_bytes(b"\xff\xfe")
    ended = program(command.name)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("polygon-async: error: ")
    assert ended.err.count("\n") == 1
