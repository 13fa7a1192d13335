"""Several universes, standard input, and the part of them that is taken."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from conftest import names

from polygon_async import download
from polygon_async.errors import ConfigError
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.settings.universe import of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DAY = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited", "--no-upload")


def chosen(**flags: Any) -> list[tuple[str, str]]:
    """Tickers and their exchanges, as these flags choose them."""
    settings = settings_from(flags, Environment({"POLYGON_API_KEY": "k"}, {}))
    return [(ticker.symbol, ticker.exchange) for ticker in of(settings)]


def symbols(**flags: Any) -> list[str]:
    """The tickers alone."""
    return [symbol for symbol, _ in chosen(**flags)]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two universes that share a ticker."""
    (tmp_path / "a.csv").write_text("ticker,exchange\nMSFT,NASDAQ\nBRK.B,NYSE\nAMpB,NYSE\n")
    (tmp_path / "b.csv").write_text("Sector,Ticker\nx,AAPL\ny,MSFT\nz,AMPB\n")
    return ["a.csv", "b.csv"]


def test_several_files_keep_their_order_and_the_first_row_of_doubles_wins(files: list[str]) -> None:
    first = [("MSFT", "NASDAQ"), ("BRK.B", "NYSE"), ("AMpB", "NYSE")]
    assert chosen(universe=files) == [*first, ("AAPL", "unknown"), ("AMPB", "unknown")]
    assert symbols(universe=files[::-1]) == ["AAPL", "MSFT", "AMPB", "BRK.B", "AMpB"]
    assert chosen(universe=files[::-1])[1] == ("MSFT", "unknown")
    assert symbols(universe=["a.csv", "a.csv"]) == ["MSFT", "BRK.B", "AMpB"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ticker\nQQ\n../x\n", r"^b\.csv, row 3: '\.\./x' is not a ticker"),
        ("ticker\n", r"^b\.csv has no tickers"),
        ("", r"^b\.csv is empty"),
        ("ticker\nX:BTC\nX-BTC\n", r"^b\.csv, row 3: X-BTC and X:BTC would share"),
        ("ticker,asset_type\nMSFTX,bond\n", r"^b\.csv, row 2: the asset_type 'bond' is not one of"),
    ],
)
def test_an_error_names_the_right_file(files: list[str], tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "b.csv").write_text(content)
    with pytest.raises(ConfigError, match=said):
        chosen(universe=files)


def test_a_file_that_is_missing_among_others_is_told(files: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^c\.csv does not exist"):
        chosen(universe=[*files, "c.csv"])


@pytest.mark.parametrize(
    ("match", "left"),
    [
        (["A*"], ["AMpB", "AAPL", "AMPB"]),
        (["A??B"], ["AMpB", "AMPB"]),
        (["*p*"], ["AMpB"]),
        (["a*", "BRK.[AB]"], ["BRK.B"]),
        (["AAPL", "MSFT"], ["MSFT", "AAPL"]),
        (["[!A]*"], ["MSFT", "BRK.B"]),
        (["*"], ["MSFT", "BRK.B", "AMpB", "AAPL", "AMPB"]),
    ],
)
def test_match_takes_a_part(files: list[str], match: list[str], left: list[str]) -> None:
    assert symbols(universe=files, match=match) == left
    assert symbols(tickers=["MSFT", "BRK.B", "AMpB", "AAPL", "AMPB"], match=match) == left


def test_limit_takes_the_first_of_those_that_match(files: list[str]) -> None:
    assert symbols(universe=files, limit="2") == ["MSFT", "BRK.B"]
    assert symbols(universe=files, match=["A*"], limit="2") == ["AMpB", "AAPL"]
    assert symbols(universe=files, limit="99") == symbols(universe=files)
    assert symbols(tickers=["QQ", "QQ", "PP", "OO"], limit="2") == ["QQ", "PP"]


def test_what_is_not_taken_must_be_a_ticker_but_needs_no_file_of_its_own() -> None:
    assert symbols(tickers=["X:BTC", "X-BTC"], match=["X:*"]) == ["X:BTC"]
    assert symbols(tickers=["X:BTC", "X-BTC"], limit="1") == ["X:BTC"]
    with pytest.raises(ConfigError, match="is not a ticker"):
        symbols(tickers=["X:BTC", "a/b"], limit="1")


# Through the program


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--match", "Q*", "aa*"], "--match 'Q*' 'aa*': none of 5 tickers matches (case matters)"),
        (["--match", ""], "--match '': the value is empty"),
        (["--limit", "0"], "--limit '0': must be a whole number, 1 or more"),
        (["--limit", "-1"], "--limit '-1': must be a whole number, 1 or more"),
        (["--limit", "2.5"], "--limit '2.5': must be a whole number, 1 or more"),
        (["--limit", "٣"], "--limit '٣': must be a whole number, 1 or more"),
        (["--limit", ""], "--limit '': must be a whole number, 1 or more"),
        (["--universe", "-", "-"], "--universe -: standard input can be read only once"),
        (["--universe", "a.csv", ""], "--universe '': the value is empty"),
        (["--universe", "-"], "standard input is empty; a universe is a CSV with a `ticker` column"),
    ],
)
def test_a_bad_choice_is_one_line_before_anything_runs(
    program: Program, sandbox: Callable[..., Sandbox], files: list[str], arguments: list[str], said: str
) -> None:
    box = sandbox()
    ended = program("--universe", *files, *arguments, *DAY, box=box)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"polygon-async: error: {said}\n"
    assert box.requests == []
    assert not (program.directory / "output").exists()


