"""Flags, environment and `.env` in; one frozen, checked `Settings` out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from polygon_async.errors import ConfigError, one_line
from polygon_async.model.access import Access
from polygon_async.model.layout import is_tag_value
from polygon_async.model.rate import parse_rate
from polygon_async.settings.engines import engine_from
from polygon_async.settings.ranges import given, is_last, range_from
from polygon_async.settings.sources import DEFAULTS, chosen
from polygon_async.settings.values import (
    is_loopback,
    parse_concurrency,
    parse_most_failures,
    parse_place,
    parse_positive_seconds,
    parse_prefix,
    parse_processes,
    parse_seconds,
    parse_sessions,
    parse_shard,
)
from polygon_async.system.hosts import names_a_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from polygon_async.model.rate import Rate
    from polygon_async.settings.environment import Environment

__all__ = ["DEFAULTS", "Settings", "api_key_of", "output_directory", "settings_from"]

_HOSTS = frozenset({"api.polygon.io", "api.massive.com"})
_LONG = 7
"""Days from which on pages are taken to be large."""

_NOT_TOLD = frozenset({"api_key", "tickers", "words", "command", "bucket_given"})
"""What is no setting of a run for a report, or must not be in one."""
_QUOTES = "\"'"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is asked to do; every value is checked."""

    api_key: str = field(repr=False)
    base_url: str
    tickers: tuple[str, ...] | None
    """None: those of the universe file."""
    universe: tuple[Path, ...]
    """CSVs in their order; `-` is standard input."""
    start: date
    end: date
    adjusted: bool
    concurrency: int
    rate: Rate
    patience: float
    """Seconds."""
    stall_timeout: float
    """Seconds."""
    outage_patience: float
    """Seconds."""
    upload: bool
    bucket: str
    output_dir: Path
    keep_csv: bool
    force: bool
    exchange: str | None
    currency: str | None
    reference: bool = True
    """Whether to look up the tags that the universe does not give in the API's reference data."""
    processes: int = 0
    """Processes that parse large pages; 0: threads do."""
    match: tuple[str, ...] = ()
    """Globs that select tickers; none: all are taken."""
    limit: int | None = None
    """How many of the first tickers are taken; None: all."""
    shard: tuple[int, int] | None = None
    """Which part of how many is taken of these, from 1; None: all of it."""
    engine: str = "local"
    """What does the units: `local`, this machine; or `dask`, a cluster."""
    scheduler: str | None = None
    """The address of an existing cluster's scheduler; None: a local cluster is started."""
    workers: int = 1
    """Processes of a local cluster."""
    since_last: bool = False
    """Whether each ticker starts on the day after what the ledger holds of it; `start` is for those of which it holds
    nothing."""
    look_back: int = 10
    """If only what is new is wanted: among how many of the last sessions held a missing one is requested again."""
    days_given: bool = True
    """Whether at least one end of the range was given, rather than the day's default."""

    key_prefix: str = ""
    """What all keys in the bucket are below; empty for its root."""
    bucket_given: bool = True
    """Whether the bucket was named, rather than the default one taken."""
    most_failures: float | None = None
    """How many tickers may fail before the run ends (inf: all of them); None: it ends when the first ones prove that
    all will."""
    words: tuple[str, ...] = ()
    """What the command line said beside tickers and days, to say it again; empty for what comes from elsewhere."""
    command: tuple[str, ...] = ()
    """All that it said."""

    @property
    def source(self) -> str:
        """Which API the bars come from; the ledger keeps what different APIs sent apart.

        Polygon has two hosts with the same data. Local servers are told apart by nothing, as their
        ports change with every start.
        """
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        if host in _HOSTS:
            return "polygon"
        return "local" if is_loopback(host) else f"{parts.netloc}{parts.path}"

    @property
    def access(self) -> Access:
        """The settings that the REST client needs."""
        return Access(
            base_url=self.base_url,
            api_key=self.api_key,
            rate=self.rate,
            patience=self.patience,
            stall_timeout=self.stall_timeout,
            outage_patience=self.outage_patience,
            connections=self.concurrency,
            processes=self.processes,
            # What is new is a page or two; the first large one starts the processes.
            expects_large_pages=not self.since_last and (self.end - self.start).days >= _LONG,
        )

    def as_json(self) -> dict[str, object]:
        """All settings but the key and the tickers, for the report."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_TOLD}
        # JSON has no infinity.
        most = "unlimited" if self.most_failures == math.inf else self.most_failures
        return told | {"rate": self.rate.text, "most_failures": most}


def settings_from(flags: Mapping[str, Any], environment: Environment, *, needs_key: bool = True) -> Settings:
    """Merge and check the settings: flags first, then environment, `.env` and defaults.

    Args:
        flags: What was said on the command line, by the flags' names (`output_dir`); what is absent
            or None was not said.
        environment: The variables.
        needs_key: Whether nothing can be done without the API's key; else it is empty where there is none.

    Raises:
        ConfigError: one line that names all flags and variables that cannot be used.
    """
    since_last = is_last(flags, environment)
    own = partial(chosen, flags, environment)
    values = _all_of(
        {
            "range": lambda: range_from(flags, environment, since_last=since_last),
            "api_key": lambda: api_key_of(environment, needed=needs_key),
            "base_url": lambda: _base_url(environment),
            "universe": lambda: _universe(flags),
            "match": lambda: _words(flags, "match"),
            "limit": lambda: _limit(flags),
            "place_of_work": lambda: engine_from(flags, environment),
            "shard": lambda: own("shard", "POLYGON_SHARD", parse_shard, "1/1"),
            "concurrency": lambda: own("concurrency", "POLYGON_CONCURRENCY", parse_concurrency),
            "processes": lambda: own("processes", "POLYGON_PROCESSES", parse_processes),
            "rate": lambda: own("rate", "POLYGON_RATE_LIMIT", parse_rate),
            "patience": lambda: own("patience", "POLYGON_PATIENCE", parse_seconds),
            "stall_timeout": lambda: own("stall_timeout", "POLYGON_STALL_TIMEOUT", parse_positive_seconds),
            "outage_patience": lambda: own("outage_patience", "POLYGON_OUTAGE_PATIENCE", parse_seconds),
            "place": lambda: _place(flags, environment),
            "output_dir": lambda: output_directory(flags),
            "most_failures": lambda: _most_failures(flags, environment),
            "exchange": lambda: _tag(flags, "exchange"),
            "currency": lambda: _tag(flags, "currency"),
            "look_back": lambda: own("look_back", "POLYGON_LOOK_BACK", parse_sessions),
        }
    )
    start, end = values.pop("range")
    bucket, key_prefix = values.pop("place")
    engine, scheduler, workers = values.pop("place_of_work")
    return Settings(
        **values,
        bucket=bucket,
        key_prefix=key_prefix,
        engine=engine,
        scheduler=scheduler,
        workers=workers,
        bucket_given=flags.get("bucket") is not None or environment.get("S3_BUCKET") is not None,
        tickers=None if flags.get("tickers") is None else tuple(flags["tickers"]),
        start=start,
        end=end,
        adjusted=flags.get("adjusted", True),
        upload=flags.get("upload", True),
        keep_csv=flags.get("keep_csv", True),
        force=flags.get("force", False),
        reference=flags.get("reference", True),
        since_last=since_last,
        days_given=(not since_last and given(flags, environment, "from") is not None)
        or given(flags, environment, "to") is not None,
    )


def _all_of(settings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """All values; what is wrong with any of them is told at once.

    Raises:
        ConfigError: one line, for all of them.
    """
    values, wrong = {}, []
    for name, read in settings.items():
        try:
            values[name] = read()
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("; ".join(wrong))
    return values


def _place(flags: Mapping[str, Any], environment: Environment) -> tuple[str, str]:
    """The bucket, and what its keys are below: from the bucket's address, or said by itself."""
    bucket, prefix = chosen(flags, environment, "bucket", "S3_BUCKET", parse_place)
    own = chosen(flags, environment, "key_prefix", "S3_KEY_PREFIX", parse_prefix, "")
    if not prefix or not own or prefix == own:
        return bucket, prefix or own
    if flags.get("bucket") is not None and flags.get("key_prefix") is None:
        return bucket, prefix
    if flags.get("key_prefix") is not None and flags.get("bucket") is None:
        return bucket, own
    raise ConfigError(f"the bucket's address has the prefix {prefix}, but --key-prefix is {own}; give only one")


