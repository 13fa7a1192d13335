"""One line of text in, one trouble out; and the trouble (if any) that a request is due.

A line is `TICKER PAGE KIND[=ARGUMENT] [Nx]`: `MSFT 2 status=503 3x`, `* * latency=0.2`.
TICKER is a name or a glob, PAGE a number or `*`, and without `Nx` the trouble lasts for ever;
N counts for each ticker and page by itself. `reference` stands for the list of tickers, and
`reference/MSFT` for what that has to say of one; `splits` for the list of splits.
"""

import datetime as dt
import fnmatch
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trouble, as `--list-troubles` shows it."""

    name: str
    line: str
    argument: str = ""
    """What the argument stands for; empty where there is none."""
    default: str | None = None
    """The argument when none is given; None where one is needed."""
    check: Callable[[str], object] = str

    @property
    def form(self) -> str:
        """How the kind is written in a line."""
        if not self.argument:
            return self.name
        given = f"={self.argument}"
        return f"{self.name}{given if self.default is None else f'[{given}]'}"


def _status(text: str) -> int:
    code = int(text)
    if not 200 <= code <= 599:
        raise ValueError(text)
    return code


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:  # a day; nan and inf are refused too
        raise ValueError(text)
    return seconds


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError(text)
    return count


def _retry_after(text: str) -> str:
    return text and str(_count(text))


def late_days(text: str) -> list[dt.date]:
    """The days of a line about late bars."""
    return [dt.date.fromisoformat(day) for day in text.split(",")]


KINDS = (
    Kind("status", "this HTTP status, with the body that usually comes with it", "CODE", check=_status),
    Kind("rate429", "429 of the API, with Retry-After in seconds if given", "SECONDS", "", _retry_after),
    Kind("rate429date", "429 of the API, with Retry-After as an HTTP date that far ahead", "SECONDS", check=_seconds),
    Kind("empty429", "429 with an empty body"),
    Kind("plan403", "403: the plan does not include this timeframe"),
    Kind("blocked", "403 from a gateway before the API, as an HTML page"),
    Kind("not_found", "404 of the API, as JSON"),
    Kind("not_authorized_200", "NOT_AUTHORIZED inside a 200"),
    Kind("error_200", "status ERROR inside a 200"),
    Kind("exceeded_200", "the text of a 429 inside a 200"),
    Kind("html_200", "an HTML page inside a 200"),
    Kind("blank_200", "a 200 with an empty body"),
    Kind("wrong_type", "the right JSON, called text/plain (benign)"),
    Kind("bom", "the right JSON behind a byte order mark (benign)"),
    Kind("redirect", "302 to the same path on another host", "URL", ""),
    Kind("reset", "the connection is reset before an answer"),
    Kind("drop", "half the body, then the connection closes; Content-Length promised all"),
    Kind("drop_chunked", "half the body in chunks, then the connection closes without the last chunk"),
    Kind("cut_gzip", "a gzip stream that ends early inside a complete answer"),
    Kind("bad_gzip", "bytes labelled gzip that are not"),
    Kind(
        "bomb",
        "the right JSON behind so many MiB of blanks, as a gzip stream a thousandth as long",
        "MIB",
        "100",
        _count,
    ),
    Kind("bomb_status", "this HTTP status, with its usual body behind 256 MiB of blanks", "CODE", check=_status),
    Kind(
        "deep", "the right JSON with one more field, a list in a list and so on, this deep", "DEPTH", "100000", _count
    ),
    Kind("no_count", "status OK in a 200, with neither results nor a count of them"),
    Kind("cut_json", "JSON that ends early inside a complete answer"),
    Kind("stall", "no answer until the client goes away"),
    Kind("stall_body", "headers and half the body, then nothing until the client goes away"),
    Kind(LATENCY, "the answer comes later (adds up with other troubles; benign)", "SECONDS", check=_seconds),
    Kind("drip", "the body comes in twenty pieces over so many seconds (benign)", "SECONDS", "1", _seconds),
    Kind("empty", "the empty answer of 2022, whatever data there is"),
    Kind("null_results", "the empty answer of 2020 (results: null), whatever data there is"),
    Kind("empty_next", "a page without rows whose next_url loses no bar (benign)"),
    Kind("hollow", "a page without its rows, whose next_url goes on behind them"),
    Kind("status_word", "this word as the body's status", "WORD"),
    Kind("delayed", "status DELAYED (benign)"),
    Kind("next_same", "next_url repeats the request"),
    Kind("next_back", "next_url goes back to the start of the range"),
    Kind("next_loop", "next_url of the next page comes back to this one"),
    Kind("next_ticker", "next_url names another ticker", "TICKER", "OTHER"),
    Kind("next_path", "next_url names another path, /v2/other"),
    Kind("next_host", "next_url names this host instead, good or broken (benign)", "URL"),
    Kind("next_key", "next_url carries the real key (benign)"),
    Kind("next_skip", "next_url skips so many minutes behind the page's last bar (benign)", "MINUTES", check=_count),
    Kind("next_blank", "the last page's next_url is an empty string (benign)"),
    Kind("extra_rows", "one row more than the limit, and the chain goes on behind it (benign)"),
    Kind("overlap", "the page begins with the last N bars of the page before (benign)", "N", "1", _count),
    Kind("contradict", "the page begins with the last bar of the page before, with another close"),
    Kind("duplicate", "one bar stands twice in a row (benign)"),
    Kind("disorder", "two rows have changed places"),
    Kind("backwards", "the page begins with a bar from before the range"),
    Kind("outside", "the page ends with a bar from beyond the range"),
    Kind("other_ticker", "the envelope names another ticker", "TICKER", "OTHER"),
    Kind("foreign_bar", "the page begins with a bar of another ticker, which says so in T"),
    Kind("adjusted_flip", "the envelope says the opposite of adjusted"),
    Kind("no_field", "one bar lacks this field", "FIELD"),
    Kind("text_field", "one bar has this number as a string", "FIELD"),
    Kind("null_field", "one bar has null in this field", "FIELD"),
    Kind("nan_field", "one bar has NaN in this field, which is not JSON", "FIELD"),
    Kind("bool_field", "one bar has true in this field", "FIELD"),
    Kind("null_row", "a null stands among the bars"),
    Kind("count_lie", "resultsCount is one more than the rows"),
    Kind("huge", "two bars have volumes of 1.23456789012345e+22 and 100000000000000000000 (benign)"),
    Kind("vwap_outside", "one bar's vw lies above its high, as in old data (benign)"),
    Kind("impossible", "one bar has a high below its low and a negative volume (benign)"),
    Kind("late", "the bars of these days are not there yet", "DATE,...", check=late_days),
    Kind("split_twice", "the list of splits has each of them twice (benign)"),
    Kind("split_differs", "the list of splits has another split on the day of each"),
    Kind("key_echo", "400 whose text holds the client's key"),
    Kind("key_echo_500", "500 whose text holds the client's key"),
)

_LINE = re.compile(r"(\S+)\s+(\*|[1-9]\d*)\s+([a-z0-9_]+)(?:=(\S*))?(?:\s+([1-9]\d*)x)?", re.ASCII)


def describe_kinds() -> str:
    """The table of kinds, one line each."""
    width = max(len(kind.form) for kind in KINDS)
    return "\n".join(f"{kind.form:<{width}}  {kind.line}" for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One active line."""

    text: str
    ticker: str
    page: int | None
    kind: str
    argument: str
    times: int | None

    def concerns(self, ticker: str, page: int) -> bool:
        """Whether it is meant for this page of this ticker."""
        return self.page in {None, page} and fnmatch.fnmatchcase(ticker, self.ticker)


