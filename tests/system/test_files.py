"""Files that are replaced whole: nobody's link is followed, and what is left of a kill is no hindrance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polygon_async.system.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    replace_file(path, "ticker\nBÖRSE\n")
    assert path.read_bytes() == "ticker\nBÖRSE\n".encode()
    replace_file(path, b"\xff", mode=0o600, shared=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"\xff", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["list.csv"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_link_is_followed_only_where_it_is_the_file_itself(tmp_path: Path, shared: bool) -> None:
    target, other, path = tmp_path / "target", tmp_path / "other", tmp_path / "list.csv"
    other.write_text("theirs")
    path.symlink_to(target)
    (tmp_path / ".target.new").symlink_to(other)
    replace_file(path, "ours", shared=shared)
    assert (target.read_text(), other.read_text()) == ("ours", "theirs")
    assert path.is_symlink()


def test_what_a_kill_has_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".list.csv.new").write_text("half of it, and more than the whole will be")
    replace_file(tmp_path / "list.csv", "all")
    assert [each.name for each in tmp_path.iterdir()] == ["list.csv"]
    assert (tmp_path / "list.csv").read_text() == "all"


def test_what_was_there_stays_when_it_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(path, "all")
    assert [each.name for each in tmp_path.iterdir()] == ["list.csv"]
