"""The same from Python: bars as a DataFrame, a whole run as a summary."""

from __future__ import annotations

import datetime as dt
import importlib.resources
import io
import logging
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from conftest import HEADER, csv_of, names
from stored import decompressed, stored

import polygon_async
from polygon_async import ConfigError, PolygonAsyncError, RunError, TickerError, download, fetch_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox

DAY = dt.date(2026, 3, 2)


@pytest.mark.parametrize("ticker", ["QQ", "GAPPY", "OTCX", "I:SPX", "X:BTCUSD"])
async def test_bars_come_as_a_frame_with_the_csvs_columns(
    opened: Callable[..., Sandbox], ticker: str, tmp_path: Path
) -> None:
    box = opened(page_size=300)
    frame = await fetch_bars(ticker, DAY, "2026-03-03", rate="unlimited")
    bars = box.market.days(ticker, DAY, dt.date(2026, 3, 3))
    plain = pd.read_csv(io.StringIO(csv_of(bars)))
    assert list(frame.columns) == HEADER.rstrip().split(",")
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == (
        plain.astype(object).where(plain.notna(), None).to_numpy().tolist()
    )
    assert len(frame) == len(bars) > 0
    types = frame.dtypes.astype(str).to_dict()
    assert {types[column] for column in ("open", "high", "low", "close", "volume", "vwap")} == {"float64"}
    assert (types["timestamp"], types["otc"]) == ("int64", "boolean")
    assert frame["timestamp"].is_monotonic_increasing
    assert list(tmp_path.iterdir()) == [], "nothing is written to disk"


async def test_a_range_without_bars_is_a_frame_without_rows(opened: Callable[..., Sandbox]) -> None:
    opened()
    empty = await fetch_bars("NODATA", DAY, DAY, rate="unlimited")
    full = await fetch_bars("QQ", DAY, DAY, rate="unlimited")
    assert empty.shape == (0, 9)
    assert list(empty.columns) == list(full.columns)
    assert empty.dtypes.drop("transactions").to_dict() == full.dtypes.drop("transactions").to_dict()


async def test_unadjusted_bars_are_asked_for(opened: Callable[..., Sandbox]) -> None:
    opened()
    day = "2025-06-06"
    adjusted = await fetch_bars("SPLIT", day, day, rate="unlimited")
    raw = await fetch_bars("SPLIT", day, day, adjusted=False, rate="unlimited")
    assert (raw["open"] / adjusted["open"]).round(3).eq(4).all()


async def test_the_argument_comes_before_the_variable_as_a_key(
    opened: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened()
    monkeypatch.setenv("POLYGON_API_KEY", "another")
    with pytest.raises(RunError, match="the API does not accept the key"):
        await fetch_bars("QQ", DAY, DAY, rate="unlimited")
    assert len(await fetch_bars("QQ", DAY, DAY, rate="unlimited", api_key=box.api_key)) > 0
    monkeypatch.delenv("POLYGON_API_KEY")
    with pytest.raises(ConfigError, match="POLYGON_API_KEY is not set"):
        await fetch_bars("QQ", DAY, DAY, rate="unlimited")


async def test_what_cannot_be_fetched_whole_is_an_error(opened: Callable[..., Sandbox]) -> None:
    box = opened("QQ 2 count_lie", "AAPL 1 status=503", page_size=100)
    with pytest.raises(TickerError, match=r"the answer counts 101 bars and holds 100.*\[GET /v2/aggs/ticker/QQ/"):
        await fetch_bars("QQ", DAY, DAY, rate="unlimited")
    with pytest.raises(TickerError, match=r"HTTP 503.*1 attempt, patience of 0 s used up"):
        await fetch_bars("AAPL", DAY, DAY, rate="unlimited", patience=0)
    assert [request.ticker for request in box.requests] == ["QQ", *["QQ"] * 3, "AAPL"], (
        "such an answer is requested three times"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tickers": "../x"}, "'../x' is not a ticker"),
        ({"tickers": ""}, "the ticker is empty"),
        ({"start": "last week"}, "start='last week': must be an existing date"),
        ({"start": "2026-03-03"}, "the range ends before it starts"),
        ({"rate": "5"}, "rate='5': must be N/s"),
        ({"patience": -1.0}, "patience=-1.0: must be a number of seconds"),
    ],
)
async def test_an_unusable_argument_is_a_config_error(
    opened: Callable[..., Sandbox], arguments: dict[str, str], said: str
) -> None:
    box = opened()
    with pytest.raises(ConfigError, match=said):
        await fetch_bars(**{"tickers": "QQ", "start": "2026-03-02", "end": "2026-03-02", **arguments})  # type: ignore[arg-type]
    assert box.requests == []


