"""The parser of a command's flags; a flag that several commands share is defined here, once."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from polygon_async.settings.settings import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

__all__ = ["LOGGING", "add_shared", "meant", "parser_for", "words_given"]

LOGGING = ("--quiet", "--log-level", "--log-format", "--log-file")
"""The flags of every command that logs."""

_SYNONYMS = {
    "--start": "--from",
    "--since": "--from",
    "--end": "--to",
    "--until": "--to",
    "--ticker": "--tickers",
    "--symbols": "--tickers",
    "--symbol": "--tickers",
    "--workers": "--concurrency",
    "--output": "--output-dir",
    "--prefix": "--key-prefix",
    "--raw": "--no-adjusted",
}
"""What other programs call a flag."""

_NO_VALUE = re.compile(r"^argument (\S+): expected (one argument|at least one argument)$")
_VALUES = {"one argument": "a value", "at least one argument": "at least one value"}

_SHARED: Mapping[str, Mapping[str, Any]] = {
    "--tickers": {
        "nargs": "+",
        "metavar": "T",
        "help": "these tickers, in this order; overrides the universe file",
    },
    "--universe": {
        "nargs": "+",
        "metavar": "FILE",
        "help": "CSVs with a `ticker` column, and optionally `exchange`, `currency`, `asset_type`; - is standard"
        f" input (default: {DEFAULTS['universe']})",
    },
    "--match": {
        "nargs": "+",
        "metavar": "GLOB",
        "help": "only tickers that match one of these globs, such as 'BRK.*' (case matters)",
    },
    "--limit": {"metavar": "N", "help": "only the first N of these tickers"},
    "--shard": {
        "metavar": "K/N",
        "help": "only the K-th of N parts of these, the same on every machine; give each part its own --output-dir, and"
        " an N-th of the rate (default: 1/1) [POLYGON_SHARD]",
    },
    "--from": {
        "metavar": "DATE",
        "help": "first day, inclusive: YYYY-MM-DD, a month or year, today, yesterday, -30d (or w, m, y); or last: each"
        " ticker starts on the day after the last one that the ledger holds (default: two years ago plus a day)"
        " [POLYGON_FROM]",
    },
    "--to": {
        "metavar": "DATE",
        "help": "last day, inclusive; of a month or year, its last (default: yesterday in New York) [POLYGON_TO]",
    },
    "--look-back": {
        "metavar": "N",
        "help": "with --from last: request sessions without a bar again while they are among the last N held"
        f" (default: {DEFAULTS['look_back']}) [POLYGON_LOOK_BACK]",
    },
    "--adjusted": {
        "action": argparse.BooleanOptionalAction,
        "default": True,
        "help": "whether prices are adjusted for splits (default: adjusted, as in the API)",
    },
    "--concurrency": {
        "metavar": "N",
        "help": "how many tickers, and parts of a long one, are in flight at once"
        f" (default: {DEFAULTS['concurrency']}) [POLYGON_CONCURRENCY]",
    },
    "--rate": {
        "metavar": "R",
        "help": "total rate of all workers: N/s, N/min, N/h, unlimited, or auto, which finds the plan's limit"
        f" (default: {DEFAULTS['rate']}) [POLYGON_RATE_LIMIT]",
    },
    "--processes": {
        "metavar": "N",
        "help": "the most processes for parsing large pages and for uploading; 0: threads only"
        f" (default: {DEFAULTS['processes']}, one for each usable core) [POLYGON_PROCESSES]",
    },
    "--patience": {
        "metavar": "S",
        "help": "how long to keep retrying a failing request, and how long an upload may take, in seconds"
        f" (default: {DEFAULTS['patience']}) [POLYGON_PATIENCE]",
    },
    "--stall-timeout": {
        "metavar": "S",
        "help": "how long an attempt may go without receiving a byte, in seconds"
        f" (default: {DEFAULTS['stall_timeout']}) [POLYGON_STALL_TIMEOUT]",
    },
    "--outage-patience": {
        "metavar": "S",
        "help": "how long the whole run waits while the API is down, in seconds"
        f" (default: {DEFAULTS['outage_patience']}) [POLYGON_OUTAGE_PATIENCE]",
    },
    "--max-failures": {
        "metavar": "N",
        "help": "stop the run when N tickers have failed; auto: when the first 20 all fail in the same way and none"
        " succeeds; or unlimited (default: auto) [POLYGON_MAX_FAILURES]",
    },
    "--fail-fast": {"action": "store_true", "help": "stop at the first ticker that fails: --max-failures 1"},
    "--engine": {
        "metavar": "E",
        "help": "what does the work: local, this machine; or dask, many processes or machines (default: local)"
        " [POLYGON_ENGINE]",
    },
    "--scheduler": {
        "metavar": "ADDRESS",
        "help": "the Dask cluster to use, such as tcp://host:8786 (default: none) [POLYGON_SCHEDULER]",
    },
    "--workers": {
        "metavar": "N",
        "help": "start N Dask workers on this machine; --concurrency counts for each (default: none) [POLYGON_WORKERS]",
    },
    "--bucket": {
        "metavar": "B",
        "help": f"S3 bucket (default: {DEFAULTS['bucket']}), or s3://bucket/prefix [S3_BUCKET]",
    },
    "--key-prefix": {"metavar": "P", "help": "put all keys under this prefix (default: none) [S3_KEY_PREFIX]"},
    "--output-dir": {
        "metavar": "D",
        "help": f"where CSVs, ledger and reports go (default: {DEFAULTS['output_dir']})",
    },
    "--json": {"action": "store_true", "help": "print the result as one JSON object on standard output"},
    "--log-level": {
        "metavar": "L",
        "choices": ["debug", "info", "warning", "error"],
        "type": str.lower,
        "default": DEFAULTS["log_level"],
        "help": f"debug, info, warning or error (default: {DEFAULTS['log_level']}); logs go to standard error",
    },
    "--log-format": {
        "choices": ["text", "json"],
        "type": str.lower,
        "metavar": "F",
        "default": DEFAULTS["log_format"],
        "help": f"text, or json: one object per line (default: {DEFAULTS['log_format']})",
    },
    "--log-file": {"metavar": "FILE", "help": "append the log lines to this file, too"},
    "--quiet": {
        "action": "store_true",
        "help": "only failures on standard error; the result and the log file stay complete",
    },
}


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual; what is not understood is refused with what may have been meant."""
        flags, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._meant(rest[0])}")
        return flags

    def error(self, message: str) -> NoReturn:
        """One line, like every other error."""
        said = _NO_VALUE.sub(lambda match: f"{match[1]}: needs {_VALUES[match[2]]}", message)
        self.exit(2, f"{self.prog}: error: {said} (--help lists the flags)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As usual; a wrong word is refused as the settings refuse a value."""
        if action.choices is not None and value not in action.choices:
            name, words = "/".join(action.option_strings) or action.dest, [str(word) for word in action.choices]
            told = f"{name} '{value}': must be {', '.join(words[:-1])} or {words[-1]}{meant(str(value), words)}"
            raise argparse.ArgumentError(None, told)

    def _meant(self, word: str) -> str:
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        return meant(_SYNONYMS.get(word) or word.partition("=")[0], known)


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is none of those that are known: which one it may have been."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def parser_for(prog: str, *, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser that reports an error in one line and keeps the line breaks of its help."""
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # So many days ago is a value, as a negative number would be: `--from -30d`.
    parser._negative_number_matcher = re.compile(r"-\d+[dwmy]?")  # noqa: SLF001 (there is no public switch)
    return parser


def words_given(parser: argparse.ArgumentParser, flags: argparse.Namespace, *, without: Container[str]) -> list[str]:
    """The words that would give the same flags again, without some of them (by their dest) and without defaults."""
    words: list[str] = []
    for action in parser._actions:  # noqa: SLF001 (there is no public way to list them)
        value = getattr(flags, action.dest, None)
        if not action.option_strings or action.dest in without or value is None or value == action.default:
            continue
        if isinstance(value, bool):
            no = [flag for flag in action.option_strings if flag.startswith("--no-")]
            words.append(no[0] if no and not value else action.option_strings[0])
        elif isinstance(value, list):
            words += [action.option_strings[0], *value]
        else:
            words += [action.option_strings[0], str(value)]
    return words


def add_shared(group: argparse._ActionsContainer, *flags: str) -> None:
    """Add the named shared flags to a parser, or to a group of its flags."""
    for flag in flags:
        group.add_argument(flag, **_SHARED[flag])
