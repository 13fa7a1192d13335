"""What the functions take, and how they name what they cannot take: as Python, not as the command line."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import polygon_async
from polygon_async import ConfigError, RunError, TickerError, download, fetch_bars, read_bars, scan_bars
from polygon_async.api.arguments import day_of
from polygon_async.api.naming import in_python, python_words
from polygon_async.model.units import today

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)
TOKYO = ZoneInfo("Asia/Tokyo")
DAYS = [
    DAY,
    dt.datetime(2026, 3, 2, 23, 59),  # noqa: DTZ001 (a naive one is a day, too)
    dt.datetime(2026, 3, 2, 1, 0, tzinfo=TOKYO),
    pd.Timestamp("2026-03-02 12:00", tz="UTC"),
    np.datetime64("2026-03-02"),
    np.datetime64("2026-03-02T23:59:59.999999999"),
    "2026-03-02",
]
NO_DAYS = [
    (pd.NaT, "it is NaT"),
    (np.datetime64("NaT", "D"), "it is NaT"),
    (20260302, "it is of type int"),
    (10**5000, "it is of type int"),
    (1.5, "it is of type float"),
    (None, "it is None"),
    ([DAY], "it is of type list"),
    (True, "it is of type bool"),
    ("last week", "='last week': must be an existing date"),
    ("last", "='last': must be an existing date"),
    ("", "='': must be an existing date"),
    (dt.date(1, 1, 1), "='0001-01-01': must be a date"),
    (np.datetime64(10**15, "D"), ": must be an existing date"),
]


def kind(value: object) -> str:
    """The name of a case; there are numbers that cannot be spelt."""
    return type(value).__name__


@pytest.mark.parametrize("day", DAYS, ids=repr)
async def test_each_kind_of_day_is_its_calendar_day(opened: Callable[..., Sandbox], day: Any) -> None:
    box = opened()
    frame = await fetch_bars("QQ", day, day, rate="unlimited")
    assert frame["timestamp"].tolist() == [bar.t for bar in box.market.days("QQ", DAY, DAY)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024", dt.date(2024, 1, 1), dt.date(2024, 12, 31)),
        ("2024-02", dt.date(2024, 2, 1), dt.date(2024, 2, 29)),
        (np.datetime64("2024-02"), dt.date(2024, 2, 1), dt.date(2024, 2, 29)),
        ("-30d", today() - dt.timedelta(30), today() - dt.timedelta(30)),
        ("yesterday", today() - dt.timedelta(1), today() - dt.timedelta(1)),
        ("today", today(), today()),
    ],
)
def test_text_is_what_the_command_line_takes(text: Any, first: dt.date, last: dt.date) -> None:
    assert (day_of("start", text), day_of("end", text, is_last=True)) == (first, last)


async def read(**arguments: Any) -> object:
    return await read_bars(**{"tickers": "QQ", "start": DAY, "end": DAY, **arguments})


async def scan(**arguments: Any) -> object:
    return [each async for each in scan_bars(**{"tickers": "QQ", "start": DAY, "end": DAY, **arguments})]


async def fetch(**arguments: Any) -> object:
    return await fetch_bars(**{"tickers": "QQ", "start": DAY, "end": DAY, **arguments})


async def run(**arguments: Any) -> object:
    return await download(**{"tickers": "QQ", "start": DAY, "end": DAY, "upload": False, **arguments})


async def said_by(call: Callable[..., Any], box: Sandbox, **arguments: Any) -> str:
    """The message of the ConfigError, which names no flag, and comes before any request."""
    with pytest.raises(ConfigError) as caught:
        await call(**arguments)
    text = str(caught.value)
    assert "--" not in text
    assert len(text) < 500
    assert box.requests == []
    return text


@pytest.mark.parametrize("call", [fetch, read, scan, run])
@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize(("value", "said"), NO_DAYS, ids=kind)
async def test_what_is_no_day_is_refused_by_the_arguments_name(
    opened: Callable[..., Sandbox], call: Callable[..., Any], name: str, value: object, said: str
) -> None:
    if call is run and (value is None or (name, value) == ("start", "last")):
        pytest.skip("a run may leave it out, or begin where the ledger ends")
    text = await said_by(call, opened(), **{name: value})
    assert text.startswith((f"{name} must be a date, a datetime, a pandas Timestamp", f"{name}='"))
    assert said in text


@pytest.mark.parametrize(("value", "said"), [each for each in NO_DAYS if each[0] is not None], ids=kind)
async def test_a_last_day_of_splits_is_a_day_too(opened: Callable[..., Sandbox], value: object, said: str) -> None:
    text = await said_by(read, opened(), as_of=value, adjusted=True)
    assert text.startswith(("as_of must be a date", "as_of='"))
    assert said in text


@pytest.mark.parametrize(
    ("call", "arguments", "said"),
    [
        (fetch, {"start": "2026-03-03"}, "the range ends before it starts: start 2026-03-03 is after end 2026-03-02"),
        (fetch, {"start": "2199-01-01", "end": "2199"}, "start 2199-01-01 is in the future"),
        (fetch, {"tickers": 5}, "tickers must be a ticker or several tickers, as text; it is of type int"),
        (fetch, {"tickers": None}, "tickers must be a ticker or several tickers, as text; it is None"),
        (fetch, {"tickers": b"QQ"}, "tickers must be a ticker or several tickers, as text; it is of type bytes"),
        (fetch, {"tickers": ["QQ", float("nan")]}, "tickers[1] must be text; it is of type float"),
        (fetch, {"tickers": "QQ,AAPL"}, "tickers: 'QQ,AAPL' is not one ticker; pass a list: ['QQ', 'AAPL']"),
        (fetch, {"tickers": ["QQ", "a/b"]}, "tickers: 'a/b' is not a ticker"),
        (fetch, {"adjusted": "no"}, "adjusted must be True or False; it is of type str"),
        (fetch, {"adjusted": None}, "adjusted must be True or False; it is None"),
        (fetch, {"concurrency": "x"}, "concurrency='x': must be a whole number from 1 to 1000"),
        (fetch, {"concurrency": 0}, "concurrency=0: must be a whole number from 1 to 1000"),
        (fetch, {"concurrency": 1.5}, "concurrency=1.5: must be a whole number from 1 to 1000"),
        (fetch, {"concurrency": True}, "concurrency must be a number; it is of type bool"),
        (fetch, {"concurrency": 10**5000}, "concurrency is too large"),
        (fetch, {"rate": 5}, "rate must be text such as 5/min, 100/s, unlimited or auto; it is of type int"),
        (fetch, {"rate": "5"}, "rate='5': must be N/s"),
        (fetch, {"patience": float("nan")}, "patience=nan: must be a number of seconds, 0 or more"),
        (fetch, {"patience": [1]}, "patience must be a number; it is of type list"),
        (fetch, {"api_key": 12345}, "api_key must be text; it is of type int"),
        (fetch, {"api_key": " "}, "api_key is empty"),
        (fetch, {"api_key": "'quoted'"}, "api_key is in quotes"),
        (read, {"source": "cloud"}, "source='cloud': must be 'auto' or 'bucket' or 'local'"),
        (read, {"source": []}, "source must be 'auto' or 'bucket' or 'local'; it is of type list"),
        (read, {"form": {}}, "form must be 'pandas' or 'pyarrow'; it is of type dict"),
        (read, {"stored": 1}, "stored must be 'adjusted' or 'unadjusted'; it is of type int"),
        (read, {"zone": "Mars"}, "zone='Mars': must be a time zone"),
        (read, {"zone": 1}, "zone must be text; it is of type int"),
        (read, {"output_dir": ""}, "output_dir='': the value is empty"),
        (read, {"bucket": "a/b"}, "bucket='a/b': a bucket's name has no slash; write s3://a/b, or add key_prefix b"),
        (run, {"output_dir": 5}, "output_dir must be a path; it is of type int"),
        (run, {"tickers": None}, "tickers.csv does not exist; give tickers, or universe_file with a `ticker` column"),
        (run, {"tickers": None, "universe_file": 5}, "universe_file must be a path or several paths"),
        (run, {"match": "Z*"}, "match='Z*': none of 1 ticker matches"),
        (run, {"match": [5]}, "match[0] must be text; it is of type int"),
        (run, {"limit": 0}, "limit=0: must be a whole number, 1 or more"),
        (run, {"max_failures": "some"}, "max_failures='some': must be a whole number"),
        (run, {"processes": -1}, "processes=-1: must be a whole number from 0 to 1000, or auto"),
        (run, {"exchange": 5}, "exchange must be text; it is of type int"),
        (run, {"currency": "\n"}, "currency='\\n': cannot be the value of an S3 tag"),
        (run, {"keep_csv": "yes"}, "keep_csv must be True or False; it is of type str"),
        (run, {"bucket": "s3://b/p", "key_prefix": "q"}, "has the prefix p, but key_prefix is q; give only one"),
    ],
    ids=kind,
)
async def test_what_cannot_be_taken_is_named_as_in_python(
    opened: Callable[..., Sandbox], call: Callable[..., Any], arguments: dict[str, Any], said: str
) -> None:
    assert said in await said_by(call, opened(), **arguments)


async def test_a_run_begins_where_the_ledger_ends(opened: Callable[..., Sandbox]) -> None:
    opened()
    first = await download("X:BTCUSD", start="2026-03-01", end="2026-03", rate="unlimited", upload=False)
    then = await download("X:BTCUSD", start="last", end=dt.date(2026, 4, 2), rate="unlimited", upload=False)
    assert (first.end, then.since_last, then.exit_code) == (dt.date(2026, 3, 31), True, 0)
    assert [outcome.unit.start for outcome in then.done] == [dt.date(2026, 4, 1)]


async def test_all_that_is_wrong_is_told_at_once(opened: Callable[..., Sandbox]) -> None:
    text = await said_by(run, opened(), start=1, limit=[], output_dir=None, rate=2)
    assert re.findall(r"(\w+) must be", text) == ["limit", "start", "rate"]


async def test_a_key_that_is_missing_can_be_passed(
    opened: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened()
    monkeypatch.delenv("POLYGON_API_KEY")
    assert await said_by(fetch, box) == "POLYGON_API_KEY is not set; export it, or pass api_key"
    monkeypatch.setenv("POLYGON_CONCURRENCY", "many")
    assert "POLYGON_CONCURRENCY 'many': must be" in await said_by(fetch, box, api_key="key")


async def test_a_runs_failures_name_arguments_too(opened: Callable[..., Sandbox], tmp_path: Path) -> None:
    opened("BAD * status=404")
    summary = await download(["BAD", "QQ"], start=DAY, end=DAY, max_failures=1, rate="unlimited", upload=False)
    assert summary.error is not None
    assert summary.error.startswith("stopped at the first ticker that failed (max_failures=1): ")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file; output_dir must name a directory"):
        await download("QQ", start=DAY, end=DAY, upload=False, output_dir=tmp_path / "file")


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("move it away, or replace it with --force", "move it away, or replace it with force=True"),
        ("lzop is not installed; or --no-upload for CSVs only", "lzop is not installed; or upload=False for CSVs only"),
        ("choose a later --from, or", "choose a later start, or"),
        (
            "choose with --stored adjusted or --stored unadjusted",
            "choose with stored='adjusted' or stored='unadjusted'",
        ),
        ("what was stored with --no-adjusted can be adjusted", "what was stored with adjusted=False can be adjusted"),
        ("use --concurrency 12, or raise it", "use concurrency=12, or raise it"),
        ("--output-dir 'it''s': empty", "output_dir='it''s': empty"),
        ("verify --repair mends it", "verify --repair mends it"),
        ("'--from' is not a ticker", "'--from' is not a ticker"),
        ("a--from-b, 2--to", "a--from-b, 2--to"),
    ],
)
def test_flags_become_arguments(flags: str, arguments: str) -> None:
    assert python_words(flags) == arguments
    assert python_words(arguments) == arguments


def test_an_error_stays_the_same_error() -> None:
    cause, error = OSError("cause"), TickerError("use --force", request="/v2/--force")
    with pytest.raises(TickerError) as caught, in_python():
        raise error from cause
    assert caught.value is error
    assert (str(error), error.__cause__) == ("use force=True [GET /v2/--force]", cause)


def test_the_session_is_as_strict() -> None:
    for name, value in (("rate", 5), ("patience", "x"), ("concurrency", 0), ("api_key", b"key")):
        with pytest.raises(ConfigError, match=rf"^{name}\b"):
            polygon_async.session(**{"api_key": "key", name: value})  # type: ignore[arg-type]