async def test_a_download_is_a_whole_run(
    opened: Callable[..., Sandbox], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "polygon_async")
    box = opened("BAD * status=404")
    summary = await download(
        ["QQ", "BAD", "NODATA"],
        start=DAY,
        end="2026-03-02",
        rate="unlimited",
        output_dir=tmp_path / "out",
        currency="CHF",
    )
    assert summary.exit_code == 1
    assert [outcome.unit.ticker.symbol for outcome in summary.done] == ["QQ"]
    assert [outcome.unit.ticker.symbol for outcome in summary.failed] == ["BAD"]
    assert [outcome.unit.ticker.symbol for outcome in summary.no_data] == ["NODATA"]
    assert summary.as_json()["tickers"] == {
        "total": 3,
        "done": 1,
        "earlier": 0,
        "no_data": 1,
        "failed": 1,
        "unfinished": 0,
    }
    assert summary.as_text().startswith("1 of 3 tickers done, 1 without data, 1 failed, in ")
    count = len(list(box.market.days("QQ", DAY, DAY)))
    told = f"<Summary: 1 of 3 tickers done, 1 without data, 1 failed, {count:,} bars, exit code 1>"
    assert repr(summary) == told
    assert "sha256=" in repr(summary.done), "an outcome's days, thousands of digits, are not spelt out"
    assert names(tmp_path / "out") == ["QQ_historical.csv", "failed.csv", "no_data.csv"]
    (item,) = stored(box)
    assert decompressed(item).decode() == csv_of(box.market.days("QQ", DAY, DAY))
    assert item.tags["currency"] == "CHF"
    assert capfd.readouterr().out == ""
    assert any("QQ uploaded" in message for message in caplog.messages)


async def test_a_download_takes_a_universe_file_and_every_flag(opened: Callable[..., Sandbox], tmp_path: Path) -> None:
    box = opened()
    (tmp_path / "mine.csv").write_text("Ticker,Exchange\nQQ,XNAS\nSPLIT,\n")
    range_ = {"start": "2025-06-06", "end": "2025-06-06", "rate": "unlimited"}
    summary = await download(
        universe_file=tmp_path / "mine.csv",
        adjusted=False,
        concurrency=1,
        patience=1.5,
        bucket=box.bucket,
        keep_csv=False,
        force=True,
        exchange="XNYS",
        api_key=box.api_key,
        output_dir=str(tmp_path / "out"),
        **range_,  # type: ignore[arg-type]
    )
    assert summary.exit_code == 0
    assert {item.tags["symbol"]: item.tags["exchange"] for item in stored(box)} == {"QQ": "XNAS", "SPLIT": "XNYS"}
    assert {item.metadata["adjusted"] for item in stored(box)} == {"false"}
    assert names(tmp_path / "out") == []
    saved = await download(["QQ"], upload=False, output_dir=tmp_path / "out2", **range_)  # type: ignore[arg-type]
    assert [outcome.receipt for outcome in saved.done] == [None]


async def test_a_download_that_cannot_start_raises(opened: Callable[..., Sandbox]) -> None:
    box = opened()
    with pytest.raises(RunError, match="the bucket nowhere-to-be-found cannot be used: the bucket does not exist"):
        await download(["QQ"], start=DAY, end=DAY, rate="unlimited", bucket="nowhere-to-be-found")
    with pytest.raises(ConfigError, match=r"tickers\.csv does not exist"):
        await download(start=DAY, end=DAY)
    assert box.requests == []


def test_the_errors_are_one_family() -> None:
    assert issubclass(ConfigError, RunError)
    assert issubclass(RunError, PolygonAsyncError)
    assert issubclass(TickerError, PolygonAsyncError)
    assert not issubclass(TickerError, RunError)


def test_everything_that_is_exported_is_there() -> None:
    assert list(polygon_async.__all__) == sorted(polygon_async.__all__)
    for name in polygon_async.__all__:
        assert getattr(polygon_async, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        polygon_async.nothing  # noqa: B018 (asking for it is the point)


def test_the_package_ships_its_types() -> None:
    assert importlib.resources.files(polygon_async).joinpath("py.typed").is_file()
