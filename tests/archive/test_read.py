"""What was stored is read back: through the real program, from objects of a real S3 API, with the real lzop."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import csv_of

from polygon_async import TickerError, read_bars, scan_bars
from polygon_async.bars.columns import CSV_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ended, Program

    from polygon_async.sandbox import Bar, Sandbox

FIRST, LAST = dt.date(2025, 6, 5), dt.date(2025, 6, 24)
"""Around both splits: of 9 and of 23 June."""
NIGHTS = [dt.date(2025, 6, day) for day in (9, 10, 24)]
TICKERS = ["GAPPY", "SPLITA", "SPLITTWICEB"]
PACE = ("--rate", "unlimited", "--no-reference", "--no-adjusted")
SATURDAY, THIRTY = 5, 30
READ = ("read", "--rate", "unlimited")


def nightly(program: Program, box: Sandbox, *tickers: str, flags: tuple[str, ...] = ()) -> None:
    """Download the tickers night by night."""
    days = [("--from", f"{FIRST}", "--to", f"{FIRST}"), *(("--from", "last", "--to", f"{night}") for night in NIGHTS)]
    for range_ in days:
        ended = program("--tickers", *tickers, *range_, *PACE, *flags, box=box)
        assert ended.code == 0, ended.err


def truth(box: Sandbox, symbol: str, first: dt.date = FIRST, last: dt.date = LAST, *, adjusted: bool = False) -> str:
    """A ticker's rows, as one download of the range would bring them."""
    csv = csv_of(box.market.days(symbol, first, last, adjusted=adjusted))
    return csv.removeprefix(CSV_HEADER.decode())


def prefixed(symbol: str, rows: str) -> str:
    return "".join(f"{symbol},{row}\n" for row in rows.splitlines())


def error_of(ended: Ended) -> str:
    assert (ended.code, ended.out) == (2, ""), ended.err
    return ended.error.removeprefix("polygon-async: error: ")


