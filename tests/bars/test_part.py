"""A part file grows from place to place, whoever writes to it, and becomes a whole file or nothing."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.part import Part, append_rows, finish, remove
from polygon_async.errors import DiskUnusable, TickerError

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_follow_each_other_after_one_header(tmp_path: Path) -> None:
    place = Part(path=tmp_path / "AAPL.part")
    for rows in (b"1,\n", b"", b"2,\n3,\n"):
        place = append_rows(place, rows)
    assert place.path.read_bytes() == CSV_HEADER + b"1,\n2,\n3,\n"
    assert place.size == place.path.stat().st_size


def test_what_was_written_twice_from_one_place_is_there_once(tmp_path: Path) -> None:
    """A reader may have died after it wrote; its page is read again, and may be shorter."""
    begun = append_rows(Part(path=tmp_path / "AAPL.part"), b"1,\n")
    append_rows(begun, b"2,\n3,\n4,\n")
    place = append_rows(begun, b"2,\n")
    sha256 = finish(place, tmp_path / "AAPL.csv", modified=60.0).sha256
    whole = (tmp_path / "AAPL.csv").read_bytes()
    assert whole == CSV_HEADER + b"1,\n2,\n"
    assert sha256 == hashlib.sha256(whole).hexdigest()
    assert (tmp_path / "AAPL.csv").stat().st_mtime == 60.0
    assert not place.path.exists()


def test_a_first_page_begins_the_file_anew(tmp_path: Path) -> None:
    place = Part(path=tmp_path / "AAPL.part")
    place.path.write_bytes(b"something much longer than what follows, of an earlier run, which nobody wants" * 10)
    finish(append_rows(place, b"1,\n"), tmp_path / "AAPL.csv", modified=0.0)
    assert (tmp_path / "AAPL.csv").read_bytes() == CSV_HEADER + b"1,\n"


@pytest.mark.parametrize("damage", [b"X", b""])
def test_a_part_that_does_not_hold_what_was_written_is_never_whole(tmp_path: Path, damage: bytes) -> None:
    place = append_rows(Part(path=tmp_path / "AAPL.part"), b"1,\n2,\n")
    content = place.path.read_bytes()
    place.path.write_bytes(content[:-3] + damage + content[-2:])
    with pytest.raises(DiskUnusable, match="does not contain what was written"):
        finish(place, tmp_path / "AAPL.csv", modified=0.0)
    assert not (tmp_path / "AAPL.csv").exists()


def test_a_part_that_is_gone_is_no_trouble_to_remove(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")


# What somebody else has put there


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "theirs"
    path.write_text("theirs")
    return path


def test_a_link_under_the_parts_name_is_replaced_and_not_followed(tmp_path: Path, victim: Path) -> None:
    place = Part(path=tmp_path / "AAPL.part")
    place.path.symlink_to(victim)
    finish(append_rows(place, b"1,\n"), tmp_path / "AAPL.csv", modified=0.0)
    assert (tmp_path / "AAPL.csv").read_bytes() == CSV_HEADER + b"1,\n"
    assert victim.read_text() == "theirs"


def test_a_hard_link_under_the_parts_name_is_replaced(tmp_path: Path, victim: Path) -> None:
    place = Part(path=tmp_path / "AAPL.part")
    place.path.hardlink_to(victim)
    append_rows(place, b"1,\n")
    assert victim.read_text() == "theirs"


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_takes_the_parts_place_meanwhile_fails_the_ticker(kind: str, tmp_path: Path, victim: Path) -> None:
    begun = append_rows(Part(path=tmp_path / "AAPL.part"), b"1,\n")
    begun.path.unlink()
    if kind == "link":
        begun.path.symlink_to(victim)
    else:
        os.mkfifo(begun.path)
    with pytest.raises(TickerError, match=r"AAPL.part cannot be written"):
        append_rows(begun, b"2,\n")
    with pytest.raises(TickerError, match=r"AAPL.csv cannot be written"):
        finish(begun, tmp_path / "AAPL.csv", modified=0.0)
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "AAPL.csv").exists()


def test_a_pipe_in_the_place_of_the_part_keeps_nobody_waiting(tmp_path: Path) -> None:
    place = Part(path=tmp_path / "AAPL.part")
    os.mkfifo(place.path)
    finish(append_rows(place, b"1,\n"), tmp_path / "AAPL.csv", modified=0.0)
    assert (tmp_path / "AAPL.csv").read_bytes() == CSV_HEADER + b"1,\n"
