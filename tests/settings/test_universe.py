"""What a universe forgives, what it refuses, and in which words."""

from __future__ import annotations

import csv
import gzip
import io
from typing import TYPE_CHECKING

import pytest
from conftest import names
from stored import stored

from polygon_async.errors import ConfigError
from polygon_async.settings.universe import Defaults, from_csvs, from_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.model.tickers import Ticker
    from polygon_async.sandbox import Sandbox


def read(path: Path, content: str | bytes) -> list[Ticker]:
    """The tickers of a universe that holds `content`."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return from_csvs([path], Defaults())


def symbols(path: Path, content: str | bytes) -> list[str]:
    """Their names alone."""
    return [ticker.symbol for ticker in read(path, content)]


@pytest.fixture
def universe(tmp_path: Path) -> Path:
    """Where a test puts its universe."""
    return tmp_path / "tickers.csv"


# Forgiven


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("ticker\nAAPL\nMSFT\n", id="plain"),
        pytest.param("\ufeffticker\nAAPL\nMSFT\n", id="byte order mark"),
        pytest.param('\ufeff"ticker"\n"AAPL"\n"MSFT"\n', id="byte order mark before quotes"),
        pytest.param("Ticker\nAAPL\nMSFT\n", id="capital column name"),
        pytest.param("TICKER\nAAPL\nMSFT\n", id="upper-case column name"),
        pytest.param("  ticker \nAAPL\nMSFT\n", id="spaces around the column name"),
        pytest.param("ticker\r\nAAPL\r\nMSFT\r\n", id="Windows line ends"),
        pytest.param("ticker\rAAPL\rMSFT\r", id="old Macintosh line ends"),
        pytest.param("ticker\nAAPL\nMSFT", id="no line end at the end"),
        pytest.param("\n\n  \nticker\n\nAAPL\n \n\t\nMSFT\n\n\n", id="blank lines"),
        pytest.param("\ufeff\r\n\r\nticker\r\n\r\nAAPL\r\nMSFT\r\n", id="blank Windows lines after a byte order mark"),
        pytest.param(",\nticker,exchange\n,\nAAPL,\n ,\nMSFT,\n", id="lines of commas alone"),
        pytest.param("ticker\n  AAPL\nMSFT  \n\tAAPL\t\n", id="spaces around tickers"),
        pytest.param("ticker\nAAPL\nMSFT\nAAPL\nMSFT\nAAPL\n", id="duplicates"),
        pytest.param('ticker\n"AAPL"\n  "MSFT"  \n', id="quoted cells with spaces around"),
        pytest.param("ticker,exchange,note\nAAPL\nMSFT,NYSE\n", id="rows shorter than the header"),
        pytest.param("name,ticker\nApple,AAPL\nMicrosoft,MSFT\n", id="ticker is not the first column"),
        pytest.param('name,ticker\n"Apple,\nInc.",AAPL\n"Micro ""soft""",MSFT\n', id="commas and lines in other cells"),
        pytest.param("ticker,\nAAPL,\nMSFT,\n", id="a column without a name"),
        pytest.param("ticker,error\nAAPL,HTTP 500\nMSFT,\n", id="a list of failures fed back in"),
    ],
)
def test_a_universe_forgives_how_it_is_written(universe: Path, content: str) -> None:
    assert symbols(universe, content) == ["AAPL", "MSFT"]


def test_words_that_pandas_takes_for_something_else_stay_tickers(universe: Path) -> None:
    words = [
        "NA",
        "NAN",
        "NaN",
        "nan",
        "NULL",
        "null",
        "None",
        "TRUE",
        "True",
        "FALSE",
        "INF",
        "inf",
        "N",
        "1E5",
        "007",
    ]
    assert symbols(universe, "ticker\n" + "\n".join(words) + "\n") == words


def test_numbers_keep_their_letters(universe: Path) -> None:
    assert symbols(universe, "ticker\n0700\n1.50\n1e3\n00\n") == ["0700", "1.50", "1e3", "00"]


def test_the_case_of_a_ticker_tells_it_from_others(universe: Path) -> None:
    assert symbols(universe, "ticker\nAMpB\nAMPB\nBACpL\naapl\n") == ["AMpB", "AMPB", "BACpL", "aapl"]


