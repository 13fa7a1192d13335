"""`universe`: what it writes, what it asks for, and what it does not believe."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import massive
import pytest
from door import Answered, Arrived, door

from polygon_async.errors import Refused, Retryable, WrongAnswer
from polygon_async.polygon.exchanges import NAMES, mic_of, name_of
from polygon_async.polygon.reference import Entry, TickerQuery, read_entries
from polygon_async.polygon.universe import as_csv, once_each
from polygon_async.sandbox.reference import LISTED
from polygon_async.settings.universe import Defaults, from_csvs

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox

PAYLOADS = Path(__file__).parent.parent / "payloads"
HEADER = "ticker,name,exchange,currency,asset_type,type,list_date,delist_date"
STOCKS = TickerQuery(market="stocks", active=True)
PACE = ("--rate", "unlimited")


@pytest.fixture
def listing(program: Program) -> Callable[..., Ended]:
    """Runs `universe` at full speed."""

    def run(*arguments: str, box: Sandbox, **options: Any) -> Ended:
        return program("universe", *arguments, *PACE, box=box, **options)

    return run


def rows(text: str) -> list[dict[str, str]]:
    """A CSV's rows."""
    return list(csv.DictReader(io.StringIO(text)))


def tickers(text: str) -> list[str]:
    """The tickers of a CSV, in order."""
    return [row["ticker"] for row in rows(text)]


# What is written


def test_the_active_stocks_come_once_each_with_their_columns(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(page_size=4)
    ended = listing(box=box)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[:7] == [
        HEADER,
        "A,Agilent Technologies Inc.,NYSE,USD,stocks,CS,,",
        "AA,Alcoa Corporation,NYSE,USD,stocks,CS,,",
        "AAA,AAF First Priority CLO Bond ETF,NYSE ARCA,USD,stocks,ETF,,",
        "AAAU,Goldman Sachs Physical Gold ETF Shares,CBOE BZX,USD,stocks,ETF,,",
        "AAPL,Apple Inc.,NASDAQ,USD,stocks,CS,,",
        'AMPB,"Ampere Biologics, Inc.",NASDAQ,USD,stocks,CS,,',
    ]
    active = sorted({listed.ticker for listed in LISTED if listed.market == "stocks" and not listed.until})
    assert tickers(ended.out) == active
    assert {request.auth for request in box.requests} == {"bearer"}
    assert [request.page for request in box.requests] == list(range(1, len(box.requests) + 1))
    assert len(box.requests) == -(-(len(active) + 1) // 4), "AAAU stands twice"


def test_it_can_be_fed_to_a_download(
    listing: Callable[..., Ended], program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox(page_size=5)
    assert listing("--output", "all.csv", "--market", "stocks", "otc", "crypto", "fx", "indices", box=box).code == 0
    told = {ticker.symbol: ticker for ticker in from_csvs([tmp_path / "all.csv"], Defaults())}
    assert (told["MSFT"].exchange, told["MSFT"].currency, told["MSFT"].asset_type) == ("NASDAQ", "USD", "stocks")
    assert (told["TCEHY"].exchange, told["TCEHY"].asset_type) == ("unknown", "stocks")
    assert (told["X:BTCUSD"].exchange, told["X:BTCUSD"].currency) == ("unknown", "USD")
    assert (told["C:EURGBP"].asset_type, told["C:EURGBP"].currency) == ("forex", "GBP")
    assert (told["I:SPX"].asset_type, told["I:SPX"].currency) == ("indices", "USD")
    day = ("--from", "2026-03-02", "--to", "2026-03-02", "--no-upload", "--json", *PACE)
    ended = program("--universe", "all.csv", "--match", "M*", "NA", *day, box=box)
    assert ended.code == 0, ended.err
    assert sorted(done["ticker"] for done in ended.summary["done"]) == ["MSFT", "NA"]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ("--type ETF", "AAA AAAU GLDM QQQ SHLD SPY"),
        ("--type adrc PFD", "AMpB BABA"),
        ("--exchange XNAS --type CS", "AAPL AMPB AMZN MSFT NA"),
        ("--exchange nasdaq BATS --type ETF", "AAAU QQQ"),
        ("--delisted", "ROVRW SHLD TWTR YHOO"),
        ("--delisted --type CS", "SHLD TWTR YHOO"),
        ("--delisted --active --type WARRANT ETF", "AAA AAAU GLDM QQQ ROVRW SHLD SPY YHOO"),
        ("--date 2015-01-02 --exchange NASDAQ", "AAPL AMZN MSFT QQQ SHLD YHOO"),
        ("--date 2018-12-31 --delisted", "SHLD YHOO"),
        ("--market crypto", "X:BTCUSD X:ETHUSD"),
        ("--market fx --match *USD", "C:EURUSD"),
        ("--market indices otc --limit 1", "I:SPX"),
        ("--match A* --limit 3", "A AA AAA"),
        ("--match *p?", "AMpB"),
    ],
)
def test_filters_take_a_part(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], flags: str, left: str
) -> None:
    ended = listing(*flags.split(), box=sandbox(page_size=3))
    assert ended.code == 0, ended.err
    assert tickers(ended.out) == left.split()


