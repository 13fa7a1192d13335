"""The result of a verification: its text, its JSON, its exit code, and the list of affected tickers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polygon_async._version import __version__
from polygon_async.model.layout import VERIFY_CSV
from polygon_async.model.tickers import AssetType
from polygon_async.report.lists import write_list
from polygon_async.report.words import counted, duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from polygon_async.ledger.entries import LocalHistory
    from polygon_async.verify.findings import Checked, CheckedFile, Finding

__all__ = ["Verification"]

_COLUMNS = ("ticker", "asset_type", "exchange", "currency", "from", "to", "adjusted", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification."""

    checked: Sequence[Checked]
    """As they are now, in the order of their keys."""
    before: Sequence[Checked]
    """As they were found."""
    files: Sequence[CheckedFile]
    """The local histories."""
    where: str | None
    """None if nothing was ever uploaded, so that no store was asked."""
    directory: Path
    deep: bool
    repaired: bool
    """Whether repairing was asked for."""
    by_prefix: bool
    """Whether the bucket's own listing said what to check, and not a ledger."""
    elsewhere: int
    """Objects in other destinations, which were not checked."""
    pending: int
    """Uploads to here that are not confirmed, and were not checked."""
    abandoned: int
    """How many of those no run will continue."""
    bytes_read: int
    seconds: float

    @property
    def findings(self) -> list[Finding]:
        """What is wrong now."""
        return [finding for each in self.checked for finding in each.findings] + self._of_files

    @property
    def _of_files(self) -> list[Finding]:
        return [each.finding for each in self.files if each.finding]

    @property
    def mended(self) -> list[Finding]:
        """What was wrong, and no longer is."""
        wrong = {(finding.ticker, finding.kind, finding.text) for finding in self.findings}
        found = [finding for each in self.before for finding in each.findings]
        return [finding for finding in found if (finding.ticker, finding.kind, finding.text) not in wrong]

    @property
    def exit_code(self) -> int:
        """0 if all is well, else 1; where no object is, the prefix or the bucket may be misspelt, or all is gone."""
        return 1 if self.findings or self.found_nothing or self.is_elsewhere else 0

    @property
    def found_nothing(self) -> bool:
        """Whether objects were looked for by their prefix, and there are none."""
        return self.by_prefix and not self.checked

    @property
    def is_elsewhere(self) -> bool:
        """Whether the ledger has objects, and none of them is where they were looked for."""
        return self.where is not None and not self.checked and self.elsewhere > 0

    def as_text(self) -> str:
        """The result for a person: a line for each finding, then the totals."""
        lines = [f"{each.ticker or '-'}  {each.key}: {each.text}; repaired" for each in self.mended]
        lines += [finding.as_line() for finding in self.findings]
        wrong = sum(bool(each.findings) for each in self.checked)
        # Nobody should read of something wrong that all is as it should be.
        right = "all right" if self._of_files else "all as they should be"
        verdict = f"{wrong:,} not as they should be" if wrong else right
        read = f", {size(self.bytes_read)} read" if self.deep else ""
        objects = counted(len(self.checked), "object")
        took = f"in {duration(self.seconds)}"
        if self.found_nothing:
            lines.append(f"no object's key starts with {self.where}; check --prefix and --bucket")
        elif self.is_elsewhere:
            told = counted(self.elsewhere, "object")
            lines.append(f"nothing was checked in {self.where}: {told} in other buckets or stores; check --bucket")
        elif self.where is None:
            lines.append(f"nothing was uploaded, so only local files were checked, {took}")
        else:
            lines.append(f"{objects} in {self.where}, {verdict}, {took}{read}")
        lines += self._local()
        if self.mended:
            lines.append(f"  repaired  {counted(len({each.key for each in self.mended}), 'object')}")
        if self.elsewhere and not self.is_elsewhere:
            lines.append(f"  elsewhere {counted(self.elsewhere, 'object')} in other buckets or stores, not checked")
        if self.pending:
            told = f", {self.abandoned:,} of them abandoned" if self.abandoned else ""
            rest = "; the next download continues" if self.pending > self.abandoned else ""
            lines.append(f"  pending   {counted(self.pending, 'upload')} not confirmed{told}{rest}")
        if self._rows():
            lines.append(f"  list      {self.directory / VERIFY_CSV}")
            lines += [f"  again     {self._again}"] if self._again else []
        return "\n".join(lines)

    def _local(self) -> list[str]:
        """The line about the local histories, if there are any."""
        if not self.files:
            return []
        there = counted(sum(each.is_there for each in self.files), "file")
        wrong = len(self._of_files)
        right = ", all as they should be" if any(each.is_there for each in self.files) else ""
        verdict = f", {wrong:,} not as {'it' if wrong == 1 else 'they'} should be" if wrong else right
        absent = f"; {counted(kept, 'ticker')} without a local copy" if (kept := self._without_copy) else ""
        return [f"  local     {there} in {self.directory}{verdict}{absent}"]

    @property
    def _without_copy(self) -> int:
        """How many tickers have no file any more, and need none."""
        return sum(not each.is_there and each.finding is None for each in self.files)

    def as_json(self) -> dict[str, Any]:
        """The result as one JSON object; sizes in bytes, times in s."""
        return {
            "version": __version__,
            "exit_code": self.exit_code,
            "error": None,
            "where": self.where,
            "deep": self.deep,
            "objects": {
                "checked": len(self.checked),
                "right": sum(not each.findings for each in self.checked),
                "wrong": sum(bool(each.findings) for each in self.checked),
                "repaired": len({each.key for each in self.mended}),
                "elsewhere": self.elsewhere,
                "pending": self.pending,
                "abandoned": self.abandoned,
            },
            "files": {
                "checked": len(self.files),
                "right": len(self.files) - len(self._of_files) - self._without_copy,
                "wrong": len(self._of_files),
                "without_copy": self._without_copy,
            },
            "stored_bytes": sum(each.size for each in self.checked),
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 3),
            "repaired": [finding.as_json() for finding in self.mended],
            "findings": [finding.as_json() for finding in self.findings],
        }

    @property
    def _again(self) -> str:
        """The command that repairs everything at once, if there is one."""
        rows = self._object_rows()
        if not rows:
            return ""
        if not any(each.expected and each.expected.recorded for each in self.checked):
            ranges = {(row.get("from"), row.get("to"), row.get("adjusted")) for row in rows}
            first, last, adjusted = next(iter(ranges))
            if len(ranges) > 1 or first is None:
                return ""
            words = [
                "polygon-async",
                "--universe",
                str(self.directory / VERIFY_CSV),
                "--from",
                first,
                "--to",
                last or "",
            ]
            words += [] if adjusted == "true" else ["--no-adjusted"]
            return shlex.join([*words, "--output-dir", str(self.directory)])
        return "" if self.repaired else "the same command with --repair"

    def write_list(self) -> None:
        """Write the affected tickers in the universe's own form; remove a list that would be empty.

        Raises:
            DiskUnusable: it cannot be written.
        """
        write_list(self.directory / VERIFY_CSV, _COLUMNS, self._rows())

    def _rows(self) -> list[dict[str, str]]:
        return self._object_rows() + [
            _file_row(each.expected, each.finding) for each in self.files if each.finding and each.expected
        ]

    def _object_rows(self) -> list[dict[str, str]]:
        return [_row(each) for each in self.checked if each.expected and each.findings]


def _row(checked: Checked) -> dict[str, str]:
    assert checked.expected is not None  # noqa: S101 (for the type checker)
    expected = checked.expected
    told = {
        "ticker": expected.ticker.symbol,
        "asset_type": str(expected.ticker.asset_type),
        "exchange": expected.ticker.exchange,
        "currency": expected.ticker.currency,
        "error": ", ".join(finding.text for finding in checked.findings),
    }
    if expected.unit is not None:
        adjusted = "true" if expected.unit.adjusted else "false"
        told |= {"from": str(expected.unit.start), "to": str(expected.unit.end), "adjusted": adjusted}
    return told


def _file_row(expected: LocalHistory, finding: Finding) -> dict[str, str]:
    return {
        "ticker": finding.ticker,
        "asset_type": str(AssetType.of(finding.ticker)),
        "from": f"{expected.first_day}",
        "to": f"{expected.last_day}",
        "adjusted": "false" if expected.adjusted is False else "true",
        "error": f"{finding.file}: {finding.text}",
    }