@pytest.mark.parametrize(
    ("symbol", "asset_type", "currency"),
    [
        ("AAPL", "stocks", "USD"),
        ("BRK.B", "stocks", "USD"),
        ("X:BTCUSD", "crypto", "USD"),
        ("X:BTC-EUR", "crypto", "EUR"),
        ("X:ETHUSDT", "crypto", "USDT"),
        ("C:EURGBP", "forex", "GBP"),
        ("I:SPX", "indices", "USD"),
        ("O:SPY251219C00650000", "options", "USD"),
        ("x:BTCUSD", "stocks", "USD"),
        ("A" * 64, "stocks", "USD"),
        ("A_b=c+d-e.1", "stocks", "USD"),
        (".A", "stocks", "USD"),
    ],
)
def test_a_ticker_tells_its_asset_type_and_currency(symbol: str, asset_type: str, currency: str) -> None:
    (ticker,) = from_names([symbol], Defaults())
    assert (ticker.symbol, ticker.asset_type, ticker.currency) == (symbol, asset_type, currency)
    assert ticker.exchange == "unknown"


# Columns


def test_other_columns_become_the_tags_of_their_ticker(universe: Path) -> None:
    content = (
        "Exchange, ASSET_TYPE ,ticker,Currency\nXNAS,Stocks,AAPL,USD\n,,MSFT,\n"
        "TSX,indices,SHOP,CAD\n,CRYPTO,X:BTCEUR,\n"
    )
    tags = [(t.symbol, str(t.asset_type), t.exchange, t.currency) for t in read(universe, content)]
    assert tags == [
        ("AAPL", "stocks", "XNAS", "USD"),
        ("MSFT", "stocks", "unknown", "USD"),
        ("SHOP", "indices", "TSX", "CAD"),
        ("X:BTCEUR", "crypto", "unknown", "EUR"),
    ]


def test_flags_fill_only_what_the_row_leaves_open(universe: Path) -> None:
    universe.write_text("ticker,exchange,currency\nAAPL,XNAS,\nX:BTCEUR,,\n")
    tickers = from_csvs([universe], Defaults(exchange="NYSE", currency="CHF"))
    assert [(t.exchange, t.currency) for t in tickers] == [("XNAS", "CHF"), ("NYSE", "CHF")]


def test_the_first_of_doubles_counts(universe: Path) -> None:
    (ticker,) = read(universe, "ticker,exchange\nAAPL,XNAS\nAAPL,NYSE\n")
    assert ticker.exchange == "XNAS"


def test_every_other_column_is_kept_as_it_was_except_error(universe: Path) -> None:
    (ticker,) = read(universe, "Sector,ticker,error,Asset_Type\nNA,AAPL,HTTP 500,stocks\n")
    assert dict(ticker.row) == {"Sector": "NA", "Asset_Type": "stocks"}


# Refused

NOT_A_TICKER = "is not a ticker (1 to 64 of A-Z a-z 0-9 . : _ = + -, not only dots)"


