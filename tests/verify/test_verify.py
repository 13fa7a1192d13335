"""Whatever happens to objects after their upload is found by `verify`, and mended by `verify --repair`."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import dataclasses
import datetime as dt
import hashlib
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from conftest import csv_of
from door import Answered, Arrived, door
from stored import LZOP, Stored, decompressed, put, stored

from polygon_async.bars.check import CsvCheck
from polygon_async.errors import CompressionFailed
from polygon_async.model.layout import parse_key, symbol_of
from polygon_async.store.lzop import decompress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from conftest import Ended, Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

RANGE = ("--from", "2026-03-02", "--to", "2026-03-02", "--rate", "unlimited")


def download(program: Program, box: Sandbox, *tickers: str) -> dict[str, Stored]:
    """Download them; their objects, by ticker."""
    ended = program("--tickers", *tickers, *RANGE, box=box)
    assert ended.code == 0, ended.err
    return {item.tags["symbol"]: item for item in stored(box)}


def kinds(ended: Ended, under: str = "findings") -> dict[str, set[str]]:
    """What was found, by ticker."""
    found: dict[str, set[str]] = {}
    for finding in ended.summary[under]:
        found.setdefault(finding["ticker"], set()).add(finding["kind"])
    return found


def lzo(content: bytes) -> bytes:
    """The content as lzop compresses it."""
    return subprocess.run(["lzop", "-c"], input=content, capture_output=True, check=True).stdout


@contextlib.contextmanager
def s3_of(box: Sandbox) -> Iterator[Any]:
    """A client of the sandbox's store, to do harm with."""
    with contextlib.closing(box.s3_client()) as s3:
        yield s3


def remove(box: Sandbox, item: Stored) -> None:
    """Take an object away."""
    with s3_of(box) as s3:
        s3.delete_object(Bucket=box.bucket, Key=item.key)


def untag(box: Sandbox, item: Stored) -> None:
    """Lose an object's tags."""
    with s3_of(box) as s3:
        s3.delete_object_tagging(Bucket=box.bucket, Key=item.key)


def tagged(item: Stored, **tags: str) -> Stored:
    """The object with other tags."""
    return dataclasses.replace(item, tags=item.tags | tags)


def said(item: Stored, **metadata: str) -> Stored:
    """The object with other metadata."""
    return dataclasses.replace(item, metadata=item.metadata | {k.replace("_", "-"): v for k, v in metadata.items()})


def holding(item: Stored, content: bytes) -> Stored:
    """The object with another CSV inside."""
    return dataclasses.replace(item, body=lzo(content))


def test_what_is_as_it_was_is_all_right(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    items = download(program, box, "QQ", "X:BTCUSD")
    (program.directory / "output" / "verify.csv").write_text("of an earlier verification")
    ended = program("verify", box=box)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"2 objects in s3://{box.bucket}/, all as they should be, in ")
    assert not (program.directory / "output" / "verify.csv").exists()
    size = sum(len(item.body) for item in items.values())
    ended = program("verify", "--deep", "--json", "--tickers", "X:BTCUSD", box=box)
    assert ended.code == 0
    assert ended.summary["objects"]["checked"] == 1
    assert ended.summary["bytes_read"] == ended.summary["stored_bytes"] == len(items["X:BTCUSD"].body)
    ended = program("verify", "--deep", "--json", "--prefix", "", "--output-dir", "elsewhere", box=box)
    assert (ended.code, ended.summary["findings"], ended.summary["bytes_read"]) == (0, [], size)
    assert not (program.directory / "elsewhere").exists()


