"""The tags exchange and currency: whose word counts, what it costs to ask, and what happens where nobody answers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

DAY = "2026-03-02"
ASKING = ("--from", DAY, "--to", DAY, "--rate", "unlimited", "--reference")


def tagged(box: Sandbox) -> dict[str, tuple[str, str]]:
    """Exchange and currency of every object in the sandbox's bucket, by its ticker."""
    found = {}
    with contextlib.closing(box.s3_client()) as s3:
        for entry in s3.list_objects_v2(Bucket=box.bucket).get("Contents", []):
            answer = s3.get_object_tagging(Bucket=box.bucket, Key=entry["Key"])
            tags = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
            found[tags["symbol"]] = (tags["exchange"], tags["currency"])
    return found


def looked_up(box: Sandbox) -> list[str]:
    """What was asked of the reference data, in order, since the last look."""
    asked = [request.ticker for request in box.requests if request.ticker.startswith("reference")]
    box.forget_requests()
    return asked


def test_the_reference_data_tells_what_the_universe_does_not_and_is_remembered(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    (program.directory / "u.csv").write_text(
        "ticker,Exchange,currency\nSPY,,\nMSFT,,EUR\nBABA,HKEX,\nAAPL,HOME,USD\nQQXX,,\nX:BTCUSD,,\nC:EURGBP,,\n"
    )
    command = ("--universe", "u.csv", *ASKING, "--exchange", "THEFLAG")
    ended = program(*command, box=box)
    assert ended.code == 0, ended.err
    expected = {
        "SPY": ("NYSE ARCA", "USD"),
        "MSFT": ("NASDAQ", "EUR"),
        "BABA": ("HKEX", "USD"),
        "AAPL": ("HOME", "USD"),
        "QQXX": ("THEFLAG", "USD"),
        "X:BTCUSD": ("THEFLAG", "USD"),
        "C:EURGBP": ("THEFLAG", "GBP"),
    }
    assert tagged(box) == expected
    assert sorted(looked_up(box)) == ["reference/BABA", "reference/MSFT", "reference/QQXX", "reference/SPY"]
    again = program(*command, "--force", box=box)
    assert (again.code, looked_up(box), tagged(box)) == (0, [], expected)


def test_for_many_tickers_the_list_is_walked(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=100)
    listed = ["A", "AA", "AAPL", "AMZN", "BABA", "BRK.B", "GLDM", "MSFT", "QQQ", "SPY"]
    unknown = [f"Q{letter}QX" for letter in "ABCDEF"]
    ended = program("--tickers", *listed, *unknown, *ASKING, box=box)
    assert ended.code == 0, ended.err
    told = tagged(box)
    assert {told[name][0] for name in listed} == {"NYSE", "NASDAQ", "NYSE ARCA"}
    asked = looked_up(box)
    assert asked[0] == "reference"
    assert sorted(asked[1:]) == sorted(f"reference/{name}" for name in unknown if name in told)
    assert all(told[name] == ("unknown", "USD") for name in unknown if name in told)


@pytest.mark.parametrize("trouble", ["reference/AAPL * status=403", "reference/AAPL * cut_gzip"])
def test_what_cannot_be_looked_up_fails_nobody(trouble: str, program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(trouble)
    ended = program("--tickers", "AAPL", *ASKING, "--patience", "0", box=box)
    assert ended.code == 0, ended.err
    assert tagged(box) == {"AAPL": ("unknown", "USD")}
    assert ended.err.count("no reference data for AAPL") == 1
    assert "Traceback" not in ended.err


def test_nothing_is_looked_up_for_what_is_not_uploaded_or_done(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    assert program("--tickers", "AAPL", *ASKING, "--no-upload", box=box).code == 0
    assert looked_up(box) == []
    assert program("--tickers", "AAPL", *ASKING, "--no-reference", box=box).code == 0
    assert (looked_up(box), tagged(box)) == ([], {"AAPL": ("unknown", "USD")})
    assert program("--tickers", "AAPL", *ASKING, box=box).code == 0
    assert (looked_up(box), len(box.requests)) == ([], 0)
