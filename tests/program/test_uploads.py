"""Objects already there, rights that are missing, a broken lzop, a full disk: through the whole program."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from conftest import csv_of, names
from door import Answered, Arrived, door, is_object_put, refusal
from stored import DAY, DESCRIPTION, LZOP, RANGE, Stored, at, decompressed, minutes_from, put, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program

    from polygon_async.sandbox import Sandbox
    from polygon_async.sandbox.s3 import EmbeddedS3

BROKEN_LZOPS = {
    "FAILS": ("echo 'lzop: no mood' >&2; exit 1", "failed with exit code 1 while compressing {}: lzop: no mood"),
    "KILLED": ("kill -9 $$", "was killed by signal 9 while compressing {}: no message"),
    "KILLEDLATE": ('"$LZOP" "$@"; kill -9 $$', "was killed by signal 9 while compressing {}: "),
    "RUBBISH": ('echo rubbish > "$3"', "failed with exit code 1 while testing {}: "),
    "CUT": ('"$LZOP" "$@"; truncate -s -1 "$3"', "failed with exit code 1 while testing {}: "),
    "NOTHING": ("exit 0", "did not write {}.lzo"),
    "EMPTY": (': > "$3"', "failed with exit code 1 while testing {}: "),
}
"""What goes wrong while a ticker of that name is compressed, and what the failure says."""


def object_of(box: Sandbox) -> Stored:
    """What a run is to store of the ticker, but for the minute in its name."""
    bars = box.market.days("QQ", DAY, DAY)
    csv = csv_of(bars).encode()
    return Stored(
        key="",
        tags=dict(DESCRIPTION.tags) | {"symbol": "QQ", "exchange": "unknown"},
        metadata={
            "bars": str(len(bars)),
            "first": str(bars[0].t),
            "last": str(bars[-1].t),
            "from": f"{DAY}",
            "to": f"{DAY}",
            "adjusted": "true",
            "csv-sha256": hashlib.sha256(csv).hexdigest(),
        },
        body=subprocess.run(["lzop", "-c"], input=csv, capture_output=True, check=True).stdout,
    )


def put_at_the_next_minutes(box: Sandbox, item: Stored) -> list[Stored]:
    """That object under the keys of this minute and those that a run of now may begin in."""
    copies = [at(item, moment) for moment in minutes_from(dt.datetime.now(dt.UTC), 5)]
    put(box, copies)
    return copies


def test_a_second_run_finds_its_own_objects_there(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    copies = put_at_the_next_minutes(box, object_of(box))
    ended = program("--tickers", "QQ", "--json", *RANGE, box=box)
    assert ended.code == 0, ended.err
    (done,) = ended.summary["done"]
    assert done["key"] in {copy.key for copy in copies}
    assert len(stored(box)) == len(copies)


def test_other_content_is_a_failure_until_force_replaces_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    item = object_of(box)
    other = dataclasses.replace(item, metadata=item.metadata | {"csv-sha256": "0ther"}, body=b"other")
    copies = put_at_the_next_minutes(box, other)
    ended = program("--tickers", "QQ", "--json", *RANGE, box=box)
    assert ended.code == 1
    (failed,) = ended.summary["failed"]
    match = re.fullmatch(rf"s3://{box.bucket}/(.*) exists with other content; --force replaces it", failed["error"])
    assert match
    assert match[1] in {copy.key for copy in copies}
    assert [found.body for found in stored(box)] == [b"other"] * len(copies)
    forced = program("--tickers", "QQ", "--json", "--force", *RANGE, box=box)
    assert forced.code == 0, forced.err
    (done,) = forced.summary["done"]
    (new,) = [found for found in stored(box) if found.body != b"other"]
    assert (new.key, done["existed"]) == (done["key"], False)
    assert new.metadata == item.metadata
    assert decompressed(new) == decompressed(item)


@pytest.mark.parametrize("flags", [[], ["--force"]], ids=["", "--force"])
def test_another_ranges_key_is_left_alone_and_the_next_free_minute_taken(
    flags: list[str], program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    item = object_of(box)
    copies = put_at_the_next_minutes(box, dataclasses.replace(item, metadata=item.metadata | {"to": "2026-03-31"}))
    ended = program("--tickers", "QQ", "--json", *flags, *RANGE, box=box)
    assert ended.code == 0, ended.err
    (new,) = [found for found in stored(box) if found.key not in {copy.key for copy in copies}]
    last = dt.datetime.strptime(copies[-1].key[-20:-8], "%Y%m%d%H%M").replace(tzinfo=dt.UTC)
    free = at(item, last + dt.timedelta(minutes=1))
    assert new.key == ended.summary["done"][0]["key"] == free.key
    assert new.tags == free.tags
    assert new.metadata == item.metadata
    assert {found.metadata["to"] for found in stored(box)} == {"2026-03-31", "2026-03-02"}


@contextlib.contextmanager
def user_who_may(store: EmbeddedS3, *actions: str) -> Iterator[dict[str, str | None]]:
    """The variables of a user of the store with so small a policy."""
    store._check_signatures(after=1000)
    with contextlib.closing(store._connect("iam", "anyone", "not checked now")) as iam:
        statement = {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": "*"}
        name = f"user-{'-'.join(actions)}"[:64]
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="little", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        store._check_signatures(after=0)
        yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_who_may_write_but_not_list_can_work(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    allowed = ("PutObject", "PutObjectTagging", "GetObject", "GetObjectTagging")
    with user_who_may(store, *allowed) as variables:
        ended = program("--tickers", "QQ", "--log-level", "debug", *RANGE, box=box, env=variables)
    assert ended.code == 0, ended.err
    assert f"the bucket {box.bucket} cannot be listed, which uploads do not need" in ended.err
    assert len(stored(box)) == 1


def test_who_may_not_write_is_told_which_rights_are_missing(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box = sandbox()
    with user_who_may(store, "ListBucket", "GetObject") as variables:
        ended = program("--tickers", "QQ", "AAPL", "MSFT", *RANGE, box=box, env=variables)
    assert ended.code == 2
    assert ended.error.startswith(f"polygon-async: error: writing s3://{box.bucket}/stocks/")
    assert ended.error.endswith("the policy must allow PutObject, PutObjectTagging, GetObject, GetObjectTagging")
    assert not list(program.directory.glob("output/*.lzo"))
    assert stored(box) == []


def test_a_broken_lzop_fails_its_ticker_and_leaves_nothing(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    command = program.directory / "bin" / "lzop"
    command.parent.mkdir()
    cases = "".join(f"*/{ticker}_*) {script};;\n" for ticker, (script, _) in BROKEN_LZOPS.items())
    real = f'LZOP={shlex.quote(LZOP)}\nif [ "$1" = -t ]; then exec "$LZOP" "$@"; fi'
    command.write_text(f'#!/bin/sh\n{real}\ncase "$*" in\n{cases}*) exec "$LZOP" "$@";;\nesac\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    ended = program("--tickers", *BROKEN_LZOPS, "QQ", "--json", *RANGE, box=box, env={"PATH": path})
    assert ended.code == 1
    told = {failure["ticker"]: failure["error"] for failure in ended.summary["failed"]}
    assert sorted(told) == sorted(BROKEN_LZOPS)
    for ticker, (_, said) in BROKEN_LZOPS.items():
        assert told[ticker].startswith(f"lzop {said.format(f'{ticker}_historical.csv')}"), ticker
        written = (program.directory / "output" / f"{ticker}_historical.csv").read_text()
        assert written == csv_of(box.market.days(ticker, DAY, DAY)), "the CSV is good, whatever lzop makes of it"
    assert [o.tags["symbol"] for o in stored(box)] == ["QQ"]
    left = {name for name in names(program.directory / "output") if not name.endswith(".csv")}
    assert left == set()


def test_what_stood_in_the_way_before_is_no_trouble(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box, output = sandbox(), program.directory / "output"
    output.mkdir()
    for name in ("QQ_historical.csv", "QQ_historical.csv.lzo", "QQ_2026-03-02_2026-03-02_adjusted.csv.part"):
        (output / name).write_bytes(b"rubbish" * 100_000)
    (output / "failed.csv").write_text("ticker,error\nQQ,old\n")
    (output / "no_data.csv").write_text("ticker,error\nQQ,old\n")
    ended = program("--tickers", "QQ", *RANGE, box=box, env={"LZOP": "--no-such-option"})
    assert ended.code == 0, ended.err
    assert names(output) == ["QQ_historical.csv"]
    assert decompressed(stored(box)[0]) == (output / "QQ_historical.csv").read_bytes()
    assert (output / "QQ_historical.csv").read_text() == csv_of(box.market.days("QQ", DAY, DAY))


@pytest.mark.parametrize("name", ["QQ_historical.csv", "QQ_historical.csv.lzo"])
def test_a_directory_in_the_way_of_one_file_fails_that_ticker_only(
    name: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox()
    (program.directory / "output" / name).mkdir(parents=True)
    ended = program("--tickers", "QQ", "AAPL", *RANGE, box=box)
    assert ended.code == 1, ended.err
    assert "QQ failed: " in ended.err
    assert [item.tags["symbol"] for item in stored(box)] == ["AAPL"]
    assert not list(program.directory.glob("output/*.part"))


def test_a_disk_that_takes_no_more_ends_the_run(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=300)
    flags = ["--tickers", "AAPL", "QQ", "--no-upload", "--json", *RANGE, "--to", "2026-03-05"]
    # In bash it counts in kB.
    ended = program.in_shell(f"ulimit -f 200; exec polygon-async {shlex.join(flags)}", box=box)
    assert ended.code == 2, ended.err
    assert ended.summary["error"].endswith("cannot be written (File too large)")
    assert "Traceback" not in ended.err
    assert not list(program.directory.glob("output/AAPL_historical*"))
    assert "AAPL" in (program.directory / "output" / "failed.csv").read_text()
    # What was written whole is gone on with where there is room again.
    again = program(*flags, box=box)
    assert again.code == 0, again.err
    for ticker in ("AAPL", "QQ"):
        written = (program.directory / "output" / f"{ticker}_historical.csv").read_text()
        assert written == csv_of(box.market.days(ticker, DAY, dt.date(2026, 3, 5)))
    assert not list(program.directory.glob("output/*.part"))


def test_credentials_that_expire_during_a_run_end_it(
    program: Program, sandbox: Callable[..., Sandbox], store: EmbeddedS3
) -> None:
    box, written = sandbox(), []

    def rule(asked: Arrived, forward: Callable[[], Answered]) -> Answered:
        if not is_object_put(asked):
            return forward()
        written.append(asked.path)
        return forward() if len(written) < 3 else refusal(400, "ExpiredToken")

    tickers = [f"T{number}" for number in range(8)]
    with door(store.endpoint, rule) as endpoint:
        arguments = ("--tickers", *tickers, "--concurrency", "1", *RANGE)
        ended = program(*arguments, box=box, env={"AWS_ENDPOINT_URL_S3": endpoint})
    assert ended.code == 2
    assert "the credentials have expired; renew them and start again (ExpiredToken: said by the door)" in ended.error
    assert ended.out.startswith("2 of 8 tickers done, 6 not finished, in ")
    output = program.directory / "output"
    rows = (output / "failed.csv").read_text().splitlines()
    assert rows[0] == "ticker,error"
    assert rows[1:] == [f"T{number},not finished: the run was stopped" for number in range(2, 8)]
    assert not [path for path in output.iterdir() if path.suffix in {".part", ".lzo"}]
    assert sorted(o.tags["symbol"] for o in stored(box)) == ["T0", "T1"]