def test_nights_are_read_as_one_download(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    nightly(program, box, *TICKERS)
    chosen = ("--tickers", *TICKERS)
    header = "ticker," + CSV_HEADER.decode()
    whole = header + "".join(prefixed(symbol, truth(box, symbol)) for symbol in TICKERS)

    box.forget_requests()
    ended = program(*READ, *chosen, "--output", "bars.csv", "--json", box=box)
    assert ended.code == 0, ended.err
    assert (program.directory / "bars.csv").read_text() == whole
    assert ended.summary["objects"] == len(TICKERS) * (len(NIGHTS) + 1)
    assert not any(told["lacking"] or told["remarks"] for told in ended.summary["tickers"])
    assert box.requests == [], "what is read as it was stored needs no API"

    # Without the ledger, by the bucket's own listing, and from local files.
    for flags in (("--source", "bucket"), ("--source", "local")):
        ended = program(*READ, *chosen, *flags, "--output", "-", "--quiet", box=box)
        assert (ended.code, ended.out, ended.err) == (0, whole, "")

    day = dt.date(2025, 6, 10)
    ended = program(
        *READ, "--tickers", "SPLITA", "--from", f"{day}", "--to", f"{day}", "--output", "day.csv.gz", box=box
    )
    assert ended.code == 0, ended.err
    text = gzip.decompress((program.directory / "day.csv.gz").read_bytes()).decode()
    assert text == header + prefixed("SPLITA", truth(box, "SPLITA", day, day))
    assert ended.out.startswith("1 ticker, ")


@pytest.mark.timeout(300)
def test_thirty_nights_with_an_outage_are_one_history(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Both kinds of prices: whatever came when, what is read is what one download brings."""
    box = sandbox(page_size=2000)
    tickers = ["SPLIT00", "SPLITTWICE1"]
    chosen, first, last = ("--tickers", *tickers), dt.date(2025, 5, 12), dt.date(2025, 6, 24)
    nights = [day for day in (first + dt.timedelta(days=number) for number in range(44)) if day.weekday() < SATURDAY]
    pace = (*PACE, "--concurrency", "8", "--quiet", "--patience", "0.1", "--outage-patience", "0.1")
    for number, night in enumerate(nights):
        box.set_troubles(["SPLIT0* * status=503"] if number in {7, 8, 20} else [])
        range_ = ("--from", f"{night}", "--to", f"{night}") if number == 0 else ("--from", "last", "--to", f"{night}")
        ended = program(*chosen, *range_, *pace, box=box)
        assert ended.code == (1 if number in {7, 8, 20} else 0), ended.err
    assert len(nights) >= THIRTY
    whole = program(
        *chosen, "--from", f"{first}", "--to", f"{last}", *pace, "--output-dir", "whole", "--no-upload", box=box
    )
    assert whole.code == 0, whole.err
    for adjusted in ((), ("--adjusted",)):
        read = [
            program(*READ, *chosen, *adjusted, *flags, "--output", "-", "--quiet", box=box)
            for flags in ((), ("--source", "local", "--output-dir", "whole"))
        ]
        assert [ended.code for ended in read] == [0, 0], read[0].err
        assert read[0].out == read[1].out
        assert read[0].out.count("\n") > len(tickers) * len(nights)


def test_parquet_is_what_other_programs_read(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    nightly(program, box, *TICKERS, flags=("--no-upload",))
    chosen = ("--tickers", *reversed(TICKERS))
    assert program(*READ, *chosen, "--output", "bars.parquet", box=box).code == 0
    found = pq.read_table(program.directory / "bars.parquet")
    assert found.schema.names == [
        "ticker",
        "timestamp",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "vwap",
        "transactions",
        "otc",
    ]
    assert found.column("ticker").to_pylist() == sorted(found.column("ticker").to_pylist())
    bars = {symbol: box.market.days(symbol, FIRST, LAST, adjusted=False) for symbol in TICKERS}
    for symbol in TICKERS:
        rows = found.filter(pa_equal(found, symbol)).to_pylist()
        assert [int(row["timestamp"].timestamp() * 1000) for row in rows] == [bar.t for bar in bars[symbol]]
        assert [row["close"] for row in rows] == [float(bar.c) for bar in bars[symbol]]
        assert [row["vwap"] for row in rows] == [float(bar.vw) if bar.vw else None for bar in bars[symbol]]
        assert [row["transactions"] for row in rows] == [int(bar.n) if bar.n else None for bar in bars[symbol]]
    assert pq.ParquetFile(program.directory / "bars.parquet").metadata.row_group(0).column(2).compression == "ZSTD"

    for partition, expected in (("ticker", set(TICKERS)), ("month", {"2025-06"})):
        assert program(*READ, *chosen, "--output", partition, "--partition", partition, box=box).code == 0
        frame = pd.read_parquet(program.directory / partition)
        assert set(frame[partition].astype(str)) == expected
        assert len(frame) == len(found)
        again = program(*READ, *chosen, "--output", partition, "--partition", partition, box=box)
        assert "already exists; remove it" in error_of(again)
    assert not list(program.directory.glob(".*new*"))


def pa_equal(table: pq.Table, symbol: str) -> object:
    import pyarrow.compute as pc

    return pc.equal(table.column("ticker"), symbol)


@pytest.mark.parametrize("trouble", [(), ("splits * split_twice",), ("splits 1 status=503 1x", "splits 2 empty 1x")])
def test_adjusted_is_what_the_api_gives_for_adjusted(
    trouble: tuple[str, ...], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(*trouble)
    nightly(program, box, *TICKERS)
    chosen = ("--tickers", *TICKERS, "--adjusted")
    box.forget_requests()
    ended = program(*READ, *chosen, "--output", "bars.csv", "--json", box=box)
    assert ended.code == 0, ended.err
    assert ("splits of 2 tickers twice" in ended.err) == ("split_twice" in "".join(trouble))
    asked = len(box.requests)
    assert asked
    found = pd.read_csv(program.directory / "bars.csv", keep_default_na=False)
    for symbol in TICKERS:
        bars = box.market.days(symbol, FIRST, LAST)
        rows = found[found["ticker"] == symbol]
        assert rows["timestamp"].tolist() == [bar.t for bar in bars]
        for column, letter in (
            ("open", "o"),
            ("high", "h"),
            ("low", "l"),
            ("close", "c"),
            ("volume", "v"),
            ("vwap", "vw"),
        ):
            wanted = [float(getattr(bar, letter) or "nan") for bar in bars]
            got = [float(text or "nan") for text in rows[column].tolist()]
            # To the last digit that floating point allows.
            assert got == pytest.approx(wanted, rel=3e-16, abs=0, nan_ok=True), (symbol, column)
    # What the list said is kept for a day; as of a day before the splits, nothing is adjusted.
    ended = program(*READ, *chosen, "--as-of", "2025-06-08", "--output", "before.csv", box=box)
    assert ended.code == 0, ended.err
    assert len(box.requests) == asked
    unadjusted = (program.directory / "before.csv").read_text().splitlines()[1:]
    assert unadjusted == "".join(prefixed(symbol, truth(box, symbol)) for symbol in TICKERS).splitlines()


def test_what_cannot_be_adjusted_is_refused_by_name(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("splits * split_differs")
    nightly(program, box, "SPLITA", "GAPPY")
    day = ("--from", f"{FIRST}", "--to", f"{FIRST}")
    assert program("--tickers", "MSFT", *day, "--rate", "unlimited", box=box).code == 0
    assert program("--tickers", "GAPPY", *day, "--rate", "unlimited", "--output-dir", "other", box=box).code == 0
    ended = program(*READ, "--tickers", "SPLITA", "MSFT", "GAPPY", "--adjusted", "--output", "bars.csv", box=box)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[-1] == "nothing was written, as these tickers would be missing"
    assert [line.split(": ")[1] for line in lines if line.startswith("failed: ")] == ["MSFT", "SPLITA"]
    assert "two different splits on one day: 4-for-1 of 2025-06-09, and 7-for-1 of 2025-06-09" in ended.out
    assert "only what was stored with --no-adjusted can be adjusted" in ended.out
    assert not (program.directory / "bars.csv").exists()
    # Adjusted and unadjusted objects of one ticker do not go together, but each of them can be had.
    mixed = program(*READ, "--tickers", "GAPPY", "--source", "bucket", "--output", "bars.csv", box=box)
    assert mixed.code == 1
    assert "choose with --stored adjusted or --stored unadjusted" in mixed.out
    chosen = program(
        *READ, "--tickers", "GAPPY", "--source", "bucket", "--stored", "adjusted", "--output", "-", box=box
    )
    assert chosen.out.count("\n") == 1 + len(box.market.days("GAPPY", FIRST, FIRST))


def test_the_bar_collected_last_counts_and_what_differs_is_told(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox()
    days = ("--from", f"{FIRST}", "--to", f"{FIRST}")
    bars: list[Bar] = []
    for directory, flags in (("one", ()), ("other", ("--from", "2025-06-04", "--force"))):
        pace = ("--rate", "unlimited", "--no-reference")
        ended = program("--tickers", "GAPPY", *days, *flags, *pace, "--output-dir", directory, box=box)
        assert ended.code == 0, ended.err
        bars = box.market.days("GAPPY", FIRST, FIRST)
        box.split("GAPPY", LAST, after=2)
    # The second is of a wider range, and has other prices.
    ended = program(*READ, "--tickers", "GAPPY", "--source", "bucket", *days, "--output", "-", box=box)
    assert ended.code == 0, ended.err
    assert [row.split(",")[4] for row in ended.out.splitlines()[1:]] == [bar.c for bar in bars]
    assert f"{len(bars)} minutes differ between downloads; the bars collected last count" in ended.err


def test_what_a_late_resumed_run_has_fetched_is_newer_than_its_key(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    flags = ("--tickers", "GAPPY", "--rate", "unlimited", "--no-reference", "--no-keep-csv", "--to", f"{FIRST}")
    interrupted = (*flags, "--from", f"{FIRST}")
    box.set_troubles(["GAPPY * status=401"])
    assert program(*interrupted, box=box).code == 2
    program.ledger("UPDATE run SET collected = collected - 86400")
    box.set_troubles([])
    assert program(*flags, "--from", "2025-06-04", box=box).code == 0
    box.split("GAPPY", LAST, after=2)
    assert program(*interrupted, box=box).code == 0

    days = ("--from", f"{FIRST}", "--to", f"{FIRST}")
    ended = program(*READ, "--tickers", "GAPPY", *days, "--output", "-", box=box)
    assert ended.code == 0, ended.err
    assert [row.split(",")[4] for row in ended.out.splitlines()[1:]] == [
        bar.c for bar in box.market.days("GAPPY", FIRST, FIRST)
    ]


def test_damage_and_holes_are_told_by_name(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    nightly(program, box, *TICKERS)
    client = box.s3_client()
    found = sorted(entry["Key"] for entry in client.list_objects_v2(Bucket=box.bucket)["Contents"])
    broken = next(key for key in found if "/GAPPY/" in key)
    content = client.get_object(Bucket=box.bucket, Key=broken)["Body"].read()
    client.put_object(Bucket=box.bucket, Key=broken, Body=content[:-30])
    gone = next(key for key in found if "/SPLITA/" in key)
    client.delete_object(Bucket=box.bucket, Key=gone)
    client.close()
    ended = program(*READ, "--tickers", *TICKERS, "--output", "bars.csv", "--json", box=box)
    assert ended.code == 1
    told = {each["ticker"]: each["error"] for each in ended.summary["failed"]}
    assert set(told) == {"GAPPY", "SPLITA"}
    assert broken in told["GAPPY"]
    assert "lzop cannot decompress it" in told["GAPPY"]
    assert gone in told["SPLITA"]
    assert not (program.directory / "bars.csv").exists()
    # By what the bucket lists, the night that is gone is a hole, which is named.
    ended = program(
        *READ, "--tickers", "SPLITA", "--source", "bucket", "--from", f"{FIRST}", "--output", "bars.csv", box=box
    )
    assert ended.code == 0, ended.err
    assert "SPLITA: no stored bars cover 1 session: " in ended.out
    nothing = program(*READ, "--tickers", "NOPE", "--output", "none.csv", box=box)
    assert (nothing.code, nothing.out.splitlines()[-1]) == (
        1,
        "nothing is stored for these tickers and days; nothing was written",
    )
    assert not (program.directory / "none.csv").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--output is missing"),
        (("--output", "bars.xlsx"), "must end in .parquet, .csv or .csv.gz"),
        (("--output", "no/such/bars.csv"), "its directory does not exist"),
        (("--output", "-", "--partition", "month"), "'-' is standard output"),
        (("--output", "bars.csv", "--partition", "month"), "not a CSV"),
        (("--output", "bars.csv", "--as-of", "2026-01-01"), "--as-of needs --adjusted"),
        (("--output", "bars.csv", "--from", "2026-13-01"), "--from '2026-13-01': must be an existing date"),
        (("--output", "bars.csv", "--from", "2026-03-02", "--to", "2026-03-01"), "the range ends before it starts"),
        (("--output", "bars.parquet", "--zone", "Mars"), "--zone 'Mars': must be a time zone"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(
    flags: tuple[str, ...], said: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    assert said in error_of(program("read", "--tickers", "AAPL", *flags, box=sandbox()))


async def test_from_python(
    program: Program, sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box = sandbox()
    nightly(program, box, *TICKERS)
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    frame = await read_bars(["SPLITA", "GAPPY"], FIRST, f"{LAST}", adjusted=True, rate="unlimited")
    assert frame.index.name == "timestamp"
    assert str(frame.index.dtype).endswith(", America/New_York]")
    assert frame["ticker"].dtype.categories.tolist() == ["SPLITA", "GAPPY"]
    assert {name: str(kind) for name, kind in frame.dtypes.items() if name != "ticker"} == {
        **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "float64"),
        "transactions": "Int64",
        "otc": "boolean",
    }
    splita = frame[frame["ticker"] == "SPLITA"]
    assert splita["close"].tolist() == [float(bar.c) for bar in box.market.days("SPLITA", FIRST, LAST)]
    assert frame.attrs["remarks"] == {}
    assert set(frame.columns).isdisjoint(frame.index.names)
    assert list(frame.reset_index().columns) == ["timestamp", *frame.columns]
    assert frame.sort_values(["timestamp", "ticker"]).index.is_monotonic_increasing
    assert frame.groupby("ticker", observed=True).size().to_dict() == frame["ticker"].value_counts().to_dict()

    table = await read_bars("SPLITA", FIRST, LAST, zone="UTC", form="pyarrow")
    assert table.schema.names[:2] == ["ticker", "timestamp"]
    assert str(table.schema.field("timestamp").type) == "timestamp[ms, tz=UTC]"
    assert table.num_rows == len(splita)
    assert len(set(table.schema.names)) == len(table.schema.names)
    assert list(table.to_pandas().columns) == table.schema.names

    seen = [(symbol, len(bars)) async for symbol, bars in scan_bars(["GAPPY", "NOPE"], FIRST, LAST, source="bucket")]
    assert seen == [("GAPPY", len(box.market.days("GAPPY", FIRST, LAST))), ("NOPE", 0)]
    assert "NOPE: no bars are stored" in caplog.messages

    stranger = program.directory / "output" / "MSFT_historical.csv"
    stranger.write_bytes(CSV_HEADER + b"1,1,1,1,1,1,1749139200000,1,\n")
    with pytest.raises(TickerError, match=r"MSFT: it comes from a file not in any ledger"):
        await read_bars(["MSFT", "GAPPY"], FIRST, LAST, source="local", adjusted=True, rate="unlimited")


def test_bars_outside_a_life_are_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    (program.directory / "u.csv").write_text("ticker,list_date,delist_date\nGAPPY,2025-06-09,2025-06-24\n")
    flags = ("--universe", "u.csv", "--from", f"{FIRST}", "--to", f"{LAST}", *PACE, "--no-upload")
    got = program(*flags, "--json", box=box)
    sessions = {day for day in (FIRST, dt.date(2025, 6, 6), LAST) if box.market.days("GAPPY", day, day)}
    note = f"bars of {len(sessions)} sessions outside list_date to delist_date, perhaps another company's"
    assert got.summary["in_doubt"] == [{"ticker": "GAPPY", "note": note}]
    ended = program(*READ, "--universe", "u.csv", "--output", "bars.csv", "--json", box=box)
    assert ended.code == 0, ended.err
    before = len(box.market.days("GAPPY", FIRST, dt.date(2025, 6, 8)))
    after = len(box.market.days("GAPPY", LAST, LAST))
    (told,) = ended.summary["tickers"]
    assert told["remarks"] == [
        f"{before + after:,} bars outside its life span (list_date, delist_date), perhaps another company's"
    ]
    assert json.loads(ended.out)["bars"] == told["bars"]
