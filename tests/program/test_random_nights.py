"""Weeks of nightly runs, given ranges, kills, splits, late sessions, lost files, objects and tags, drawn at random.

No bar is lost, and what is stored is read back whole.

`scripts/nights` runs more of them. A seed that fails tells what was done.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import another_day
import pytest
from conftest import csv_of
from stored import decompressed, stored

from polygon_async.bars.columns import CSV_HEADER
from polygon_async.model.units import NEW_YORK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

SEEDS = int(os.environ.get("NIGHTS", "1"))
STEPS = int(os.environ.get("STEPS", "6"))
TICKERS = ("QQ", "RR")
DAY = dt.timedelta(days=1)
BEGIN, END = dt.date(2026, 2, 15), dt.date(2026, 5, 31)
PACE = ("--rate", "unlimited", "--no-reference", "--quiet", "--json")
KILLED = -signal.SIGKILL


class Weeks:
    """Some weeks with the program, and what is true of them."""

    def __init__(self, seed: int, program: Program, box: Sandbox) -> None:
        self.draw = random.Random(seed)
        self.program = program
        self.box = box
        self.today = dt.date(2026, 3, 3)
        self.flags = self.draw.choice([("--no-upload",), (), ("--no-keep-csv",)])
        self.adjusted = self.draw.random() < 0.75
        self.flags += () if self.adjusted else ("--no-adjusted",)
        self.truths = {ticker: [self.truth(ticker)] for ticker in TICKERS}
        """Each ticker's rows by timestamp: as they were at first, and after each of its splits."""
        self.late: set[tuple[str, dt.date]] = set()
        """Sessions that were late once: they may be missing for a while."""
        self.lost = False
        """Whether an object, or its tags, may be missing."""
        self.spoilt: set[str] = set()
        """Tickers whose file somebody has changed."""
        self.story: list[str] = []

    def truth(self, ticker: str) -> dict[str, str]:
        """All rows of a ticker, as they are now."""
        return rows_of(csv_of(self.box.market.days(ticker, BEGIN, END, adjusted=self.adjusted)))

    def file(self, ticker: str) -> Path:
        return self.program.directory / "output" / f"{ticker}_historical.csv"

    def run(
        self, *arguments: str, kill_after: int | None = None, flags: Sequence[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the program at some hour of this day; it may be killed when it has asked so often, or a little later."""
        hour = dt.datetime.combine(self.today, dt.time(self.draw.choice([11, 15, 22]), len(self.story)), dt.UTC)
        shift = hour.timestamp() - dt.datetime.now(dt.UTC).timestamp()
        flags = (*self.flags, *PACE) if flags is None else flags
        command = [sys.executable, another_day.__file__, str(shift), *arguments, *flags]
        environment = self.program.environment(self.box, {})
        process = subprocess.Popen(
            command,
            cwd=self.program.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if kill_after is not None:
            asked = len(self.box.requests)
            while process.poll() is None and len(self.box.requests) < asked + kill_after:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.002)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.draw.choice([0.001, 0.01, 0.05, 0.1]))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate(timeout=100)
        self.story.append(f"{self.today} {' '.join(arguments)} -> {process.returncode} {err.strip()[-300:]}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def step(self) -> None:
        """Something happens."""
        self.today += DAY * self.draw.choice([0, 1, 1, 1, 2, 3])
        acts = {
            self.night: 8,
            self.given_range: 3,
            self.split: 2,
            self.lateness: 1,
            self.spoil: 1,
            self.read: 2,
            self.lose: 1,
            self.repair: 1,
        }
        self.draw.choices([*acts], [*acts.values()])[0]()

    def night(self) -> None:
        """A nightly run, which may be killed."""
        tickers = self.draw.choice([TICKERS, TICKERS, TICKERS[:1], TICKERS[1:]])
        kill = self.draw.randint(1, 6) if self.draw.random() < 0.25 else None
        before = self.held()
        ended = self.run("--tickers", *tickers, "--from", "last", kill_after=kill)
        if ended.returncode == 2:
            assert self.spoilt, "a night was refused"
        self.look(before, ended, tickers)
        if ended.returncode == 0:
            last = dt.date.fromisoformat(json.loads(ended.stdout)["to"])
            for ticker in tickers:
                self.see_whole(ticker, self.held()[ticker], last)

    def given_range(self) -> None:
        """A run over given days, which may be killed or refused."""
        first = self.today - DAY * self.draw.randint(1, 12)
        last = max(first, min(first + DAY * self.draw.randint(0, 8), self.today - DAY))
        kill = self.draw.randint(1, 6) if self.draw.random() < 0.25 else None
        before = self.held()
        ended = self.run("--tickers", *TICKERS, "--from", f"{first}", "--to", f"{last}", kill_after=kill)
        self.look(before, ended, TICKERS)

    def split(self) -> None:
        """A ticker is split today."""
        ticker = self.draw.choice(TICKERS)
        self.box.split(ticker, self.today, after=self.draw.choice([2, 4]))
        self.truths[ticker].append(self.truth(ticker))
        self.story.append(f"{self.today} {ticker} is split")

    def lateness(self) -> None:
        """The API gets a recent session of a ticker late; or it has all of them again."""
        ticker, day = self.draw.choice(TICKERS), self.today - DAY * self.draw.randint(0, 3)
        is_late = self.draw.random() < 0.5
        self.late |= {(ticker, day)} if is_late else set()
        self.box.set_troubles([f"{ticker} * late={day}"] if is_late else [])
        self.story.append(f"{self.today} {f'{ticker} lacks {day}' if is_late else 'nothing is late'}")

    def spoil(self) -> None:
        """Somebody removes a file, or cuts it."""
        file = self.file(ticker := self.draw.choice(TICKERS))
        if file.is_file():
            if self.draw.random() < 0.5:
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            self.spoilt.add(ticker)
            self.story.append(f"{self.today} {ticker}'s file is spoilt")

    def read(self) -> None:
        """What is stored is read back: of each minute what was fetched last."""
        if self.spoilt or self.lost:
            return
        for ticker, held in self.held().items():
            ended = self.run("read", "--tickers", ticker, "--output", "-", flags=["--quiet", "--rate", "unlimited"])
            assert "Traceback" not in ended.stderr
            if not held:
                assert ended.returncode in (1, 2)
                continue
            assert ended.returncode == 0, ended.stderr
            rows = rows_of("\n".join(row.partition(",")[2] for row in ended.stdout.splitlines()) + "\n")
            assert rows.keys() == held.keys(), f"{ticker} is not read whole"
            self.see_one_basis(ticker, CSV_HEADER.decode() + "".join(f"{row}\n" for row in rows.values()))

    def lose(self) -> None:
        """Somebody removes an object, or its tags."""
        with contextlib.closing(self.box.s3_client()) as s3:
            keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=self.box.bucket).get("Contents", [])]
            if not keys:
                return
            key = self.draw.choice(keys)
            if self.draw.random() < 0.5:
                s3.delete_object_tagging(Bucket=self.box.bucket, Key=key)
            else:
                s3.delete_object(Bucket=self.box.bucket, Key=key)
                self.spoilt |= {*TICKERS}
        self.lost = True
        self.story.append(f"{self.today} {key} is spoilt")

    def repair(self) -> None:
        """What was lost is repaired, where it can be."""
        if "--no-upload" in self.flags:
            return
        first = self.run("verify", "--repair", flags=[])
        assert first.returncode in (0, 1, 2), first.stderr
        assert "Traceback" not in first.stderr
        if first.returncode == 0:
            again = self.run("verify", "--deep", flags=[])
            assert again.returncode == 0, again.stdout + again.stderr
            self.lost = False

    def held(self) -> dict[str, dict[str, str]]:
        """The rows of each ticker that are anywhere: in its file, or in a store."""
        found: dict[str, dict[str, str]] = {ticker: {} for ticker in TICKERS}
        for item in stored(self.box):
            ticker = item.key.split("/")[1]  # its tags may be lost
            found[ticker] |= self.see_one_basis(ticker, decompressed(item).decode())
        for ticker in TICKERS:
            if (file := self.file(ticker)).is_file() and ticker not in self.spoilt:
                found[ticker] |= self.see_one_basis(ticker, file.read_text())
        return found

    def see_one_basis(self, ticker: str, csv: str) -> dict[str, str]:
        """The rows of a CSV, which are all as they were at one time."""
        rows = rows_of(csv)
        assert [*rows] == sorted(rows, key=int)
        assert any(rows.items() <= truth.items() for truth in self.truths[ticker]), f"{ticker} mixes prices"
        return rows

    def look(
        self, before: dict[str, dict[str, str]], ended: subprocess.CompletedProcess[str], tickers: Sequence[str]
    ) -> None:
        """See that the run has ended properly, has lost nothing, and has left no hole."""
        assert ended.returncode in {0, 1, 2, KILLED}, ended.stderr
        assert "Traceback" not in ended.stderr
        if ended.returncode == 0:
            self.spoilt -= {*tickers}
        after = self.held()
        for ticker in TICKERS:
            assert before[ticker].keys() <= after[ticker].keys() or ticker in self.spoilt, f"{ticker} has lost bars"
            if (file := self.file(ticker)).is_file() and ticker not in self.spoilt:
                self.see_whole(ticker, rows_of(file.read_text()), None)

    def see_whole(self, ticker: str, rows: dict[str, str], last: dt.date | None) -> None:
        """See that no session is missing among a ticker's rows; to a last day, or to their own."""
        end = max(map(day_of, rows)) if last is None else last
        wanted = {stamp for stamp in self.truths[ticker][-1] if stamp >= min(rows) and day_of(stamp) <= end}
        missing = {day_of(stamp) for stamp in wanted - rows.keys()}
        assert not {(ticker, day) for day in missing} - self.late, f"{ticker} has holes: {missing}"


def rows_of(csv: str) -> dict[str, str]:
    """A CSV's rows by their timestamps."""
    assert csv.startswith(CSV_HEADER.decode())
    return {row.split(",")[6]: row for row in csv.splitlines()[1:]}


def day_of(stamp: str) -> dt.date:
    """New York's day."""
    return dt.datetime.fromtimestamp(int(stamp) / 1000, NEW_YORK).date()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_in_weeks_of_nights_no_bar_is_lost(
    seed: int, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    weeks = Weeks(seed, program, sandbox(page_size=2000))
    first = weeks.today - DAY * weeks.draw.randint(4, 7)
    try:
        weeks.run("--tickers", *TICKERS, "--from", f"{first}", "--to", f"{weeks.today - DAY}")
        for _ in range(STEPS):
            weeks.step()
    except AssertionError as error:
        error.add_note("\n".join(weeks.story))
        raise
