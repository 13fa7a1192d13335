"""From Python: several tickers in one call, one pace for calls side by side, and what may stand for a date."""

from __future__ import annotations

import asyncio
import datetime as dt
import pydoc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import polygon_async
from polygon_async import ConfigError, RunError, TickerError, download, fetch_bars, read_bars, session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)


@pytest.fixture
def opened(sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sandbox]:
    """Starts a sandbox that this process itself finds."""

    def start(*troubles: str, **options: Any) -> Sandbox:
        box = sandbox(*troubles, **options)
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        return box

    return start


async def test_several_tickers_come_in_one_frame(opened: Callable[..., Sandbox]) -> None:
    box = opened(page_size=200)
    tickers = ["MSFT", "NODATA", "AAPL", "MSFT"]
    frame = await fetch_bars(tickers, DAY, DAY, rate="unlimited", concurrency=2)
    assert list(frame["ticker"].cat.categories) == ["MSFT", "NODATA", "AAPL"]
    single = {ticker: await fetch_bars(ticker, DAY, DAY, rate="unlimited") for ticker in ("MSFT", "AAPL")}
    for ticker, alone in single.items():
        rows = frame[frame["ticker"] == ticker].drop(columns="ticker").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone)
        assert len(alone) == len(box.market.days(ticker, DAY, DAY)) > 0
    assert frame["ticker"].drop_duplicates().tolist() == ["MSFT", "AAPL"]
    assert frame.groupby("ticker", observed=True)["timestamp"].is_monotonic_increasing.all()
    # No name is both in the index and a column.
    assert not set(frame.index.names) & set(frame.columns)
    frame.sort_values(["timestamp", "ticker"]).reset_index()
    (one,) = {each async for each in _names(fetch_bars(["QQ"], DAY, DAY, rate="unlimited"))}
    assert one == "QQ"
    nothing = await fetch_bars(["NODATA"], DAY, DAY, rate="unlimited")
    assert nothing.shape == (0, 10)


async def _names(frame: Any) -> Any:
    for name in (await frame)["ticker"].unique():
        yield name


async def test_all_tickers_that_fail_are_named(opened: Callable[..., Sandbox]) -> None:
    opened("BAD 1 status=404", "WORSE 1 plan403")
    with pytest.raises(TickerError) as caught:
        await fetch_bars(["BAD", "QQ", "WORSE"], DAY, DAY, rate="unlimited")
    assert str(caught.value).startswith("BAD: HTTP 404: ")
    assert "; WORSE: HTTP 403: " in str(caught.value)
    opened()
    with pytest.raises(RunError, match="the API does not accept the key"):
        await fetch_bars(["A", "B", "C"], DAY, DAY, rate="unlimited", api_key="not-the-right-key")


def assert_paced(box: Sandbox, per_second: float) -> None:
    """No stretch of w seconds has more than rate x w + 1 requests, at the API itself."""
    times = [request.time for request in box.requests]
    for first in range(len(times)):
        for last in range(first + 2, len(times)):
            # What arrives side by side may be a little closer together than it was sent.
            assert last - first + 1 <= per_second * (times[last] - times[first] + 0.02) + 1


async def test_calls_side_by_side_share_one_pace(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    tickers = [f"T{number:02}" for number in range(12)]
    frames = await asyncio.gather(*(fetch_bars(ticker, DAY, DAY, rate="20/s") for ticker in tickers))
    assert all(len(frame) for frame in frames)
    times = [request.time for request in box.requests]
    assert len(times) == len(tickers)
    assert times[-1] - times[0] >= 0.9 * (len(times) - 1) / 20
    assert_paced(box, 20)


async def test_a_session_keeps_its_pace_between_calls(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    async with session(rate="20/s") as opened_session:
        await opened_session.fetch_bars("A", DAY, DAY)
        await asyncio.gather(*(opened_session.fetch_bars([f"B{n}", f"C{n}"], DAY, DAY) for n in range(4)))
        # What others fetch meanwhile at the same rate is part of it.
        await fetch_bars(["D", "E"], DAY, DAY, rate="20/s", concurrency=3)
        assert repr(opened_session) == "<Session: open>"
    times = [request.time for request in box.requests]
    assert len(times) == 11
    assert times[-1] - times[0] >= 0.9 * 10 / 20
    assert_paced(box, 20)
    with pytest.raises(ConfigError, match="the session has ended"):
        await opened_session.fetch_bars("A", DAY, DAY)


async def test_who_ends_first_takes_nothing_from_the_others(opened: Callable[..., Sandbox]) -> None:
    """The first call opened what the second uses; it is cancelled, and the second goes on."""
    box = opened("SLOW 1 latency=0.5", "SLOWER 1 latency=1")
    first = asyncio.create_task(fetch_bars("SLOW", DAY, DAY, rate="unlimited"))
    second = asyncio.create_task(fetch_bars("SLOWER", DAY, DAY, rate="unlimited"))
    # Answered while the other two wait for their answers.
    await fetch_bars("QQ", DAY, DAY, rate="unlimited")
    assert {request.ticker for request in box.requests} == {"SLOW", "SLOWER", "QQ"}
    first.cancel()
    assert len(await second) > 0
    assert first.cancelled()
    # All that was opened is closed again.
    (me,) = asyncio.all_tasks()
    assert me is asyncio.current_task()


DATES = [
    dt.datetime(2026, 3, 2, 23, 59),  # noqa: DTZ001 (its day counts as it is written)
    dt.datetime(2026, 3, 2, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=-9))),
    pd.Timestamp("2026-03-02"),
    pd.Timestamp("2026-03-02 22:00", tz="America/New_York"),
    np.datetime64("2026-03-02T12:00"),
    "2026-03-02",
]


