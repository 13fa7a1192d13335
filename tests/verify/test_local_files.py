"""What becomes of local histories is found by `verify`: the only copies, and those beside their objects."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

import pytest
from stored import RANGE, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

AGAIN = "download it again: --no-upload --tickers {} --from 2026-03-02 --to 2026-03-02"


def found(ended: Ended) -> dict[str, tuple[str, str]]:
    """What is wrong, and what to do, by ticker."""
    return {each["ticker"]: (each["kind"], each["remedy"]) for each in ended.summary["findings"]}


def test_a_file_beside_its_object_may_be_gone_but_not_changed(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, output = sandbox(), program.directory / "output"
    assert program("--tickers", "CUT", "GONE", "KEPT", "TOUCHED", *RANGE, box=box).code == 0
    os.utime(output / "TOUCHED_historical.csv", (1_000_000_000, 1_000_000_000))
    (output / "GONE_historical.csv").unlink()
    ended = program("verify", box=box)
    assert ended.code == 0, ended.out
    assert ended.out.startswith(f"4 objects in s3://{box.bucket}/, all as they should be, in ")
    line = "  local     3 files in output, all as they should be; 1 ticker without a local copy"
    assert line in ended.out.splitlines()

    path = output / "CUT_historical.csv"
    size = path.stat().st_size
    os.truncate(path, size // 2)
    ended = program("verify", box=box)
    assert (ended.code, "all as they should be" in ended.out) == (1, False)
    told = f"it was changed after writing: it has {size // 2:,} bytes, expected {size:,}"
    remedy = f"remove it, as the store has its bars, or move it away and {AGAIN.format('CUT')}"
    assert ended.out.splitlines()[0] == f"CUT  output/CUT_historical.csv: {told}; {remedy}"
    assert "  local     3 files in output, 1 not as it should be; 1 ticker without a local copy" in ended.out
    with (output / "verify.csv").open() as file:
        assert [(row["ticker"], row["from"]) for row in csv.DictReader(file)] == [("CUT", "2026-03-02")]

    # What it advises helps, and leaves the objects alone.
    before = stored(box)
    path.rename(program.directory / "mine.csv")
    assert program(*remedy.partition("again: ")[2].split(), box=box).code == 0
    assert path.stat().st_size == size
    ended = program("verify", "--json", box=box)
    assert (ended.code, ended.summary["files"]) == (0, {"checked": 4, "right": 3, "wrong": 0, "without_copy": 1})
    assert stored(box) == before
    assert not (output / "verify.csv").exists()


def test_where_nothing_was_uploaded_only_files_are_checked(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Without credentials, and without lzop, whatever is asked for."""
    box, output = sandbox(), program.directory / "output"
    env = dict.fromkeys(box.environment) | {"LZOP": None, "PATH": os.devnull}
    assert program("--tickers", "EDITED", "GONE", "KEPT", "--no-upload", *RANGE, box=box).code == 0
    for more in ((), ("--deep",), ("--repair",)):
        ended = program("verify", *more, env=env)
        assert (ended.code, ended.err) == (0, ""), more
        first, second = ended.out.splitlines()
        assert first.startswith("nothing was uploaded, so only local files were checked, in ")
        assert second == "  local     3 files in output, all as they should be"

    edited = output / "EDITED_historical.csv"
    edited.write_bytes(edited.read_bytes()[::-1])
    (output / "GONE_historical.csv").unlink()
    ended = program("verify", "--json", env=env)
    assert (ended.code, ended.summary["where"]) == (1, None)
    assert found(ended) == {
        "EDITED": ("changed", f"move it away and {AGAIN.format('EDITED')}"),
        "GONE": ("missing", f"put it back, or {AGAIN.format('GONE')}"),
    }
    assert program("verify", "--tickers", "KEPT", env=env).code == 0
    assert "does not know ELSE" in program("verify", "--tickers", "ELSE", env=env).error


@pytest.mark.parametrize(("deep", "code"), [((), 0), (("--deep",), 1)])
def test_a_file_of_the_same_size_and_date_is_read_by_the_deep_look(
    deep: tuple[str, ...], code: int, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, path = sandbox(), program.directory / "output" / "QQ_historical.csv"
    assert program("--tickers", "QQ", "--no-upload", *RANGE, box=box).code == 0
    date = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(date, date))
    assert program("verify", *deep).code == code


def test_the_days_that_are_in_no_store_make_a_copy_the_only_one(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box, path = sandbox(), program.directory / "output" / "QQ_historical.csv"
    quick = ("--tickers", "QQ", "--rate", "unlimited")
    assert program(*quick, "--from", "2026-03-02", "--to", "2026-03-03", box=box).code == 0
    assert program(*quick, "--from", "2026-03-04", "--to", "2026-03-04", "--no-upload", box=box).code == 0
    path.unlink()
    ended = program("verify", "--json", box=box)
    remedy = "put it back, or download it again: --no-upload --tickers QQ --from 2026-03-02 --to 2026-03-04"
    assert (ended.code, found(ended)) == (1, {"QQ": ("missing", remedy)})
    assert program(*quick, "--from", "2026-03-04", "--to", "2026-03-04", box=box).code == 0
    path.unlink()
    assert program("verify", box=box).code == 0
