"""A ticker's local history: it grows by what is new, loses nothing, and gives a unit's rows back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.bars.history import Ends, crc_of, ends_of, extended, extract, look
from polygon_async.errors import TickerError

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000
MODIFIED = 1_700_000_000.0


def csv(minutes: list[int], mark: str = "1", otc: str = "") -> bytes:
    rows = (f"{mark},{mark},{mark},{mark},10,,{minute * MINUTE},,{otc}\n" for minute in minutes)
    return CSV_HEADER + "".join(rows).encode()


def marks(path: Path) -> dict[int, str]:
    """Whose bar each minute has."""
    rows = [row.split(",") for row in path.read_text().splitlines()[1:]]
    return {int(row[6]) // MINUTE: row[0] for row in rows}


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(1, 400), min_size=1), st.sets(st.integers(1, 500), min_size=1))
def test_every_minute_of_both_is_there_once_and_the_later_bar_counts(
    tmp_path_factory: pytest.TempPathFactory, old: set[int], new: set[int]
) -> None:
    directory = tmp_path_factory.mktemp("history")
    history, unit = directory / "A_historical.csv", directory / "unit.csv"
    history.write_bytes(csv(sorted(old), "1", "True"))
    unit.write_bytes(csv(sorted(new), "222.5"))

    new_one = directory / "new.csv"
    found = extended(history, unit, new_one, modified=MODIFIED)
    assert history.read_bytes() == csv(sorted(old), "1", "True")
    new_one.replace(history)

    assert marks(history) == dict.fromkeys(old, "1") | dict.fromkeys(new, "222.5")
    assert list(marks(history)) == sorted(old | new)
    assert found == ends_of(history)
    assert found.bars == len(old | new)
    assert unit.read_bytes() == csv(sorted(new), "222.5")
    assert sorted(path.name for path in directory.iterdir()) == ["A_historical.csv", "unit.csv"]


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(1, 300), min_size=1), st.integers(0, 310), st.integers(0, 310))
def test_a_units_rows_come_out_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, minutes: set[int], first: int, last: int
) -> None:
    directory = tmp_path_factory.mktemp("history")
    history, unit = directory / "A_historical.csv", directory / "unit.csv"
    history.write_bytes(csv(sorted(minutes)))
    inside = sorted(minute for minute in minutes if first <= minute <= last)

    found = extract(history, unit, first=first * MINUTE, last=last * MINUTE, modified=MODIFIED)

    assert found == bool(inside)
    assert unit.exists() == bool(inside)
    assert not inside or unit.read_bytes() == csv(inside)


def test_a_long_history_is_found_by_bisection_and_kept(tmp_path: Path) -> None:
    history, unit = tmp_path / "A_historical.csv", tmp_path / "unit.csv"
    history.write_bytes(csv(list(range(0, 200_000, 2))))
    unit.write_bytes(csv([199_990, 199_999, 200_001], "2"))
    found = extended(history, unit, tmp_path / "new.csv", modified=MODIFIED)
    (tmp_path / "new.csv").replace(history)
    assert found == Ends(bars=100_002, first=0, last=200_001 * MINUTE, crc=crc_of(history) or 0)
    assert history.stat().st_mtime == MODIFIED


@pytest.mark.parametrize(
    "text",
    [
        b"",
        CSV_HEADER,
        b"date,price\n1,2\n",
        csv([2, 1]),
        b"\x00" * 50_000,
    ],
)
def test_what_is_no_csv_of_bars_is_not_taken_for_one(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "A_historical.csv"
    path.write_bytes(text)
    assert ends_of(path) is None


@pytest.mark.parametrize("text", [csv([1, 2, 3])[:-3], csv([1, 2]) + b"1,2,3\n"])
def test_a_cut_end_is_seen(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "A_historical.csv"
    path.write_bytes(text)
    found = ends_of(path)
    assert found is not None
    assert (found.first, found.last, found.is_whole) == (MINUTE, 2 * MINUTE, False)


def test_a_history_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    history, unit = tmp_path / "A_historical.csv", tmp_path / "unit.csv"
    unit.write_bytes(csv([5]))
    for text in (b"date,price\n1,2\n", csv([1, 9])[:-4]):
        history.write_bytes(text)
        with pytest.raises(TickerError, match="not a CSV of bars"):
            extended(history, unit, tmp_path / "new.csv", modified=MODIFIED)
        assert history.read_bytes() == text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["A_historical.csv", "unit.csv"]


def test_a_row_in_the_middle_that_is_none_names_the_file(tmp_path: Path) -> None:
    history, unit = tmp_path / "A_historical.csv", tmp_path / "unit.csv"
    rows = csv(list(range(100))).splitlines(keepends=True)
    rows[50] = b"not a row\n"
    history.write_bytes(b"".join(rows))
    unit.write_bytes(csv([10]))
    with pytest.raises(TickerError) as caught:
        extended(history, unit, tmp_path / "new.csv", modified=MODIFIED)
    assert str(caught.value) == f"{history} is not a CSV of bars; move it away, or replace it with --force"
    assert not (tmp_path / "new.csv").exists()


def test_a_look_tells_a_file_from_none(tmp_path: Path) -> None:
    path = tmp_path / "A_historical.csv"
    assert look(path) is None
    assert ends_of(path) is None
    assert crc_of(path) is None
    path.mkdir()
    assert look(path) is None
    (tmp_path / "B_historical.csv").write_bytes(csv([1]))
    found = look(tmp_path / "B_historical.csv")
    assert found is not None
    assert found.size == len(csv([1]))