def test_every_loss_is_found_and_mended(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """GONE from its CSV, FETCH from the API, all others under the key that they had."""
    box = sandbox()
    names = ("GONE", "FETCH", "CUT", "OTHER", "WORDS", "WIPED", "TAG", "TAGS", "FINE")
    items = download(program, box, *names)
    before = stored(box)
    remove(box, items["GONE"])
    remove(box, items["FETCH"])
    (program.directory / "output" / "FETCH_historical.csv").unlink()
    put(box, [dataclasses.replace(items["CUT"], body=items["CUT"].body[:-9])])
    put(box, [dataclasses.replace(items["OTHER"], body=items["OTHER"].body[::-1])])
    put(box, [said(items["WORDS"], bars="7"), dataclasses.replace(items["WIPED"], metadata={})])
    put(box, [tagged(items["TAG"], exchange="XNAS", mine="own")])
    untag(box, items["TAGS"])
    wrong = {
        "GONE": {"missing"},
        "FETCH": {"missing"},
        "CUT": {"size"},
        "OTHER": {"checksum"},
        "WORDS": {"metadata"},
        "WIPED": {"metadata"},
        "TAG": {"tags"},
        "TAGS": {"tags"},
    }
    ended = program("verify", "--json", box=box)
    assert (ended.code, kinds(ended)) == (1, wrong), ended.err
    with (program.directory / "output" / "verify.csv").open() as file:
        rows = {row["ticker"]: row for row in csv.DictReader(file)}
    assert rows.keys() == wrong.keys()
    assert (rows["GONE"]["error"], rows["GONE"]["from"]) == ("the object is missing", "2026-03-02")
    text = program("verify", box=box)
    key = items["TAG"].key
    line = f"TAG  {key}: its tags are wrong: exchange is 'XNAS', expected 'unknown'; --repair restores them"
    assert line in text.out.splitlines()
    assert "the object is missing; --repair uploads it again" in text.out
    again = ("--universe", "output/verify.csv", *RANGE, "--output-dir", "again", "--no-upload")
    assert program(*again, box=box).code == 0, "the list is a universe"

    ended = program("verify", "--repair", "--json", box=box)
    assert (ended.code, kinds(ended, "repaired")) == (0, wrong), ended.err
    assert ended.summary["findings"] == []
    assert not (program.directory / "output" / "verify.csv").exists()
    mine = [tagged(item, mine="own") if item.key == key else item for item in before]
    assert stored(box) == mine, "byte for byte, and the owner's own tag stays"
    assert program("verify", "--deep", box=box).code == 0
    status = program("status", "--json").summary
    assert status["units"]["uploaded"] == len(names)


def changed(rows: list[bytes]) -> dict[str, list[bytes]]:
    """A CSV's lines, spoilt in every way that is looked for."""
    before = rows[1].replace(rows[1].split(b",")[6], b"1", 1)
    return {
        "HEADER": [b"o,h,l,c,v,vw,t,n,otc", *rows[1:]],
        "BARS": [*rows[:5], *rows[6:]],
        "ENDS": rows[:-1],
        "ORDER": [*rows[:5], rows[6], rows[5], *rows[7:]],
        "TWICE": [*rows[:5], rows[5], *rows[5:]],
        "RANGE": [rows[0], before, *rows[1:]],
        "ROWS": [*rows[:5], b"no bar", *rows[5:]],
    }


INSIDE = {
    "HEADER": {"header"},
    "BARS": {"bars"},
    "ENDS": {"bars", "ends"},
    "ORDER": {"order"},
    "TWICE": {"bars", "order"},
    "RANGE": {"bars", "ends", "range"},
    "ROWS": {"bars", "rows"},
}


def test_what_is_wrong_inside_is_found_by_the_deep_look(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """By the ledger, and without it even where the digest in the metadata is that of the wrong CSV."""
    box = sandbox()
    names = [*INSIDE, "CUT", "TAIL"]
    items = download(program, box, *names)
    for name in INSIDE:
        lines = changed(decompressed(items[name]).removesuffix(b"\n").split(b"\n"))[name]
        content = b"".join(line + b"\n" for line in lines)
        put(box, [said(holding(items[name], content), csv_sha256=hashlib.sha256(content).hexdigest())])
    put(box, [dataclasses.replace(items["CUT"], body=items["CUT"].body[:-2000])])
    unended = decompressed(items["TAIL"])[:-1]
    put(box, [said(holding(items["TAIL"], unended), csv_sha256=hashlib.sha256(unended).hexdigest())])
    inside = {**INSIDE, "CUT": {"lzop"}, "TAIL": {"bars", "ends", "rows"}}
    assert program("verify", "--prefix", "", box=box).code == 0, "from outside nothing is to be seen"
    ended = program("verify", "--prefix", "stocks/", "--deep", "--json", box=box)
    assert (ended.code, kinds(ended)) == (1, inside), ended.err
    ended = program("verify", "--deep", "--json", box=box)
    assert ended.code == 1
    outside = {"size", "checksum", "metadata"}
    assert {name: found - outside for name, found in kinds(ended).items()} == {
        name: found | ({"sha256"} if name != "CUT" else set()) for name, found in inside.items()
    }
    assert program("verify", "--deep", "--repair", box=box).code == 0
    assert {item.tags["symbol"]: item for item in stored(box)} == items


def test_from_the_bucket_alone_what_does_not_fit_together_is_found(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    names = ("FINE", "LESS", "DAYS", "COUNT", "TAGS", "SYMBOL", "X:BTCUSD")
    items = download(program, box, *names)
    with s3_of(box) as s3:
        s3.put_object(Bucket=box.bucket, Key="stocks/A.csv.lzo", Body=b"")
        s3.put_object(Bucket=box.bucket, Key="stocks/readme.txt", Body=b"")
    less = {name: value for name, value in items["LESS"].metadata.items() if name != "csv-sha256"}
    put(box, [dataclasses.replace(items["LESS"], metadata=less), said(items["DAYS"], to="2026-03-01")])
    put(box, [said(items["COUNT"], bars="100000"), tagged(items["SYMBOL"], symbol="ELSE")])
    untag(box, items["TAGS"])
    untag(box, items["X:BTCUSD"])
    wrong = {
        "": {"key"},
        "LESS": {"metadata"},
        "DAYS": {"metadata"},
        "COUNT": {"metadata"},
        "TAGS": {"tags"},
        "SYMBOL": {"tags"},
        "X:BTCUSD": {"tags"},
    }
    ended = program("verify", "--prefix", "", "--json", "--output-dir", "new", box=box)
    assert (ended.code, kinds(ended)) == (1, wrong), ended.err
    assert program("verify", "--prefix", "stocks/FINE", box=box).code == 0
    nothing = program("verify", "--prefix", "stocks/FINER/", box=box)
    assert nothing.code == 1
    assert nothing.out == f"no object's key starts with s3://{box.bucket}/stocks/FINER/; check --prefix and --bucket\n"
    ended = program("verify", "--prefix", "crypto/", "--output-dir", "new", box=box)
    line = "polygon-async --universe new/verify.csv --from 2026-03-02 --to 2026-03-02 --output-dir new"
    assert ended.out.splitlines()[-1] == f"  again     {line}"
    again = program.in_shell(f"{line} --rate unlimited --no-reference", box=box)
    assert again.code == 0, again.err
    assert "X:BTCUSD" in again.err


def test_another_units_object_is_never_replaced(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    item = download(program, box, "QQ")["QQ"]
    other = said(item, to="2026-03-09")
    put(box, [other])
    ended = program("verify", box=box)
    assert ended.code == 1
    assert "another download's object is there: to is '2026-03-09', expected '2026-03-02'" in ended.out
    assert program("verify", "--repair", box=box).code == 0
    first, second = stored(box)
    assert first == other
    assert (second.body, second.metadata) == (item.body, item.metadata)
    assert program("verify", "--deep", box=box).code == 0
    assert stored(box) == [first, second]


def test_a_repair_that_breaks_off_leaves_a_true_ledger_and_the_next_one_goes_on(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    items = download(program, box, "QQ", "AAPL")
    remove(box, items["QQ"])
    (program.directory / "output" / "QQ_historical.csv").unlink()
    ended = program("verify", "--repair", box=box, env={"POLYGON_API_KEY": None})
    assert ended.code == 1
    assert "QQ: must be fetched again, which needs POLYGON_API_KEY" in ended.err
    assert "QQ: verify: the object is missing" in program("status").out
    put(box, [items["QQ"]])
    assert program("verify", "--repair", box=box).code == 0, "it is there again"
    assert program("status", "--json").summary["units"]["uploaded"] == 2
    remove(box, items["QQ"])
    ended = program("verify", "--repair", box=box, env={"POLYGON_API_KEY": "not-the-key"})
    assert (ended.code, ended.out) == (2, "")
    assert "401" in ended.error
    ended = program("verify", "--json", box=box)
    assert (ended.code, kinds(ended)) == (1, {"QQ": {"missing"}})
    ended = program("verify", "--repair", "--no-keep-csv", box=box)
    assert ended.code == 0, ended.err
    assert {item.tags["symbol"]: item for item in stored(box)} == items
    assert not (program.directory / "output" / "QQ_historical.csv").exists()


CANNOT: list[tuple[list[str], dict[str, str], str]] = [
    (["--output-dir", "nowhere"], {}, "nowhere/ledger.sqlite does not exist; "),
    (["--tickers", "QQ", "ELSE"], {}, "--tickers: the ledger does not know ELSE"),
    (["--tickers", "QQ", "--prefix", ""], {}, "--tickers chooses from the ledger, so it cannot be combined with --"),
    (["--repair", "--prefix", ""], {}, "--repair needs the ledger, so it cannot be combined with --prefix; "),
    ([], {"S3_BUCKET": "no-such-bucket-of-ours"}, "the bucket does not exist"),
    (["--prefix", ""], {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret does not match the access key"),
]


def test_what_cannot_be_verified_is_one_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    download(program, box, "QQ")
    for arguments, env, words in CANNOT:
        ended = program("verify", *arguments, box=box, env=env)
        assert (ended.code, ended.out) == (2, ""), words
        assert words in ended.err
        assert ended.err.count("\n") == 1


def test_other_buckets_and_what_may_not_be_looked_at(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    """Who may not list is told 403 where there is nothing: that is this object's loss, and not the run's end."""
    box = sandbox()
    items = download(program, box, "QQ", "AAPL")
    item, other = items["QQ"], items["AAPL"]
    another = store.create_bucket()
    ended = program("verify", "--json", box=box, env={"S3_BUCKET": another})
    assert (ended.code, ended.summary["objects"]["checked"], ended.summary["objects"]["elsewhere"]) == (1, 0, 2)
    text = program("verify", box=box, env={"S3_BUCKET": another}).out
    assert f"nothing was checked in s3://{another}/: 2 objects in other buckets or stores; check --bucket" in text

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if asked.method == "HEAD" and item.key in asked.path:
            return Answered(403, {"Content-Length": "0"}, b"")
        answered = forward()
        if asked.method == "GET" and other.key in asked.path and "tagging" not in asked.path:
            return Answered(200, answered.headers, answered.body[:-10])
        return answered

    with door(store.endpoint, rule) as address:
        ended = program("verify", "--prefix", "", "--deep", "--json", box=box, env={"AWS_ENDPOINT_URL_S3": address})
    assert (ended.code, kinds(ended)) == (1, {"QQ": {"missing"}, "AAPL": {"unreadable"}}), ended.err
    told = {finding["ticker"]: finding["finding"] for finding in ended.summary["findings"]}
    assert "it is missing, or access is denied (403" in told["QQ"]
    assert told["AAPL"].startswith(f"reading s3://{box.bucket}/{other.key} failed (")


async def test_a_deep_look_that_is_given_up_ends_its_lzop(tmp_path: Path) -> None:
    """In the middle of its output, which nobody takes any more."""
    large, taken = lzo(b"0" * 2**26), asyncio.Event()
    command, told = tmp_path / "lzop", tmp_path / "process"
    command.write_text(f'#!/bin/sh\necho $$ > {told}\nexec {LZOP} "$@"\n')
    command.chmod(0o755)

    async def chunks() -> AsyncIterator[bytes]:
        yield large

    async def take(block: bytes) -> None:
        taken.set()
        await asyncio.Event().wait()

    looking = asyncio.create_task(decompress(str(command), chunks(), take))
    await taken.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(looking, 30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_what_lzop_does_not_take_is_not_read_to_its_end() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"no lzop file" * 10_000

    async def take(block: bytes) -> None:
        """Nothing comes."""

    with pytest.raises(CompressionFailed, match="not a lzop file"):
        await asyncio.wait_for(decompress(LZOP, chunks(), take), 30)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_csv_is_checked_alike_in_whatever_blocks_it_comes(size: int) -> None:
    header = b"open,high,low,close,volume,vwap,timestamp,transactions,otc\n"
    content = header + b"".join(b"1,2,0.5,1,9,,%d,,\n" % moment for moment in (60_000, 120_000, 120_000, 60_000))
    check = CsvCheck()
    for start in range(0, len(content), size):
        check.feed(content[start : start + size])
    check.end()
    assert (check.bars, check.first, check.last, check.earliest, check.latest) == (4, 60_000, 60_000, 60_000, 120_000)
    assert (check.is_headed, check.broken, check.disorder) == (True, None, 4)
    assert check.sha256 == hashlib.sha256(content).hexdigest()


def test_a_line_without_an_end_is_not_kept_in_memory() -> None:
    check = CsvCheck()
    for _ in range(100):
        check.feed(b"x" * 2**20)
    assert check.broken == 2
    assert len(check._rest) <= 10_000


@pytest.mark.parametrize(
    ("key", "symbol"),
    [
        ("stocks/BRK.B/polygon/2026/01/31/12/BRK.B_polygon_202601311200.csv.lzo", "BRK.B"),
        ("crypto/X-ETH-USD/polygon/2026/01/31/12/X-ETH-USD_polygon_202601311200.csv.lzo", "X:ETH-USD"),
        ("stocks/A/polygon/2026/02/31/12/A_polygon_202602311200.csv.lzo", None),
        ("stocks/A/polygon/2026/01/31/12/B_polygon_202601311200.csv.lzo", None),
        ("stocks/A/polygon/2026/01/31/12/A_polygon_202601311300.csv.lzo", None),
        ("stocks/../polygon/2026/01/31/12/.._polygon_202601311200.csv.lzo", None),
    ],
)
def test_a_key_is_taken_apart_or_refused(key: str, symbol: str | None) -> None:
    parts = parse_key(key)
    assert (parts and symbol_of(parts)) == symbol


def test_an_object_gets_its_own_days_of_a_longer_history(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """The range was fetched again since, with more bars, and the file under the ticker's name has gone on."""
    box = sandbox("QQ * late=2026-03-03")
    first, last = dt.date(2026, 3, 2), dt.date(2026, 3, 3)
    flags = ("--tickers", "QQ", "--rate", "unlimited")
    range_ = ("--from", f"{first}", "--to", f"{last}")
    assert program(*flags, *range_, box=box).code == 0
    box.set_troubles([])
    # As if it had been fetched on its last day.
    program.ledger("UPDATE unit SET day = '2026-03-03'")
    assert program(*flags, *range_, "--no-upload", box=box).code == 0
    assert program(*flags, "--no-upload", "--from", "2026-03-04", "--to", "2026-03-05", box=box).code == 0
    (item,) = stored(box)
    remove(box, item)
    ended = program("verify", "--repair", box=box)
    assert ended.code == 0, ended.err
    (item,) = stored(box)
    assert decompressed(item).decode() == csv_of(box.market.days("QQ", first, last))
    assert item.metadata["bars"] == str(len(box.market.days("QQ", first, last)))
    assert program("verify", "--deep", box=box).code == 0