def piped(program: Program, box: Sandbox, content: bytes, *arguments: str) -> tuple[int, str]:
    """Exit code and errors of the program with `content` on its standard input."""
    ended = subprocess.run(
        [sys.executable, "-m", "polygon_async", *arguments, *DAY],
        cwd=program.directory,
        env=program.environment(box, {}),
        input=content,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return ended.returncode, ended.stderr.decode()


def test_standard_input_is_a_universe_among_others(
    program: Program, sandbox: Callable[..., Sandbox], files: list[str]
) -> None:
    box = sandbox()
    code, err = piped(
        program, box, "\ufeffticker,note\nQQ,ä\nMSFT,\n".encode(), "--universe", "-", "a.csv", "--limit", "3"
    )
    assert code == 0, err
    found = names(program.directory / "output")
    assert found == ["BRK.B_historical.csv", "MSFT_historical.csv", "QQ_historical.csv"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ticker\nQQ\na/b\n", "standard input, row 3: 'a/b' is not a ticker"),
        (b"QQ\n", "standard input: the first row must have exactly one column `ticker`; it has only QQ"),
        (b"ticker\n\xff\n", "standard input is not UTF-8 text (byte 7)"),
    ],
)
def test_an_unusable_standard_input_is_told(
    program: Program, sandbox: Callable[..., Sandbox], content: bytes, said: str
) -> None:
    box = sandbox()
    code, err = piped(program, box, content, "--universe", "-")
    assert code == 2
    assert err.startswith(f"polygon-async: error: {said}")
    assert err.count("\n") == 1
    assert box.requests == []


def test_a_closed_standard_input_is_told(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    ended = program.in_shell("polygon-async --universe - <&-", box=sandbox())
    assert (ended.code, ended.err) == (2, "polygon-async: error: standard input is closed\n")


# From Python


async def test_a_download_from_python_takes_the_same(
    sandbox: Callable[..., Sandbox], files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox().environment.items():
        monkeypatch.setenv(name, value)
    day: dict[str, Any] = {"start": "2026-03-02", "end": "2026-03-02", "rate": "unlimited", "upload": False}

    async def done(**choice: Any) -> list[str]:
        summary = await download(**day, **choice)
        return sorted(outcome.unit.ticker.symbol for outcome in summary.done)

    assert await done(universe_file=[tmp_path / "a.csv", "b.csv"], match="A*", limit=2) == ["AAPL", "AMpB"]
    assert await done(universe_file=tmp_path / "a.csv", match=["MSFT", "BRK.?"]) == ["BRK.B", "MSFT"]
    with pytest.raises(ConfigError, match="limit=0: must be"):
        await done(universe_file="a.csv", limit=0)
    with pytest.raises(ConfigError, match="match='Z': none of 3 tickers matches"):
        await done(universe_file="a.csv", match="Z")


# Shards


def test_every_ticker_is_in_one_shard_and_always_the_same() -> None:
    names_of_all = [f"T{number}" for number in range(200)]
    parts = [symbols(tickers=names_of_all, shard=f"{part}/7") for part in range(1, 8)]
    assert sorted(itertools.chain(*parts)) == sorted(names_of_all)
    assert all(len(part) > 10 for part in parts)
    # In the order of the universe, whatever else is in it, and on every machine and Python.
    assert parts[2] == [name for name in names_of_all if name in parts[2]]
    assert symbols(tickers=parts[2][::-1], shard="3/7") == parts[2][::-1]
    known = {"AAPL": 5, "MSFT": 3, "BRK.B": 1, "X:BTCUSD": 1}
    found = {name: part for name in known for part in range(1, 6) if symbols(tickers=[name], shard=f"{part}/5")}
    assert found == known
    assert symbols(tickers=names_of_all, shard="1/1") == names_of_all


def test_shards_divide_what_match_and_limit_leave() -> None:
    names_of_all = [f"T{number}" for number in range(50)]
    flags = {"tickers": names_of_all, "match": ["T?", "T1*"], "limit": "12"}
    parts = [symbols(**flags, shard=f"{part}/2") for part in (1, 2)]
    assert sorted(itertools.chain(*parts)) == sorted(symbols(**flags))


@pytest.mark.parametrize("value", ["3", "0/3", "4/3", "a/b", "1/0", "1/3/5", "-1/3", "", "1/9999999999"])
def test_a_part_that_cannot_be(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^--shard '.*': must be K/N"):
        symbols(tickers=["AAPL"], shard=value)


def test_shards_of_a_job_array_make_the_whole_universe(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    tickers = ("AAPL", "MSFT", "QQ")
    for part in (1, 2, 3):
        directory = ("--output-dir", f"part-{part}")
        ended = program("--tickers", *tickers, *DAY, *directory, box=box, env={"POLYGON_SHARD": f"{part}/3"})
        assert ended.code == 0, ended.err
    found = [path.name for path in sorted(program.directory.glob("part-*/*.csv"))]
    assert sorted(found) == [f"{ticker}_historical.csv" for ticker in tickers]
    # An empty part is no failure, nor is one that has nothing left to do.
    empty = next(f"{part}/9" for part in range(1, 10) if not symbols(tickers=[*tickers], shard=f"{part}/9"))
    ended = program("--tickers", *tickers, *DAY, "--shard", empty, "--output-dir", "empty", box=box)
    assert (ended.code, ended.out.splitlines()[0][:22]) == (0, "0 of 0 tickers done, i")
    # Reading is not divided.
    assert program("--tickers", *tickers, *DAY, "--output-dir", "whole", box=box).code == 0
    read = ("read", "--tickers", *tickers, *DAY[:4], "--source", "local", "--output-dir", "whole", "--output", "-")
    lines = program(*read, box=box, env={"POLYGON_SHARD": "1/3"}).out.splitlines()
    assert {line.partition(",")[0] for line in lines} == {"ticker", *tickers}
