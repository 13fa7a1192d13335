"""Links, pipes and devices where files should be: they lead nowhere, keep nobody waiting, and are not replaced."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of
from stored import DAY, RANGE, decompressed, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

PART = f"QQ_{DAY}_{DAY}_adjusted.csv.part"
CSV = "QQ_historical.csv"
WRITTEN = (PART, CSV, f"{CSV}.lzo", ".failed.csv.new", ".report.html.new", ".report.json.new")


def output_of(program: Program) -> Path:
    directory = program.directory / "output"
    directory.mkdir()
    return directory


def test_a_link_under_a_name_that_is_written_leads_to_nobody(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox("BAD 1 status=404"), output_of(program)
    victims = [program.directory / f"theirs{number}" for number in range(len(WRITTEN))]
    for victim, name in zip(victims, WRITTEN, strict=True):
        victim.write_text("theirs")
        (output / name).symlink_to(victim)
    ended = program("--tickers", "QQ", "BAD", *RANGE, box=box)
    assert ended.code == 1, ended.err
    assert [victim.read_text() for victim in victims] == ["theirs"] * len(victims)
    assert not [path.name for path in output.iterdir() if path.is_symlink()]
    truth = csv_of(box.market.days("QQ", DAY, DAY))
    assert (output / CSV).read_text() == truth
    assert [decompressed(item) for item in stored(box)] == [truth.encode()]


def test_a_pipe_under_a_name_that_is_read_or_written_keeps_nobody_waiting(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), output_of(program)
    (output / PART).symlink_to(output / f"{CSV}.lzo")
    os.mkfifo(output / f"{CSV}.lzo")
    flags = ("--tickers", "QQ", *RANGE)
    assert program(*flags, "--no-upload", box=box).code == 0
    (output / CSV).unlink()
    os.mkfifo(output / CSV)
    asked = len(box.requests)
    ended = program(*flags, box=box)
    assert ended.code == 0, ended.err
    assert len(box.requests) == asked + 1, "what is no file is fetched again"
    truth = csv_of(box.market.days("QQ", DAY, DAY))
    assert (output / CSV).read_text() == truth
    assert [decompressed(item) for item in stored(box)] == [truth.encode()]


def put_no_file(path: Path, kind: str) -> int:
    """Put something at `path` that is no regular file; returns its mode."""
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        real = path.with_name("device") if kind == "link to a device" else path
        try:
            os.mknod(real, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        except PermissionError:
            pytest.skip("only root makes devices")
        if real != path:
            path.symlink_to(real)
    return path.stat().st_mode


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "link to a device"])
@pytest.mark.parametrize(
    ("name", "said", "command"),
    [
        (
            "m.prom",
            "--metrics-file m.prom: cannot be written (",
            f"--tickers QQ {' '.join(RANGE)} --metrics-file m.prom",
        ),
        ("u.csv", "--output 'u.csv': not a file", "universe --output u.csv"),
        ("output/failed.csv", "output/failed.csv cannot be written (", f"--tickers QQ {' '.join(RANGE)}"),
        ("output/report.html", "output/report.html cannot be written (", f"--tickers QQ {' '.join(RANGE)}"),
        ("output/verify.csv", "output/verify.csv cannot be written (", "verify --prefix any"),
    ],
)
def test_what_is_no_file_is_never_replaced_and_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], name: str, said: str, command: str, kind: str
) -> None:
    box, path = sandbox(), program.directory / name
    mode = put_no_file(path, kind)
    ended = program(*command.split(), box=box)
    assert (ended.code, ended.err.count("\n"), box.requests) == (2, 1, []), ended.err
    assert ended.error.startswith(f"polygon-async: error: {said}")
    assert ended.error.endswith(("not a file", "(Is a directory)" if kind == "directory" else "(not a regular file)"))
    assert path.stat().st_mode == mode
    assert path.is_symlink() is kind.startswith("link")


def test_a_pipe_on_standard_output_is_no_metrics_file(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", *RANGE, "--metrics-file", "/dev/stdout", box=box)
    assert (ended.code, ended.out, box.requests) == (2, "", [])
    assert ended.error.endswith("--metrics-file /dev/stdout: cannot be written (not a regular file)")


def test_a_log_file_that_is_a_pipe_without_a_reader_is_told_first(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    os.mkfifo(program.directory / "log")
    ended = program("--tickers", "QQ", *RANGE, "--log-file", "log", box=box, timeout=20)
    assert (ended.code, box.requests) == (2, [])
    assert ended.err == "polygon-async: error: --log-file log: cannot be written (the pipe has no reader)\n"