def test_of_a_name_that_was_used_twice_the_one_that_is_traded_counts(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]
) -> None:
    ended = listing("--active", "--delisted", "--match", "SHLD", "YHOO", "TWTR", box=sandbox())
    assert [(row["name"], row["delist_date"]) for row in rows(ended.out)] == [
        ("Global X Defense Tech ETF", ""),
        ("Twitter, Inc.", "2022-10-28"),
        ("Yahoo Partners ETF", "2021-06-30"),
    ]


def test_list_dates_cost_a_request_each(listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("reference/SPY * not_found", "reference/QQQ * status=503 1x")
    ended = listing("--list-dates", "--type", "ETF", "WARRANT", "--delisted", "--active", box=box)
    assert ended.code == 0, ended.err
    dates = {row["ticker"]: row["list_date"] for row in rows(ended.out)}
    assert dates["GLDM"] == "2018-06-26"
    assert dates["ROVRW"] == "2021-08-02", "asked for as of the day before its end"
    assert dates["QQQ"] == "1999-03-10"
    assert dates["SPY"] == "", "it has no page of its own"
    # Twice: what met a 503, and the list of warrants that are traded, of which there is none.
    assert len(box.requests) == 4 + len(dates) + 2


@pytest.mark.parametrize("times", [1, 9])
def test_details_of_another_ticker_are_requested_again_before_they_count(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], times: int
) -> None:
    box, asked = sandbox(), list[str]()

    def rule(arrived: Arrived, forward: Callable[[], Answered]) -> Answered:
        if not arrived.path.startswith("/v3/reference/tickers/ROVRW"):
            return forward()
        asked.append(arrived.path)
        del arrived.headers["Accept-Encoding"]
        answered = forward()
        body = answered.body.replace(b'"ROVRW"', b'"OTHER"') if len(asked) <= times else answered.body
        return Answered(answered.status, answered.headers, body)

    arguments = ("--list-dates", "--type", "WARRANT", "--delisted")
    with door(box.base_url, rule) as address:
        ended = listing(*arguments, box=box, env={"POLYGON_BASE_URL": address})
    if times == 1:
        assert (ended.code, len(asked)) == (0, 2), ended.err
        assert [row["list_date"] for row in rows(ended.out)] == ["2021-08-02"]
    else:
        assert (ended.code, ended.out, len(asked)) == (2, "", 3), ended.err
        assert ended.error.startswith("polygon-async: error: the answer is about 'OTHER' (request_id ")
        assert ended.error.endswith(" [GET /v3/reference/tickers/ROVRW]")


@pytest.mark.parametrize("told", ["0001-01-01", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "elsewhere", ""])
def test_a_day_that_cannot_be_one_is_none(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], told: str
) -> None:
    box = sandbox()

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        del asked.headers["Accept-Encoding"]
        answered = forward()
        body = re.sub(rb'("(?:delisted_utc|list_date)":")[^"]*"', rb'\g<1>%s"' % told.encode(), answered.body)
        return Answered(answered.status, {**answered.headers, "Content-Length": str(len(body))}, body)

    with door(box.environment["POLYGON_BASE_URL"], rule) as address:
        ended = listing(
            "--list-dates", "--type", "WARRANT", "--delisted", box=box, env={"POLYGON_BASE_URL": address}
        )  # fmt: skip
    assert ended.code == 0, ended.err
    assert [(row["ticker"], row["list_date"], row["delist_date"]) for row in rows(ended.out)] == [("ROVRW", "", "")]


