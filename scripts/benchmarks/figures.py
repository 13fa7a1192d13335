"""Measured figures in; a table for a person and JSON for a program out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Section"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, and what it should be."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    def as_row(self) -> str:
        """A line of the table."""
        low = "" if self.at_least is None else f"at least {_text(self.at_least)}"
        target = low if self.at_most is None else f"at most {_text(self.at_most)}"
        verdict = {None: "", True: "yes", False: "NO"}[self.is_met]
        return (
            f"  {self.name:<52} {_text(self.value):>10} {self.unit:<9} {target:<16} {verdict:<4} {self.note}".rstrip()
        )

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        target = {"at_least": self.at_least, "at_most": self.at_most, "met": self.is_met, "note": self.note or None}
        told = {name: value for name, value in target.items() if value is not None}
        return {"value": self.value, "unit": self.unit, **told}


@dataclass(slots=True)
class Section:
    """Figures under one title, shown as they come."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def show(self) -> None:
        """Print it."""
        lines = [f"\n{self.title}", *(figure.as_row() for figure in self.figures), *(f"  ({r})" for r in self.remarks)]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        return {"figures": {figure.name: figure.as_json() for figure in self.figures}, "remarks": self.remarks}


def _text(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
