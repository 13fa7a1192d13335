"""Completion: what a real bash offers for a line that has been begun; that zsh takes its script, where it is there."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from polygon_async.cli.commands import COMMANDS
from polygon_async.cli.main import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def offered(code: str, *words: str) -> set[str]:
    """What bash offers behind these words, the last of which has been begun."""
    line = " ".join(words)
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_polygon_async"
    tell = "printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(
        ["bash", "-c", f"{code}\n{ask}\n{tell}"], capture_output=True, text=True, check=True, timeout=20
    )
    return set(done.stdout.split())


def test_bash_offers_commands_and_each_commands_flags(capsys: pytest.CaptureFixture[str]) -> None:
    code = script("bash", capsys)
    assert {command.name for command in COMMANDS} <= offered(code, "polygon-async", "''")
    assert offered(code, "polygon-async", "--conc") == {"--concurrency"}
    assert offered(code, "polygon-async", "verify", "--d") == {"--deep"}
    assert offered(code, "polygon-async", "plan", "--off") == {"--offline"}
    assert "--offline" not in offered(code, "polygon-async", "verify", "--o")
    assert offered(code, "polygon-async", "completion", "z") == {"zsh"}


def test_zsh_takes_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    code = script("zsh", capsys)
    assert code.startswith("#compdef polygon-async\n")
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    subprocess.run(["zsh", "-n"], input=code, text=True, check=True, timeout=20)


def test_an_unknown_shell_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "fish"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