@pytest.mark.parametrize(
    "symbol",
    ["../x", "/etc/x", "..", ".", "...", "a/bc", "a\\b", "~", "AAPL MSFT", "A*", "ÄÖ", "\uff0bA", "A" * 65]
    + [f"A{letter}B" for letter in "\x01\x07\x0b\x0c\x1b\x1c\x7f\x85\u200b\u2028\u202e"],
)
def test_what_could_leave_the_directory_or_the_prefix_is_refused_with_its_row(universe: Path, symbol: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(universe, f"\nticker\nAAPL\n\n{symbol}\nMSFT\n")
    message = str(caught.value)
    assert message.startswith(f"{universe}, row 5: ")
    assert message.endswith(NOT_A_TICKER)
    assert message.isprintable(), "nothing of the ticker may steer a terminal"


@pytest.mark.parametrize("cell", ['"A,B"', '"A\nB"', '"A""B"', '"A\rB"'])
def test_a_quoted_cell_hides_nothing(universe: Path, cell: str) -> None:
    with pytest.raises(ConfigError, match=r"row 3: .* is not a ticker"):
        read(universe, f"ticker\nAAPL\n{cell}\n")


def test_a_nul_byte_is_refused(universe: Path) -> None:
    with pytest.raises(ConfigError, match=r"tickers\.csv, row 3: .* is not a ticker"):
        read(universe, "ticker\nAAPL\nMS\0FT\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "{} is empty; a universe is a CSV with a `ticker` column", id="empty"),
        pytest.param("\ufeff", "{} is empty; a universe is a CSV with a `ticker` column", id="a mark alone"),
        pytest.param("\n \n,,\n", "{} is empty; a universe is a CSV with a `ticker` column", id="blank lines only"),
        pytest.param("ticker\n", "{} has no tickers", id="header only"),
        pytest.param("ticker,exchange\n,\n\n", "{} has no tickers", id="blank rows only"),
        pytest.param(
            "name,exchange\nAAPL,NYSE\n",
            "{}: the first row must have exactly one column `ticker`; it has only name, exchange",
            id="no such column",
        ),
        pytest.param(
            "AAPL\nMSFT\n",
            "{}: the first row must have exactly one column `ticker`; it has only AAPL",
            id="no header",
        ),
        pytest.param(
            "ticker|exchange\nAAPL|NYSE\n",
            "{}: the first row must have exactly one column `ticker`; it has only ticker|exchange",
            id="another separator",
        ),
        pytest.param(
            "ticker,Ticker\nAAPL,MSFT\n",
            "{}: the first row must have exactly one column `ticker`; it has two",
            id="two columns",
        ),
        pytest.param("ticker,exchange\nAAPL,NYSE\n,NYSE\n", "{}, row 3: the ticker is empty", id="row without ticker"),
        pytest.param(
            "ticker,asset_type\nAAPL,stocks\nMSFT,equity\n",
            "{}, row 3: the asset_type 'equity' is not one of stocks, options, indices, forex, crypto",
            id="unknown asset type",
        ),
        pytest.param(
            "ticker,exchange\nAAPL,N&Y\n",
            "{}, row 2: the exchange 'N&Y' cannot be the value of an S3 tag",
            id="tag letter",
        ),
        pytest.param(
            "ticker\nX:BTCUSD\nX-BTCUSD\n",
            "{}, row 3: X-BTCUSD and X:BTCUSD would share X-BTCUSD_historical.csv; one needs another --output-dir",
            id="shared file",
        ),
    ],
)
def test_an_unusable_universe_is_told_in_one_line(universe: Path, content: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(universe, content)
    assert str(caught.value) == said.format(universe)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        pytest.param("ticker\nAAPL\nMSFT,NYSE\n", 3, id="row longer than the header"),
        pytest.param('ticker\nAAPL\n"MSFT\n', 3, id="quote without its end"),
    ],
)
def test_what_is_no_csv_is_told_with_its_row(universe: Path, content: str, row: int) -> None:
    with pytest.raises(ConfigError) as caught:
        read(universe, content)
    assert str(caught.value).startswith(f"{universe}")
    assert str(row) in str(caught.value).removeprefix(str(universe))