def test_a_file_is_written_whole_and_told(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.csv").write_text("old")
    (tmp_path / "u.csv").symlink_to("elsewhere/real.csv")
    box = sandbox(page_size=10)
    ended = listing("--output", "u.csv", box=box)
    assert (ended.code, ended.out) == (0, "16 tickers in u.csv (2 requests, 1 duplicate dropped)\n"), ended.err
    assert (tmp_path / "u.csv").is_symlink()
    assert (tmp_path / "elsewhere" / "real.csv").read_text().startswith(HEADER)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.csv"]
    told = listing("--output", "u.csv", "--json", "--type", "PFD", box=box)
    facts = {"output": "u.csv", "tickers": 1, "doubles": 0, "left_out": 0, "requests": 1}
    assert told.summary | facts == told.summary
    assert told.summary["exit_code"] == 0


def test_standard_output_is_utf8_whatever_the_locale(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    ended = program("universe", *PACE, box=sandbox("reference 1 other_ticker=É"), env={"PYTHONIOENCODING": "ascii"})
    assert ended.code == 0, ended.err
    assert "omitted, as these cannot be used as file names or keys: '\\xc9'" in ended.err
    assert "AA" in tickers(ended.out)


def test_the_official_client_reads_the_same_from_the_sandbox(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(page_size=6)
    client = massive.RESTClient(box.api_key, base=box.base_url)
    found = [item.ticker for item in client.list_tickers(market="stocks", active=True, limit=1000)]
    assert len(found) == 17
    assert sorted(set(found)) == tickers(listing(box=box).out)
    details = client.get_ticker_details("AAPL")
    assert (details.list_date, details.primary_exchange) == ("1980-12-12", "XNAS")


# Refused before anything is asked


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--date", "2026-02-30"], "--date '2026-02-30': must be an existing date, YYYY-MM-DD"),
        (["--type", "C S"], "--type 'C S': must be a word such as CS, ETF or ADRC"),
        (["--exchange", "Nasdaq Stock"], "--exchange 'Nasdaq Stock': neither a code such as XNAS nor one of"),
        (["--output", "no/such/u.csv"], "--output 'no/such/u.csv': its directory does not exist"),
        (["--output", "."], "--output '.': not a file"),
        (["--output", "/dev/null"], "--output '/dev/null': not a file"),
        (["--output", ""], "--output '': not a file"),
        (["--output", "u" * 300], f"--output '{'u' * 298}…: cannot be written (File name too long)"),
        (["--json"], "--json needs --output FILE: without it, the CSV goes to standard output"),
        (["--limit", "0"], "--limit '0': must be a whole number, 1 or more"),
        (["--patience", "x"], "--patience 'x': must be a number of seconds"),
    ],
)
def test_a_bad_value_is_one_line_and_nothing_is_asked(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], flags: list[str], said: str
) -> None:
    box = sandbox()
    ended = listing(*flags, box=box)
    assert ended.code == 2
    assert ended.err.startswith(f"polygon-async: error: {said}")
    assert ended.err.count("\n") == 1
    assert box.requests == []


# When something goes wrong


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("reference 2 next_back", r"the next_url does not move forward|a next_url but no new ticker"),
        ("reference 2 next_path", r"the next_url names another path: /v3/other/tickers"),
        ("reference 2 count_lie", r"the answer counts 5 tickers and holds 4"),
        ("reference 2 status_word=ERROR", r"the answer's own status is 'ERROR'"),
        ("reference 2 text_field=market", r"the list has AAAU with market 'elsewhere' where 'stocks' was asked for"),
        ("reference 2 bool_field=active", r"the list has AAAU with active False where True was asked for"),
        ("reference 2 null_field=ticker", r"does not have the shape of a page"),
        ("reference 2 bool_field=name", r"does not have the shape of a page"),
        ("reference 2 plan403", r"HTTP 403: Your plan doesn't include"),
        ("reference 2 not_authorized_200", r"the API answers NOT_AUTHORIZED"),
        ("reference 2 redirect", r"redirects are not followed"),
        ("reference 2 status=401", r"the API does not accept the key"),
        ("reference 2 key_echo", r"Bad request for key \[redacted\]"),
    ],
)
def test_an_answer_that_cannot_be_is_one_line_and_no_file(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], tmp_path: Path, trouble: str, said: str
) -> None:
    (tmp_path / "u.csv").write_text("old")
    box = sandbox(trouble, page_size=4)
    ended = listing("--output", "u.csv", box=box)
    assert box.api_key not in ended.err + ended.out
    assert ended.code == 2
    assert re.search(f"^polygon-async: error: .*({said})", ended.error)
    assert "Traceback" not in ended.err
    assert (tmp_path / "u.csv").read_text() == "old"
    assert len(box.requests) <= 4