@pytest.mark.parametrize("day", DATES, ids=repr)
async def test_what_stands_for_a_date(opened: Callable[..., Sandbox], day: Any, tmp_path: Path) -> None:
    box = opened()
    frame = await fetch_bars("QQ", day, day, rate="unlimited")
    assert len(frame) == len(box.market.days("QQ", DAY, DAY))
    summary = await download("QQ", start=day, end=day, rate="unlimited", output_dir=tmp_path / "out", reference=False)
    assert (summary.start, summary.end) == (DAY, DAY)
    stored = await read_bars("QQ", day, day, output_dir=tmp_path / "out")
    assert len(stored) == len(frame)
    assert not set(stored.index.names) & set(stored.columns)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"start": 1.5}, r"start=1\.5: must be a date"),
        ({"end": np.datetime64("NaT")}, "end=.*: must be a date, .*, and is of type datetime64"),
        ({"start": "2026-03-03", "end": "2026-03-02"}, "start 2026-03-03 is after end 2026-03-02"),
        ({"limit": "x"}, "limit='x': must be"),
        ({"concurrency": 0, "rate": "often"}, "concurrency='0': .*; rate='often': must be"),
        ({"bucket": 5}, "bucket=5: must be text, and is of type int"),
        ({"output_dir": ""}, "output_dir='': the value is empty"),
        ({"key_prefix": "a//b"}, "key_prefix='a//b'"),
        (
            {"universe_file": "nowhere.csv", "tickers": None},
            r"nowhere\.csv does not exist; give tickers, or universe_file",
        ),
    ],
)
async def test_errors_name_pythons_arguments(
    opened: Callable[..., Sandbox], arguments: dict[str, Any], said: str
) -> None:
    box = opened()
    with pytest.raises(ConfigError, match=said) as caught:
        await download(**{"tickers": ["QQ"], "start": DAY, "end": DAY, "rate": "unlimited", **arguments})
    assert "--" not in str(caught.value)
    assert box.requests == []


async def test_a_refusal_of_the_run_names_pythons_arguments(opened: Callable[..., Sandbox], tmp_path: Path) -> None:
    opened()
    whole = {"rate": "unlimited", "output_dir": tmp_path, "upload": False}
    await download("QQ", start="2026-03-02", end="2026-03-06", **whole)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        await download("QQ", start="2026-03-03", end="2026-03-04", **whole)  # type: ignore[arg-type]
    assert str(caught.value).endswith("choose another output_dir, another range, or force=True to replace it")
    with pytest.raises(ConfigError, match="as_of=3: must be a date"):
        await read_bars("QQ", DAY, DAY, as_of=3, output_dir=tmp_path)  # type: ignore[arg-type]


def test_help_shows_what_there_is() -> None:
    """And importing the package costs none of it."""
    shown = pydoc.plain(pydoc.render_doc(polygon_async))
    for name in ("download", "fetch_bars", "read_bars", "scan_bars", "session"):
        assert f"\n    {name}(" in shown or f"\n    async {name}(" in shown, name
        assert name in dir(polygon_async)
    assert "class Summary(" in shown
    heavy = ("pandas", "aiohttp", "aioboto3", "numpy", "asyncio")
    script = f"import sys, polygon_async; dir(polygon_async); print(set({heavy}) & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


async def test_a_summary_in_a_notebook(opened: Callable[..., Sandbox], tmp_path: Path) -> None:
    bad: Sequence[str] = [f"BAD{number:02}" for number in range(15)]
    opened(*(f"{ticker} 1 status=404" for ticker in bad))
    summary = await download(
        ["QQ", *bad, "A"], start=DAY, end=DAY, rate="unlimited", output_dir=tmp_path / "a<b", upload=False
    )
    shown = summary._repr_html_()
    assert "<td" in shown
    assert "2 of 17" in shown
    assert "15 tickers: HTTP 404" in shown
    assert len(shown) < 2_000
    for each in (summary, summary.done[0], summary.done[0].csv, summary.done[0].unit, *summary.coverages.values()):
        assert len(repr(each)) < 1_000