def test_a_tag_that_is_too_long_is_refused(universe: Path) -> None:
    with pytest.raises(ConfigError, match=r"row 2: the exchange .* cannot be the value of an S3 tag"):
        read(universe, f"ticker,exchange\nAAPL,{'N' * 257}\n")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"ticker\n\xff\xfe\n", id="not UTF-8"),
        pytest.param("ticker\nAAPL\n".encode("utf-16")[:-1], id="cut UTF-16"),
        pytest.param(gzip.compress(b"ticker\nAAPL\n")[:-9], id="cut gzip"),
        pytest.param(b"PAR1\x15\x04", id="Parquet"),
        pytest.param(bytes(range(256)), id="binary"),
        pytest.param(b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00", id="a spreadsheet"),
    ],
)
def test_bytes_that_are_no_text_are_told(universe: Path, content: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read(universe, content)
    message = str(caught.value)
    assert message.startswith((f"{universe}: ", f"{universe} "))
    assert message.isprintable()


FORGIVEN = [
    ("ticker;exchange\nAAPL;NYSE\nBRK.B;\n", ["AAPL", "BRK.B"]),
    ("exchange\tSymbol\nNYSE\tAAPL\n\tBRK.B\n", ["AAPL", "BRK.B"]),
    ("# from the broker, 2026\nTickers\nAAPL\n  # sold\nBRK.B\n", ["AAPL", "BRK.B"]),
    ('code,name\nAAPL,"Apple; Inc."\nBRK.B,\n', ["AAPL", "BRK.B"]),
    ("ticker,exchange\nAAPL,NYSE,,\nBRK.B\n", ["AAPL", "BRK.B"]),
    # A column of that name counts, whatever others there are.
    ("symbol,ticker\n1,AAPL\n2,BRK.B\n", ["AAPL", "BRK.B"]),
]


@pytest.mark.parametrize("coded", ["utf-8", "utf-8-sig", "utf-16", "gzip"])
@pytest.mark.parametrize(("text", "found"), FORGIVEN)
def test_files_that_people_have_are_read(universe: Path, text: str, found: list[str], coded: str) -> None:
    content = gzip.compress(text.encode()) if coded == "gzip" else text.encode(coded)
    assert [ticker.symbol for ticker in read(universe, content)] == found


def test_all_bad_rows_are_told_at_once(universe: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(universe, ("ticker\n" + "".join(f"A/{number}\n" for number in range(12)) + "AAPL\n").encode())
    assert str(caught.value).count("is not a ticker") == 10
    assert str(caught.value).startswith(f"{universe}, row 2: 'A/0' is not a ticker")
    assert str(caught.value).endswith("; and 2 more")


def test_all_rows_that_are_too_long_are_told_at_once(universe: Path) -> None:
    rows = "".join(f"A{number},x\n" for number in range(12))
    with pytest.raises(ConfigError) as caught:
        read(universe, f"ticker\n{rows}B,\n")
    told = str(caught.value)
    assert told.startswith(f"{universe}, row 2 has 2 values, the header 1; {universe}, row 3 has ")
    assert told.count(" has 2 values") == 10
    assert told.endswith("; and 2 more; put quotes around values that contain separators")


def test_commas_between_tickers_are_told() -> None:
    with pytest.raises(ConfigError, match=r"tickers by spaces, not commas: --tickers AAPL MSFT A$"):
        from_names(["AAPL,MSFT,", "A"], Defaults())


def test_a_missing_universe_says_what_to_give(universe: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        from_csvs([universe], Defaults())
    assert str(caught.value) == (
        f"{universe} does not exist; give --tickers, or --universe FILE with a `ticker` column"
    )


def test_a_directory_is_no_universe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        from_csvs([tmp_path], Defaults())
    assert str(caught.value) == f"{tmp_path} cannot be read (Is a directory)"


def test_a_name_below_a_file_cannot_be_read(universe: Path) -> None:
    universe.write_text("ticker\nAAPL\n")
    with pytest.raises(ConfigError, match=r"cannot be read \(Not a directory\)"):
        from_csvs([universe / "tickers.csv"], Defaults())


@pytest.mark.parametrize("name", ["AAPL,MSFT", "../x", "..", "", " ", "A" * 65, "A\nB"])
def test_the_command_line_refuses_what_a_universe_would(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--tickers: "):
        from_names(["AAPL", name], Defaults())


def test_the_command_line_keeps_order_and_drops_doubles() -> None:
    names = ["MSFT", "AAPL", " MSFT ", "BRK.B", "AAPL"]
    assert [ticker.symbol for ticker in from_names(names, Defaults())] == ["MSFT", "AAPL", "BRK.B"]


# Through the program


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ticker\nAAPL\n../x\n", f"tickers.csv, row 3: '../x' {NOT_A_TICKER}"),
        (None, "tickers.csv does not exist; give --tickers, or --universe FILE with a `ticker` column"),
        (
            "ticker,asset_type\nAAPL,bonds\n",
            "tickers.csv, row 2: the asset_type 'bonds' is not one of stocks,",
        ),
    ],
)
def test_the_program_ends_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], universe: Path, content: str | None, said: str
) -> None:
    if content is not None:
        universe.write_text(content)
    box = sandbox()
    ended = program("--rate", "unlimited", box=box)
    assert ended.code == 2
    assert ended.err.startswith(f"polygon-async: error: {said}")
    assert ended.err.count("\n") == 1
    assert ended.out == ""
    assert box.requests == []
    assert not (universe.parent / "output").exists()


def test_the_program_runs_the_universe_in_the_working_directory(
    program: Program, sandbox: Callable[..., Sandbox], universe: Path
) -> None:
    rows = [["Exchange", "TICKER", "Sector"], ["XNAS", "NA", "x"], ["", "TRUE", ""], ["", "  NODATA ", "y,z"]]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    universe.write_text("\ufeff\n" + text.getvalue())
    box = sandbox()
    ended = program("--rate", "unlimited", "--from", "2026-03-02", "--to", "2026-03-02", "--json", box=box)
    assert ended.code == 0
    assert sorted(done["ticker"] for done in ended.summary["done"]) == ["NA", "TRUE"]
    output = universe.parent / "output"
    assert names(output) == ["NA_historical.csv", "TRUE_historical.csv", "no_data.csv"]
    assert (output / "no_data.csv").read_text() == (
        'ticker,Exchange,Sector,error\nNODATA,,"y,z",no data in the range\n'
    )
    assert {o.tags["symbol"]: o.tags["exchange"] for o in stored(box)} == {"NA": "XNAS", "TRUE": "unknown"}