def parse(text: str) -> Trouble:
    """Read one line.

    Raises:
        ValueError: it is not of the form, or of no known kind; the message lists the kinds.
    """
    match = _LINE.fullmatch(text.strip())
    if not match:
        raise _invalid(text, "it is not of the form TICKER PAGE KIND[=ARGUMENT] [Nx]")
    ticker, page, name, given, times = match.groups()
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        raise _invalid(text, f"there is no kind {name}")
    return Trouble(
        text=text.strip(),
        ticker=ticker,
        page=None if page == "*" else int(page),
        kind=name,
        argument=_argument(kind, given, text),
        times=None if times is None else int(times),
    )


def _argument(kind: Kind, given: str | None, text: str) -> str:
    if not kind.argument:
        if given is not None:
            raise _invalid(text, f"{kind.name} takes no argument")
        return ""
    argument = given or kind.default
    if argument is None:
        raise _invalid(text, f"{kind.form} needs its argument")
    try:
        kind.check(argument)
    except ValueError as problem:
        raise _invalid(text, f"{argument} is not a {kind.argument} for {kind.form}") from problem
    return argument


def _invalid(text: str, reason: str) -> ValueError:
    return ValueError(f"trouble {text!r}: {reason}; kinds: {', '.join(kind.form for kind in KINDS)}")


class Troubles:
    """The active lines, and how often each has been played."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Read the lines; see parse."""
        self._lines = [parse(line) for line in lines]
        self._played: Counter[tuple[int, str, int]] = Counter()
        self._lock = threading.Lock()

    def due(self, ticker: str, page: int) -> list[Trouble]:
        """What this request gets: every latency, and the first other line that is not used up."""
        chosen: list[Trouble] = []
        with self._lock:
            for number, trouble in enumerate(self._lines):
                taken = trouble.kind != LATENCY and any(other.kind != LATENCY for other in chosen)
                if not taken and trouble.concerns(ticker, page) and self._use(number, trouble, ticker, page):
                    chosen.append(trouble)
        return chosen

    def _use(self, number: int, trouble: Trouble, ticker: str, page: int) -> bool:
        if trouble.times is None:
            return True
        self._played[number, ticker, page] += 1
        return self._played[number, ticker, page] <= trouble.times