@pytest.mark.parametrize(
    "trouble",
    [
        "status_word=DELAYED",
        "status=503 2x",
        "reset 1x",
        "drop 1x",
        "cut_gzip 1x",
        "html_200 1x",
        "cut_json 1x",
        "empty429 1x",
        "next_key",
        "next_host=https://elsewhere.invalid:443:443",
    ],
)
def test_what_can_be_tried_again_is(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], trouble: str
) -> None:
    box = sandbox(f"reference 2 {trouble}", page_size=4)
    ended = listing(box=box)
    assert ended.code == 0, ended.err
    assert len(tickers(ended.out)) == 16
    assert all("apikey" not in request.path_qs.lower() for request in box.requests)
    assert box.api_key not in ended.err


def test_an_exchange_that_the_table_does_not_know_stays_as_it_is(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]
) -> None:
    ended = listing("--match", "A", box=sandbox("reference 1 text_field=primary_exchange"))
    assert [row["exchange"] for row in rows(ended.out)] == ["elsewhere"], ended.err


def test_patience_ends(listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]) -> None:
    ended = listing("--patience", "0", box=sandbox("reference 1 status=503"))
    assert ended.code == 2
    assert ended.error.startswith("polygon-async: error: HTTP 503: no message (1 attempt, patience of 0 s used up)")


def test_every_request_pays_a_token(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("reference 2 status=503 1x", page_size=4, rate_limit="5/s")
    ended = program("universe", "--rate", "4/s", "--patience", "60", box=box)
    assert ended.code == 0, ended.err
    assert 429 not in [request.status for request in box.requests]
    assert len(box.requests) == 6


@pytest.mark.parametrize("trouble", ["empty", "null_results"])
def test_an_empty_list_is_told_and_writes_nothing(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], tmp_path: Path, trouble: str
) -> None:
    ended = listing("--output", "u.csv", "--json", box=sandbox(f"reference 1 {trouble}"))
    assert ended.code == 1
    assert ended.error == "polygon-async: error: no ticker on the list matches; nothing was written"
    assert ended.summary["exit_code"] == 1
    assert not (tmp_path / "u.csv").exists()


@pytest.mark.parametrize("trouble", ["empty", "null_results"])
def test_a_later_page_that_is_empty_once_is_requested_again(
    listing: Callable[..., Ended], sandbox: Callable[..., Sandbox], trouble: str
) -> None:
    whole = listing(box=sandbox(page_size=4))
    once = listing(box=sandbox(f"reference 2 {trouble} 1x", page_size=4))
    assert (once.code, once.out) == (0, whole.out), once.err
    ever = listing(box=sandbox(f"reference 2 {trouble}", page_size=4))
    assert (ever.code, len(rows(ever.out))) == (0, 4)
    assert "a page of the list of tickers was empty twice, though a next_url led there" in ever.err


def test_no_match_writes_nothing(listing: Callable[..., Ended], sandbox: Callable[..., Sandbox]) -> None:
    ended = listing("--match", "zz*", box=sandbox())
    assert (ended.code, ended.out) == (1, "")
    assert ended.error == "polygon-async: error: no ticker on the list matches; nothing was written"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_writes_nothing(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path, number: signal.Signals
) -> None:
    box = sandbox("reference 2 stall", page_size=4)
    with program.running("universe", "--output", "u.csv", *PACE, box=box) as process:
        assert process.stderr is not None
        assert "4 tickers so far" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "polygon-async: interrupted\n")
    assert not list(tmp_path.glob("*u.csv*"))