def _most_failures(flags: Mapping[str, Any], environment: Environment) -> float | None:
    if not flags.get("fail_fast"):
        return chosen(flags, environment, "max_failures", "POLYGON_MAX_FAILURES", parse_most_failures, "auto")
    if flags.get("max_failures") not in {None, "1"}:
        raise ConfigError("--fail-fast means --max-failures 1; give only one")
    return 1


def output_directory(flags: Mapping[str, Any]) -> Path:
    """The output directory from the flags, or the default.

    Raises:
        ConfigError: the name is empty.
    """
    path: str | None = flags.get("output_dir")
    if path == "":
        raise ConfigError("--output-dir '': the value is empty")
    return Path(path or DEFAULTS["output_dir"])


def _universe(flags: Mapping[str, Any]) -> tuple[Path, ...]:
    files = _words(flags, "universe") or (DEFAULTS["universe"],)
    if files.count("-") > 1:
        raise ConfigError("--universe -: standard input can be read only once")
    return tuple(Path(file) for file in files)


def _words(flags: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given: Sequence[str] | None = flags.get(name)
    words = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if "" in words:
        raise ConfigError(f"--{name} '': the value is empty")
    return words


def _limit(flags: Mapping[str, Any]) -> int | None:
    text: str | None = flags.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or not int(text):
        raise ConfigError(f"--limit {one_line(repr(text))}: must be a whole number, 1 or more")
    return int(text)


def _tag(flags: Mapping[str, Any], name: str) -> str | None:
    value: str | None = flags.get(name)
    if value is not None and not is_tag_value(value):
        raise ConfigError(f"--{name} {one_line(repr(value))}: cannot be the value of an S3 tag")
    return value


def api_key_of(environment: Environment, *, needed: bool = True) -> str:
    """The key, checked; empty where there is none and none is needed.

    Raises:
        ConfigError: it is missing, or no key.
    """
    found = environment.get("POLYGON_API_KEY", "MASSIVE_API_KEY")
    if found is None and not needed:
        return ""
    if found is None:
        raise ConfigError("POLYGON_API_KEY is not set; export it or put it in .env (see .env.example)")
    name, key = found
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise ConfigError(f"{name} is in quotes, which docker's --env-file keeps; write the key without quotes")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{name} contains characters not found in API keys; copy it again")
    return key


def _base_url(environment: Environment) -> str:
    name, url = environment.get("POLYGON_BASE_URL") or ("POLYGON_BASE_URL", DEFAULTS["base_url"])
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"https", "http"} and names_a_host(url)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ConfigError(f"{name} must be like {DEFAULTS['base_url']}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{name} must not contain a user or a password; put the key into POLYGON_API_KEY")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"{name} is plain http, which would send the key in clear text; use https (http is for this machine only)"
        )
    return url.rstrip("/")
