"""Links and pipes that somebody has put into the output directory lead nowhere, and keep nobody waiting."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
    os.mkfifo(program.directory / "metrics.prom")
    flags = ("--tickers", "QQ", *RANGE, "--metrics-file", "metrics.prom")
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
    assert (program.directory / "metrics.prom").is_file()