def test_a_reader_that_leaves_is_no_error(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    line = "set -o pipefail; polygon-async universe --rate unlimited --log-level error | true"
    ended = program.in_shell(line, box=sandbox())
    assert (ended.code, ended.err) == (0, "")


# Captured answers


def test_captured_pages_are_read() -> None:
    first = read_entries((PAYLOADS / "reference_tickers.json").read_bytes(), asked=STOCKS)
    last = read_entries((PAYLOADS / "reference_tickers_last.json").read_bytes(), asked=STOCKS)
    assert first.next_url is not None
    assert last.next_url is None
    assert as_csv(once_each([*last.rows, *first.rows])).splitlines()[1:] == [
        "A,Agilent Technologies Inc.,NYSE,USD,stocks,CS,,",
        "AA,Alcoa Corporation,NYSE,USD,stocks,CS,,",
        "AAA,AAF First Priority CLO Bond ETF,NYSE ARCA,USD,stocks,ETF,,",
        "AAAU,Goldman Sachs Physical Gold ETF Shares,CBOE BZX,USD,stocks,ETF,,",
    ]


def test_the_sandbox_lists_what_was_captured(sandbox: Callable[..., Sandbox]) -> None:
    captured = json.loads((PAYLOADS / "reference_tickers.json").read_bytes())["results"][0]
    made = LISTED[0].row("2022-04-27")
    assert list(made) == [name for name in captured if name in made]
    assert {name: captured[name] for name in made if name != "last_updated_utc"} == {
        name: value for name, value in made.items() if name != "last_updated_utc"
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"results":[', Retryable),
        (b"", Retryable),
        (b"[]", WrongAnswer),
        (b'{"status":"OK","results":[{"name":"x"}]}', WrongAnswer),
        (b'{"status":"OK","results":[{"ticker":""}]}', WrongAnswer),
        (b'{"status":"NOT_AUTHORIZED","message":"no"}', Refused),
        (b'{"results":[]}', WrongAnswer),
    ],
)
def test_a_body_that_is_no_list_is_an_error(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_entries(body, asked=STOCKS)


def test_a_question_spells_its_filters() -> None:
    asked = TickerQuery(market="stocks", active=False, type="CS", exchange="XNAS", day=date(2024, 2, 29))
    assert asked.query() == (
        "market=stocks&type=CS&exchange=XNAS&date=2024-02-29&active=false&sort=ticker&order=asc&limit=1000"
    )


# Exchanges


def test_every_stock_exchange_of_the_captured_list_has_a_name() -> None:
    listed = json.loads((PAYLOADS / "reference_exchanges.json").read_bytes())["results"]
    assert sorted(NAMES) == sorted(entry["mic"] for entry in listed if entry["type"] == "exchange")


def test_names_and_codes_lead_to_each_other() -> None:
    for mic, name in NAMES.items():
        assert mic_of(name_of(mic)) == mic_of(mic) == mic_of(name.lower()) == mic
    assert (name_of("XLON"), mic_of("xlon"), name_of("")) == ("XLON", "XLON", "")
    with pytest.raises(ValueError, match="neither a code"):
        mic_of("Wall Street")


def test_a_currency_is_a_code_or_nothing() -> None:
    entries = [
        Entry(ticker="A", market="stocks", currency_name="usd"),
        Entry(ticker="X:BTCEUR", market="crypto", currency_name="Euro Currency", currency_symbol="EUR"),
        Entry(ticker="X:BTCXYZ", market="crypto", currency_name="Some Words"),
        Entry(ticker="C:GBPUSD", market=None, currency_symbol="$", currency_name="usd"),
    ]
    found = [(row["currency"], row["asset_type"]) for row in rows(as_csv(entries))]
    assert found == [("USD", "stocks"), ("EUR", "crypto"), ("", "crypto"), ("USD", "forex")]


@pytest.mark.parametrize("name", ["=1+1", "+A1", "-2", "@SUM(A1)", " \t=cmd|' /C calc'!A0", "\r@x", "\uff1d1", "'=1"])
def test_a_name_that_a_spreadsheet_would_calculate_is_text(name: str, tmp_path: Path) -> None:
    tickers = ["=A", "+B", "-C", "D"]
    entries = [Entry(ticker=ticker, name=name, type=name, market="stocks") for ticker in tickers]
    text = as_csv(entries)
    plain = " ".join(name.split())
    told = plain if plain.startswith("'") else f"'{plain}"
    assert [(row["ticker"], row["name"], row["type"]) for row in rows(text)] == [(each, told, told) for each in tickers]
    (tmp_path / "u.csv").write_text(text)
    assert [ticker.symbol for ticker in from_csvs([tmp_path / "u.csv"], Defaults())] == tickers


@pytest.mark.parametrize("name", ["A - B", "3M", "", "Yahoo! =", "1=1"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert [row["name"] for row in rows(as_csv([Entry(ticker="A", name=name)]))] == [name]


def test_an_exchange_that_a_spreadsheet_would_calculate_is_none() -> None:
    with pytest.raises(WrongAnswer, match="A is listed on '=1', which is not an exchange"):
        as_csv([Entry(ticker="A", primary_exchange="=1")])
