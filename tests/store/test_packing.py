"""Small CSVs that wait at the same time share one run of lzop, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from stored import LZOP, csv_file

from polygon_async.errors import CompressionFailed
from polygon_async.store.lzop import Compression
from polygon_async.store.packing import Packer
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

    from polygon_async.model.units import CsvFile


def counting_lzop(directory: Path) -> str:
    """An lzop that notes each of its runs; one over a file called BAD fails."""
    command = directory / "lzop"
    command.write_text(
        f'#!/bin/sh\necho "$1" >> {directory}/runs\ncase "$*" in *BAD*) exit 1;; esac\nexec {LZOP} "$@"\n'
    )
    command.chmod(0o755)
    return str(command)


def made(directory: Path, *names: str) -> dict[Path, CsvFile]:
    """CSVs by target; every second one has a name of its own, as what is to extend a history has."""
    sources = {}
    for number, name in enumerate(names):
        source = directory / (f"{name}_historical.csv" if number % 2 else f"{name}_2026-03-02_2026-03-02.csv")
        source.write_text(f"{name},1,2\n" * 500 * (number + 1))
        os.utime(source, (1_700_000_000, 1_700_000_000))
        sources[directory / f"{name}_historical.csv.lzo"] = csv_file(source)
    return sources


async def test_files_that_wait_share_a_run_and_are_as_they_would_be_alone(tmp_path: Path) -> None:
    sources = made(tmp_path, *(f"T{number}" for number in range(120)))
    async with Threads(4) as offload:
        pack = Packer(counting_lzop(tmp_path), offload=offload)
        packed = await asyncio.gather(*(pack(source, target) for target, source in sources.items()))
    runs = (tmp_path / "runs").read_text().split()
    assert (runs.count("-f"), runs.count("-t")) == (3, 3), "fifty at once"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".lzo", ".link"))]
    for (target, source), content in zip(list(sources.items())[::20], packed[::20], strict=True):
        Compression(LZOP, source.path, target).compress()
        assert content == target.read_bytes()
        assert subprocess.run([LZOP, "-dc", target], capture_output=True, check=True).stdout == source.path.read_bytes()


async def test_one_that_fails_is_left_to_itself(tmp_path: Path) -> None:
    sources = made(tmp_path, "A", "BAD", "C")
    async with Threads(4) as offload:
        pack = Packer(counting_lzop(tmp_path), offload=offload)
        together = await asyncio.gather(*(pack(source, target) for target, source in sources.items()))
        assert together == [None, None, None], "nobody knows which it was"
        [bad] = (target for target in sources if "BAD" in target.name)
        with pytest.raises(CompressionFailed, match=r"failed with exit code 1 while compressing BAD_historical\.csv"):
            await pack(sources[bad], bad)
    assert not list(tmp_path.glob("*.lzo"))


@pytest.mark.parametrize("how", ["longer", "dated"])
async def test_one_that_somebody_has_changed_is_left_to_itself(how: str, tmp_path: Path) -> None:
    sources = made(tmp_path, "A", "B", "C")
    target, csv = next(iter(sources.items()))
    if how == "longer":
        csv.path.write_bytes(csv.path.read_bytes() + b"more\n")
        os.utime(csv.path, ns=(csv.modified or 0,) * 2)
    else:
        os.utime(csv.path)
    async with Threads(4) as offload:
        pack = Packer(LZOP, offload=offload)
        packed = await asyncio.gather(*(pack(source, target) for target, source in sources.items()))
    assert [content is None for content in packed] == [True, False, False]
    assert not target.exists()


async def test_one_that_is_given_up_does_not_take_the_others_along(tmp_path: Path) -> None:
    sources = made(tmp_path, "A", "B", "C")
    command = tmp_path / "lzop"
    os.mkfifo(tmp_path / "started")
    # The first run says that it has begun, and waits to be killed.
    first = f"if mkdir {tmp_path}/first 2>/dev/null; then echo > {tmp_path}/started; sleep 1000; fi"
    command.write_text(f'#!/bin/sh\n{first}\nexec {LZOP} "$@"\n')
    command.chmod(0o755)
    async with Threads(4) as offload:
        pack = Packer(str(command), offload=offload)
        given_up, *others = (asyncio.create_task(pack(source, target)) for target, source in sources.items())
        await offload((tmp_path / "started").read_text)
        given_up.cancel()
        contents = await asyncio.gather(*others)
        with pytest.raises(asyncio.CancelledError):
            await given_up
    assert all(contents)
    assert not list(tmp_path.glob("*.lzo"))
