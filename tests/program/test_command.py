"""The command line as its users meet it: files, objects, what it says, how it ends."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import massive
import pandas as pd
import pytest
from conftest import HEADER, csv_of, names
from stored import decompressed, keys, stored

import polygon_async
from polygon_async.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Bar, Sandbox

FIRST, LAST = dt.date(2026, 3, 2), dt.date(2026, 3, 3)
RANGE = ("--from", f"{FIRST}", "--to", f"{LAST}", "--rate", "unlimited")
ASSETS = {
    "X:BTCUSD": ("crypto", "USD"),
    "C:EURGBP": ("forex", "GBP"),
    "I:SPX": ("indices", "USD"),
    "O:SPY251219C00650000": ("options", "USD"),
    "OTCX": ("stocks", "USD"),
    "GAPPY": ("stocks", "USD"),
    "BRK.B": ("stocks", "USD"),
}


def truth(box: Sandbox, ticker: str, *, adjusted: bool = True) -> list[Bar]:
    """What the sandbox holds of the range."""
    return box.market.days(ticker, FIRST, LAST, adjusted=adjusted)


# The main job


def test_two_tickers_become_two_csvs_and_two_tagged_objects(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    before = dt.datetime.now(dt.UTC)
    ended = program("--tickers", "AAPL", "MSFT", "--concurrency", "8", *RANGE, box=box)
    after = dt.datetime.now(dt.UTC)
    assert ended.code == 0, ended.err
    output = program.directory / "output"
    assert names(output) == ["AAPL_historical.csv", "MSFT_historical.csv"]
    assert names(program.directory) == ["output"]
    objects = {o.tags["symbol"]: o for o in stored(box)}
    assert sorted(objects) == ["AAPL", "MSFT"]
    for ticker, item in objects.items():
        bars = truth(box, ticker)
        text = (output / f"{ticker}_historical.csv").read_bytes()
        assert text == csv_of(bars).encode()
        assert decompressed(item) == text
        match = re.fullmatch(rf"stocks/{ticker}/polygon/(.{{13}})/{ticker}_polygon_(\d{{12}})\.csv\.lzo", item.key)
        assert match, item.key
        moment = dt.datetime.strptime(match[2], "%Y%m%d%H%M").replace(tzinfo=dt.UTC)
        assert before.replace(second=0, microsecond=0) <= moment <= after
        assert match[1] == f"{moment:%Y/%m/%d/%H}"
        assert item.tags == {
            "asset_type": "stocks",
            "symbol": ticker,
            "source": "polygon",
            "exchange": "unknown",
            "currency": "USD",
            "timeframe": "1min",
            "date": f"{moment:%Y-%m-%d}",
            "quality": "raw",
        }
        assert item.metadata == {
            "bars": str(len(bars)),
            "first": str(bars[0].t),
            "last": str(bars[-1].t),
            "from": "2026-03-02",
            "to": "2026-03-03",
            "adjusted": "true",
            "csv-sha256": hashlib.sha256(text).hexdigest(),
        }
    assert len({item.key[-16:] for item in objects.values()}) == 1, "one run has one moment"
    assert len(box.requests) == 2
    first, bars_line, requests_line, files_line = ended.out.splitlines()
    assert files_line == "  files     CSVs in output, output/report.html"
    count = sum(len(truth(box, ticker)) for ticker in objects)
    assert re.fullmatch(r"2 of 2 tickers done, in \d+\.\d s \(2026-03-02 to 2026-03-03\)", first)
    assert re.fullmatch(rf"  bars      {count:,}, \d+\.\d kB of CSV, \d+\.\d kB in S3", bars_line)
    assert requests_line == "  requests  2 (expected: 2 to 4)"
    assert "AAPL uploaded" in ended.err


def test_what_is_only_uploaded_is_expected_to_cost_nothing(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    flags = ("--tickers", "AAPL", "QQ", *RANGE, "--no-reference")
    assert program(*flags, "--no-upload", box=box).code == 0
    ended = program(*flags, box=box)
    assert ended.code == 0, ended.err
    assert "  requests  0" in ended.out.splitlines()


def test_every_kind_of_ticker_has_its_names_tags_and_bytes(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=700)
    ended = program("--tickers", *ASSETS, "--exchange", "XNAS", "--concurrency", "1", *RANGE, box=box)
    assert ended.code == 0, ended.err
    output = program.directory / "output"
    assert names(output) == sorted(f"{ticker.replace(':', '-')}_historical.csv" for ticker in ASSETS)
    objects = {o.tags["symbol"]: o for o in stored(box)}
    assert sorted(objects) == sorted(ASSETS)
    for ticker, (asset_type, currency) in ASSETS.items():
        item, name = objects[ticker], ticker.replace(":", "-")
        bars = truth(box, ticker)
        assert (output / f"{name}_historical.csv").read_text() == csv_of(bars)
        assert decompressed(item).decode() == csv_of(bars)
        assert item.key.startswith(f"{asset_type}/{name}/polygon/20")
        assert f"/{name}_polygon_20" in item.key
        assert (item.tags["asset_type"], item.tags["currency"]) == (asset_type, currency)
        assert item.tags["exchange"] == "XNAS"
        assert len(item.tags) == 8
        pages = [request.page for request in box.requests if request.ticker == ticker]
        assert pages == list(range(1, -(-len(bars) // 700) + 1))
    # What makes these tickers worth a look is in what was compared.
    assert all(bar.otc for bar in truth(box, "OTCX"))
    assert not any(bar.v or bar.vw or bar.n for bar in truth(box, "I:SPX"))
    assert {bool(bar.vw) for bar in truth(box, "GAPPY")} == {True, False}
    assert max(len(pages) for pages in [[r for r in box.requests if r.ticker == t] for t in ASSETS]) > 3


def test_the_csv_is_what_the_official_client_gives(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=1000)
    tickers = ["AAPL", "OTCX", "GAPPY", "I:SPX", "X:BTCUSD", "C:EURUSD"]
    assert program("--tickers", *tickers, "--no-upload", *RANGE, box=box).code == 0
    client = massive.RESTClient(box.api_key, base=box.base_url)
    for ticker in tickers:
        aggs = list(client.list_aggs(ticker, 1, "minute", f"{FIRST}", f"{LAST}", limit=50_000))
        theirs = pd.DataFrame(aggs)
        theirs_csv = program.directory / "theirs.csv"
        theirs.to_csv(theirs_csv, index=False)
        ours_csv = program.directory / "output" / f"{ticker.replace(':', '-')}_historical.csv"
        assert theirs_csv.read_text().splitlines()[0] == HEADER.rstrip()
        pd.testing.assert_frame_equal(
            pd.read_csv(ours_csv), pd.read_csv(theirs_csv), check_dtype=True, check_exact=True
        )
        assert len(aggs) == len(truth(box, ticker)) > 0


# Flags


def test_no_upload_needs_neither_lzop_nor_aws(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    without: dict[str, str | None] = {name: None for name in box.environment if not name.startswith("POLYGON")}
    ended = program("--tickers", "QQ", "--no-upload", *RANGE, box=box, env={**without, "PATH": "/nowhere"})
    assert ended.code == 0, ended.err
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == csv_of(truth(box, "QQ"))
    assert "QQ saved" in ended.err
    assert "in S3" not in ended.out
    assert stored(box) == []


def test_unadjusted_prices_are_asked_for_and_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, day = sandbox(page_size=200), dt.date(2025, 6, 6)
    range_ = ("--from", f"{day}", "--to", f"{day}", "--rate", "unlimited", "--tickers", "SPLIT")
    ended = program(*range_, "--no-adjusted", box=box)
    assert ended.code == 0, ended.err
    (item,) = stored(box)
    bars = box.market.days("SPLIT", day, day, adjusted=False)
    assert decompressed(item).decode() == csv_of(bars) != csv_of(box.market.days("SPLIT", day, day))
    assert item.metadata["adjusted"] == "false"
    assert all("adjusted=false" in request.path_qs for request in box.requests)
    assert len(box.requests) > 1


def test_no_keep_csv_leaves_the_object_alone(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD 1 plan403")
    ended = program("--tickers", "QQ", "BAD", "--no-keep-csv", "--output-dir", "a/b", *RANGE, box=box)
    assert ended.code == 1
    assert names(program.directory / "a" / "b") == ["failed.csv"]
    assert names(program.directory) == ["a"]
    (item,) = stored(box)
    assert decompressed(item).decode() == csv_of(truth(box, "QQ"))


def test_json_is_one_object_on_standard_output(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("BAD * error_200", "QQ 1 status=503 1x", page_size=300)
    ended = program("--tickers", "QQ", "BAD", "NODATA", "--json", *RANGE, box=box)
    assert ended.code == 1
    assert ended.out.count("\n") == 1
    summary = ended.summary
    bars, item = truth(box, "QQ"), stored(box)[0]
    assert summary["exit_code"] == 1
    assert summary["error"] is None
    assert summary["interrupted"] is False
    assert summary["version"] == polygon_async.__version__
    assert (summary["from"], summary["to"], summary["adjusted"]) == ("2026-03-02", "2026-03-03", True)
    assert summary["tickers"] == {"total": 3, "done": 1, "earlier": 0, "no_data": 1, "failed": 1, "unfinished": 0}
    assert summary["bars"] == len(bars)
    assert summary["csv_bytes"] == len(csv_of(bars))
    assert summary["stored_bytes"] == len(item.body)
    assert summary["requests"] == len(box.requests)
    assert summary["retries"] == {"503": 1, "untrue": 2}
    assert summary["answers"] == {"200": len(box.requests) - 1, "503": 1}
    assert summary["no_data"] == ["NODATA"]
    (failure,) = summary["failed"]
    assert failure["ticker"] == "BAD"
    assert "[GET /v2/aggs/ticker/BAD/range/1/minute/2026-03-02/2026-03-03]" in failure["error"]
    (done,) = summary["done"]
    assert done.pop("seconds") > 0
    assert done.pop("sessions")["missing"] == []
    assert done | {"first": "", "last": ""} == {
        "ticker": "QQ",
        "from": "2026-03-02",
        "to": "2026-03-03",
        "earlier": False,
        "csv": "output/QQ_historical.csv",
        "bars": len(bars),
        "first": "",
        "last": "",
        "starts_late": False,
        "bucket": box.bucket,
        "key": item.key,
        "size": len(item.body),
        "existed": False,
    }
    assert [pd.Timestamp(done[end]).value // 10**6 for end in ("first", "last")] == [bars[0].t, bars[-1].t]


def test_a_run_that_cannot_start_says_so_in_json_too(program: Program) -> None:
    ended = program("--tickers", "QQ", "--json")
    assert ended.code == 2
    error = "POLYGON_API_KEY is not set; export it or put it in .env (see .env.example)"
    assert ended.summary == {"version": polygon_async.__version__, "exit_code": 2, "error": error}
    assert ended.err == f"polygon-async: error: {error}\n"


# Help, version, usage


def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What --help says."""
    monkeypatch.setattr(sys, "argv", ["polygon-async", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_tells_every_flag_variable_and_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_text(capsys, monkeypatch)
    flags = (
        "--tickers --universe --from --to --concurrency --rate --patience --adjusted --no-adjusted --bucket"
        " --output-dir --no-upload --keep-csv --no-keep-csv --force --exchange --currency --json --log-level --version"
    )
    variables = (
        "POLYGON_API_KEY MASSIVE_API_KEY POLYGON_BASE_URL POLYGON_FROM POLYGON_TO POLYGON_CONCURRENCY"
        " POLYGON_RATE_LIMIT POLYGON_PATIENCE S3_BUCKET AWS_ENDPOINT_URL_S3 .env"
    )
    for word in [*flags.split(), *variables.split()]:
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), word
    for code in ("0", "1", "2", "130"):
        assert re.search(rf"^.*\s{code}\s{{2,}}\w", text[text.index("exit codes:") :], re.MULTILINE), code
    assert "--key " not in text
    assert "--api-key" not in text
    assert "--api-key" not in text


def test_every_flag_of_the_help_is_explained_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(help_text(capsys, monkeypatch).split())
    for default in ("tickers.csv", "8", "auto", "300", "mochi-tickdata-historical", "output", "info"):
        assert f"(default: {default}" in text, default


def test_the_version_is_told_at_once(program: Program) -> None:
    ended = program("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"polygon-async {polygon_async.__version__}\n", "")


def test_the_console_script_is_the_module() -> None:
    project = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text())["project"]
    entry = importlib.metadata.EntryPoint("polygon-async", project["scripts"]["polygon-async"], "console_scripts")
    assert entry.load() is main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--tickers"], "--tickers: needs at least one value"),
        (["--ticker", "AAPL"], "unrecognized arguments: --ticker AAPL"),
        (["--rate"], "--rate: needs a value"),
        (["--log-level", "loud"], "--log-level 'loud': must be debug, info, warning or error"),
        (["--log-format", "jsn"], "--log-format 'jsn': must be text or json; did you mean json?"),
        (["--no-upload=1"], "argument --no-upload: ignored explicit argument '1'"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["polygon-async", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"polygon-async: error: {said}")
    assert err.endswith(" (--help lists the flags)\n")
    assert err.count("\n") == 1


def test_a_bad_value_is_one_line_and_nothing_is_asked(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", "--rate", "5", box=box)
    assert ended.code == 2
    assert ended.err == (
        "polygon-async: error: --rate '5': must be N/s, N/min or N/h (such as 5/min), unlimited or auto\n"
    )
    assert (ended.out, box.requests) == ("", [])


def test_an_unknown_key_ends_the_run_in_one_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "QQ", "AAPL", *RANGE, box=box, env={"POLYGON_API_KEY": "nobody-knows-me"})
    assert ended.code == 2
    assert re.match(
        r"polygon-async: error: the API does not accept the key in POLYGON_API_KEY \(HTTP 401: Unknown API Key",
        ended.error,
    )
    assert "Traceback" not in ended.err
    assert "nobody-knows-me" not in ended.err + ended.out


def redirected(program: Program, box: Sandbox, how: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a run whose streams a shell has redirected."""
    flags = shlex.join(["--tickers", "QQ", "--no-upload", *RANGE])
    ended = program.in_shell(f"set -o pipefail; polygon-async {flags} {how}", box=box)
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err
    assert (program.directory / "output" / "QQ_historical.csv").read_text() == csv_of(truth(box, "QQ"))
    return ended.code, ended.out, ended.err


@pytest.mark.parametrize("how", ["| true", ">&-"])
def test_a_closed_standard_output_is_no_traceback(program: Program, sandbox: Callable[..., Sandbox], how: str) -> None:
    _, out, err = redirected(program, sandbox(), how)
    assert out == ""
    assert "QQ saved" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_standard_output_that_takes_nothing_is_told_in_one_line(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    code, _, err = redirected(program, sandbox(), "> /dev/full")
    assert code == 2
    assert err.splitlines()[-1].startswith("polygon-async: error: ")


def test_a_closed_standard_error_does_not_matter(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    code, out, err = redirected(program, sandbox(), "2>&-")
    assert (code, err) == (0, "")
    assert out.startswith("1 of 1 ticker done, in ")


# Outcomes


def test_when_none_has_data_the_exit_code_tells(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    ended = program("--tickers", "NODATA", "NODATA2", *RANGE, box=box)
    assert ended.code == 1
    output = program.directory / "output"
    assert names(output) == ["no_data.csv"]
    assert (output / "no_data.csv").read_text().splitlines()[0] == "ticker,error"
    assert sorted((output / "no_data.csv").read_text().splitlines()[1:]) == [
        "NODATA,no data in the range",
        "NODATA2,no data in the range",
    ]
    assert ended.out.startswith("0 of 2 tickers done, 2 without data, in ")
    assert stored(box) == []


def test_tickers_without_data_are_told_and_not_failed(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    ended = program("--tickers", "QQ", "NODATA", *RANGE, box=sandbox())
    assert ended.code == 0
    assert "  no data   NODATA\n" in ended.out


def test_failures_are_listed_in_the_universes_own_form_and_fed_back_in(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox("A* 1 status=400", "NODATA 1 key_echo", page_size=500)
    output = program.directory / "output"
    universe = program.directory / "mine.csv"
    universe.write_text(
        'Sector,ticker,exchange,currency,Note\nIT,AAPL,XNAS,CHF,"a,b"\nIT,MSFT,XNAS,,\n,A/B2,,,\n,NODATA,,,\n'.replace(
            "A/B2", "AB2"
        )
    )
    first = program("--universe", "mine.csv", *RANGE, box=box)
    assert first.code == 1
    assert names(output) == ["MSFT_historical.csv", "failed.csv"]
    listed = pd.read_csv(output / "failed.csv", dtype=str, keep_default_na=False).sort_values("ticker")
    assert list(listed.columns) == ["ticker", "Sector", "exchange", "currency", "Note", "error"]
    assert listed.iloc[:, :-1].to_numpy().tolist() == [
        ["AAPL", "IT", "XNAS", "CHF", "a,b"],
        ["AB2", "", "", "", ""],
        ["NODATA", "", "", "", ""],
    ]
    assert listed["error"].str.startswith("HTTP 400: ").all()
    assert "3 failed" in first.out

    box.set_troubles(["AAPL 1 status=400"])
    box.forget_requests()
    second = program("--universe", "output/failed.csv", *RANGE, box=box)
    assert second.code == 1
    assert {request.ticker for request in box.requests} == {"AAPL", "AB2", "NODATA"}
    assert [line.split(",")[0] for line in (output / "failed.csv").read_text().splitlines()] == ["ticker", "AAPL"]
    assert (output / "no_data.csv").read_text() == (
        "ticker,Sector,exchange,currency,Note,error\nNODATA,,,,,no data in the range\n"
    )

    box.set_troubles([])
    third = program("--universe", "output/failed.csv", *RANGE, box=box)
    assert third.code == 0
    assert names(output) == ["AAPL_historical.csv", "AB2_historical.csv", "MSFT_historical.csv"]
    tags = {o.tags["symbol"]: (o.tags["exchange"], o.tags["currency"]) for o in stored(box)}
    assert tags == {"AAPL": ("XNAS", "CHF"), "MSFT": ("XNAS", "USD"), "AB2": ("unknown", "USD")}


TROUBLES = {
    "status=400": "HTTP 400: ",
    "plan403": "HTTP 403: Your plan doesn't include this data timeframe",
    "not_found": "HTTP 404: ",
    "not_authorized_200": "the API answers NOT_AUTHORIZED: You are not entitled to this data",
    "error_200": "the answer's own status is 'ERROR'",
    "html_200": "HTTP 200 with text/html instead of JSON",
    "redirect": "HTTP 302: redirects are not followed",
    "cut_gzip": "the gzip body cannot be unpacked",
    "cut_json": "the body is not JSON",
    "drop": "the body was cut",
    "reset": "the connection to 127.0.0.1 broke",
    "status=503": "HTTP 503: ",
    "status_word=WAIT": "the answer's own status is 'WAIT'",
    "next_same": "the next_url does not move forward",
    "next_ticker": "the next_url names another path or ticker",
    "disorder": "comes after the one at",
    "other_ticker": "the answer is about 'OTHER'",
    "foreign_bar": "is of 'OTHER'",
    "adjusted_flip": "asked for adjusted=True, the answer says adjusted=False",
    "no_field=c": "missing required field `c`",
    "text_field=o": "has 'o' = ",
    "null_field=v": "has 'v' = null",
    "null_row": "does not have the shape of a page",
    "count_lie": "the answer counts ",
    "key_echo": "HTTP 400: ",
}
"""Kinds of trouble that no patience overcomes, and what each failure says."""


def test_a_universe_full_of_trouble_ends_with_the_good_ones_done(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    each = 5
    expected = {f"BAD{kind:02}x{copy}": said for kind, said in enumerate(TROUBLES.values()) for copy in range(each)}
    lines = [f"BAD{kind:02}x* 1 {trouble}" for kind, trouble in enumerate(TROUBLES)]
    box = sandbox(*lines, page_size=100)
    fine = [f"GOOD{number}" for number in range(300 - each * len(TROUBLES))]
    order = sorted([*fine, *expected], key=lambda ticker: hashlib.sha256(ticker.encode()).digest())
    rows = "".join(f"{ticker},XNYS,row of {ticker}\n" for ticker in order)
    (program.directory / "tickers.csv").write_text(f"ticker,exchange,note\n{rows}")
    day = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited", "--concurrency", "32")
    ended = program(*day, "--patience", "0.2", "--json", box=box)
    assert ended.code == 1
    assert len(order) == 300
    summary, output = ended.summary, program.directory / "output"
    assert sorted(done["ticker"] for done in summary["done"]) == sorted(fine)
    told = {failure["ticker"]: failure["error"] for failure in summary["failed"]}
    assert sorted(told) == sorted(expected)
    assert {ticker: told[ticker] for ticker, said in expected.items() if said not in told[ticker]} == {}
    assert names(output) == sorted([*(f"{ticker}_historical.csv" for ticker in fine), "failed.csv"])
    for ticker in fine:
        bars = box.market.days(ticker, FIRST, FIRST)
        assert (output / f"{ticker}_historical.csv").read_text() == csv_of(bars), ticker
    assert sorted(key.split("/")[1] for key in keys(box)) == sorted(fine)
    listed = pd.read_csv(output / "failed.csv", index_col="ticker")
    assert listed["error"].to_dict() == told
    assert listed["note"].to_dict() == {ticker: f"row of {ticker}" for ticker in told}

    box.set_troubles([])
    box.forget_requests()
    again = program(*day, "--universe", "output/failed.csv", box=box)
    assert again.code == 0, again.err
    assert {request.ticker for request in box.requests} == set(expected)
    assert names(output) == sorted(f"{ticker}_historical.csv" for ticker in order)
    assert sorted(key.split("/")[1] for key in keys(box)) == sorted(order)
