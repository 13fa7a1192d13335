"""What the columns of a CSV are is said once, and the README says the same."""

from __future__ import annotations

from pathlib import Path

from conftest import HEADER

from polygon_async.bars.columns import CSV_HEADER, DTYPES, TIMESTAMP


def test_the_header_is_the_contracts() -> None:
    assert CSV_HEADER.decode() == HEADER
    assert HEADER.split(",")[TIMESTAMP] == "timestamp"


def test_the_readme_reads_a_csv_with_the_same_types() -> None:
    numbers = ", ".join(f'"{name}"' for name, kind in DTYPES.items() if kind == "float64")
    others = ", ".join(f'"{name}": "{kind}"' for name, kind in DTYPES.items() if kind != "float64")
    text = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert f'types = dict.fromkeys(({numbers}), "float64")\ntypes |= {{{others}}}\n' in text
