"""Servers, a scratch directory and options in; runs of the tool and of the script, cleaned up after themselves, out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import programs
from programs import ProgramFailed

from polygon_async.sandbox.__main__ import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from programs import Memory, Run
    from servers import Servers, Use
    from workload import Job

__all__ = ["Bench", "ToolRun", "WrongResult", "cpu", "median_of", "seconds"]

HERE = Path(__file__).parent
_T = TypeVar("_T")
_MOST_ATTEMPTS = 4
_SAMPLES = 500
"""A second, of who holds the interpreter."""
_OWN = ("POLYGON_", "MASSIVE_", "AWS_", "S3_BUCKET", "PYTHONDONTWRITEBYTECODE", "LZOP")
"""Settings of whoever runs the benchmark, which would change what is measured."""


class WrongResult(Exception):
    """A program has not produced what it should have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """One run of the tool."""

    seconds: float
    cpu: float
    memory: Memory | None
    summary: Mapping[str, Any]
    """Its own, as --json gives it."""
    report: Mapping[str, Any]
    """What the watch on its event loop found; empty where there was none."""
    use: Use


@dataclass(slots=True, kw_only=True)
class Bench:
    """Everything that a measurement needs."""

    servers: Servers
    scratch: Path
    repeat: int
    flags: Sequence[str]
    """More flags for every run of the tool."""
    bars: dict[Job, dict[str, int]] = field(default_factory=dict)
    """Of every job whose pages are warm, by ticker."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the programs: the servers', and no settings of one's own; bytecode goes to the scratch."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        extra = {"PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode"), "PYTHON_DOTENV_DISABLED": "1"}
        return {**environment(kept, self.servers.environment), **extra}

    def warm(self, job: Job) -> None:
        """Have the job's pages made, once."""
        if job not in self.bars:
            self.bars[job] = self.servers.warm(job)

    def tool(
        self,
        job: Job,
        *flags: str,
        latency: float = 0,
        prefix: Sequence[str] = (),
        memory: bool = False,
        watched: bool = False,
        light: bool = False,
        output: str | None = None,
    ) -> ToolRun:
        """Run the tool over a job whose pages are all warm, in whatever pieces it asks for them.

        Args:
            job: What to download.
            flags: More flags.
            latency: Of every page, and of a light store's every answer, seconds.
            prefix: What stands before the command, such as taskset.
            memory: Sample the memory of its process tree.
            watched: Watch its event loop.
            light: Upload to the store that costs next to nothing.
            output: Keep its files in this directory of the scratch.

        Raises:
            WrongResult: bars or objects are missing.
            ProgramFailed: it did not end well.
        """
        self.warm(job)
        attempts = 1
        while True:
            done = self._tool(
                job,
                *flags,
                latency=latency,
                prefix=prefix,
                memory=memory,
                watched=watched,
                light=light,
                output=output,
            )
            # A range may be asked for in other pieces than the warming did; their pages are warm the next time.
            if memory or not done.use.cold or attempts == _MOST_ATTEMPTS:
                return done
            attempts += 1

    def _tool(
        self,
        job: Job,
        *flags: str,
        latency: float,
        prefix: Sequence[str],
        memory: bool,
        watched: bool,
        light: bool,
        output: str | None,
    ) -> ToolRun:
        directory, report = self.scratch / (output or "tool"), self.scratch / "report.json"
        start = [str(HERE / "watched.py"), str(report)] if watched else ["-m", "polygon_async"]
        command = [*prefix, sys.executable, *start, *_over(job, directory), "--json"]
        # Replacing costs a look at what is there.
        command += [] if light else ["--force"]
        command += ["--log-level", "warning", *self.flags, *flags]
        for flag, usual in (("--concurrency", "8"), ("--rate", "unlimited")):
            command += [] if flag in command else [flag, usual]
        self.servers.reset(latency=latency, light=light)
        try:
            run = programs.run(command, self.environment, cwd=self.scratch, memory=memory)
        finally:
            if output is None:
                shutil.rmtree(directory, ignore_errors=True)
        # Whoever stands before the command, a profiler for one, may say something, too.
        said = run.output[run.output.index('{"version"') : run.output.rindex("}") + 1]
        use, summary = self.servers.use(), json.loads(said)
        found = {ticker["ticker"]: ticker["bars"] for ticker in summary["done"]}
        if found != self.bars[job]:
            raise WrongResult(
                f"the tool wrote other numbers of bars than the API holds: {_differing(found, self.bars[job])}"
            )
        if use.objects != len(found) and "--no-upload" not in command:
            raise WrongResult(f"the tool uploaded {use.objects} objects for {len(found)} tickers")
        told = json.loads(report.read_text()) if watched else {}
        return ToolRun(seconds=run.seconds, cpu=run.cpu, memory=run.memory, summary=summary, report=told, use=use)

    def holding(self, job: Job, *flags: str, light: bool = False) -> float | None:
        """Seconds of a run for which its main process holds the interpreter; None without py-spy, which samples it."""
        profiler, stacks = shutil.which("py-spy", path=str(Path(sys.executable).parent)), self.scratch / "stacks.txt"
        if profiler is None:
            return None
        options = ["record", "--gil", "--nonblocking", "--rate", str(_SAMPLES), "--format", "raw", "--output"]
        try:
            self.tool(job, *flags, light=light, prefix=[profiler, *options, str(stacks), "--"])
        except ProgramFailed:
            return None  # not everybody may look into another process
        return sum(int(line.rpartition(" ")[2]) for line in stacks.read_text().splitlines()) / _SAMPLES

    def script(self, job: Job, *, latency: float = 0, light: bool = False, output: str | None = None) -> programs.Run:
        """Run the script over a job.

        Raises:
            WrongResult: objects are missing.
            ProgramFailed: it did not end well.
        """
        self.warm(job)
        directory = self.scratch / (output or "script")
        self.servers.reset(latency=latency, light=light)
        try:
            command = [sys.executable, str(HERE / "script.py"), *_over(job, directory)]
            run = programs.run(command, self.environment, cwd=self.scratch)
        finally:
            if output is None:
                shutil.rmtree(directory, ignore_errors=True)
        objects = self.servers.use().objects
        if objects != len(job.tickers):
            raise WrongResult(f"the script uploaded {objects} objects for {len(job.tickers)} tickers")
        return run

    def started(self, *arguments: str, memory: bool = False) -> programs.Run:
        """Run the tool with arguments with which it downloads nothing."""
        command = [sys.executable, "-m", "polygon_async", *arguments]
        return programs.run(command, self.environment, cwd=self.scratch, memory=memory)


def _over(job: Job, directory: Path) -> list[str]:
    return ["--tickers", *job.tickers, *job.range, "--output-dir", str(directory)]


def _differing(found: Mapping[str, int], expected: Mapping[str, int]) -> str:
    names = [name for name in expected if found.get(name) != expected[name]]
    return ", ".join(f"{name} {found.get(name)} instead of {expected[name]}" for name in names[:3])


def seconds(run: Run | ToolRun) -> float:
    """How long a run took."""
    return run.seconds


def cpu(run: Run | ToolRun) -> float:
    """Seconds of CPU that a run took, its children's included."""
    return run.cpu


def median_of(runs: Iterable[_T], value: Callable[[_T], float]) -> float:
    """The median of what `value` says of the runs."""
    return median(map(value, runs))
