"""Many workers do what one machine does: the same objects and ledger, one budget, and nothing twice."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import clusters
import psutil
import pytest
from clusters import RANGE, asked, cluster, encrypted_by, most_within
from conftest import names
from stored import csvs, stored
from tls import Authority
from waiting import wait_until

from polygon_async.model.layout import LEDGER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from clusters import OnOneMachine
    from conftest import Program

    from polygon_async.sandbox import Sandbox

TICKERS = clusters.TICKERS[:24]


def bodies(box: Sandbox) -> dict[str, bytes]:
    """The objects' CSVs, by ticker; each ticker has one object."""
    found = csvs(box)
    assert len({symbol for symbol, _ in found}) == len(found)
    return dict(found)


def rows(directory: Path) -> list[tuple[Any, ...]]:
    """What the ledger says of the units, but for times."""
    with contextlib.closing(sqlite3.connect(directory / LEDGER)) as ledger:
        units = "SELECT ticker, unit.state, unit.bars, unit.size, unit.sha256, unit.days, upload.state, upload.sha256"
        return ledger.execute(f"{units} FROM unit LEFT JOIN upload ON unit = unit.id ORDER BY ticker").fetchall()


def test_workers_do_what_one_machine_does(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    troubles = ("T003 1 status=404", "T004 2 status=503 2x", "T005 1 plan403")
    here, there = sandbox(*troubles, page_size=300), sandbox(*troubles, page_size=300)
    command = ("--tickers", *TICKERS, "NODATA", *RANGE, "--rate", "unlimited", "--reference", "--json")
    local = program(*command, "--output-dir", "here", box=here)
    ended = program(*command, "--output-dir", "there", "--workers", "2", box=there)
    assert ended.code == local.code == 1, ended.err
    assert bodies(there) == bodies(here)
    assert rows(program.directory / "there") == rows(program.directory / "here")
    assert names(program.directory / "there") == names(program.directory / "here")
    for name in ("failed.csv", "no_data.csv"):
        found, expected = ((program.directory / where / name).read_text().splitlines() for where in ("there", "here"))
        assert [line.split(",")[0] for line in sorted(found)] == [line.split(",")[0] for line in sorted(expected)]
    told, alone = ended.summary, local.summary
    for name in ("tickers", "bars", "csv_bytes", "stored_bytes", "doubles", "exit_code"):
        assert told[name] == alone[name], name
    assert {each["ticker"] for each in told["failed"]} == {"T003", "T005"}
    assert len(told["workers"]) == 2
    report = json.loads((program.directory / "there" / "report.json").read_text())
    assert report["workers"] == told["workers"]
    assert told["workers"][0]["worker"] in (program.directory / "there" / "report.html").read_text()
    assert sum(each["uploads"] for each in told["workers"]) == 22
    # Each worker's requests, and the coordinator's own look-ups of tags.
    assert told["requests"] == len(there.requests) >= sum(each["requests"] for each in told["workers"]) > 24
    assert "T003 failed" in ended.err
    for secret in (there.api_key, there.environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in ended.out + ended.err
    # The same command has nothing left to do but what failed.
    there.set_troubles([])
    there.forget_requests()
    again = program(*command, "--output-dir", "there", "--workers", "2", box=there)
    assert (again.code, again.summary["tickers"]["earlier"]) == (0, 22)
    assert {request.ticker for request in there.requests} & {*TICKERS, "NODATA"} == {"T003", "T005"}


def test_what_takes_long_is_replied_to_later(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Each worker asks the coordinator for tags, which it looks up at the API meanwhile."""
    box, tickers = sandbox(latency=0.3), ("SPY", "MSFT", "BABA", "AAPL")
    command = ("--tickers", *tickers, *RANGE, "--rate", "unlimited", "--reference", "--workers", "2", "--json")
    ended = program(*command, box=box)
    assert ended.code == 0, ended.err
    assert "WARNING" not in ended.err, "a worker that got no reply is passed over, and its tickers are done again"
    asked_for = [request for request in box.requests if request.ticker.startswith("reference")]
    assert len(asked_for) == len(tickers)
    exchanges = {item.tags["symbol"]: item.tags["exchange"] for item in stored(box)}
    assert exchanges.keys() == {*tickers}
    assert "unknown" not in exchanges.values()


def test_all_workers_share_one_rate(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    tickers = [f"R{number:03}" for number in range(100)]
    flags = ("--rate", "40/s", "--no-upload", "--workers", "4", "--json")
    ended = program("--tickers", *tickers, *RANGE[:2], "--to", "2026-03-02", *flags, box=box)
    assert ended.code == 0, ended.err
    assert [bool(each["requests"]) for each in ended.summary["workers"]] == [True] * 4
    assert len(box.requests) == len(tickers)
    for seconds in (0.5, 1.0, 2.0):
        assert most_within(seconds, box) <= 40 * seconds + 1


def test_all_workers_work_at_the_same_time(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Before the first answer comes, each of them has asked for as much as it does at once."""
    box = sandbox(latency=2.0)
    flags = ("--rate", "unlimited", "--no-upload", "--workers", "4", "--concurrency", "2")
    with program.running("--tickers", *TICKERS, *RANGE, *flags, box=box) as process:
        wait_until(asked(box, 9), process)
        process.send_signal(signal.SIGINT)
        process.communicate()
    first, *others = sorted(request.time for request in box.requests)
    assert sum(time < first + 2.0 for time in others) == 7


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers of a local cluster: Python processes that Dask has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_worker_that_is_killed_costs_nothing(
    program: Program, sandbox: Callable[..., Sandbox], on_one_machine: OnOneMachine
) -> None:
    box = sandbox(page_size=300, latency=0.05)
    flags = ("--rate", "60/s", "--workers", "2", "--json")
    with program.running("--tickers", *TICKERS, *RANGE, *flags, box=box) as process:
        wait_until(asked(box, 40), process)
        children(process)[-1].kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["tickers"]["done"] == len(TICKERS)
    assert [each["lost"] for each in told["workers"]].count(True) == 1
    assert " is gone; its tickers are done by others" in err
    assert bodies(box) == dict(on_one_machine(TICKERS))


def test_a_coordinator_that_is_killed_resumes(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=300, latency=0.05)
    command = ("--tickers", *TICKERS, *RANGE, "--rate", "60/s", "--workers", "2", "--json")
    with program.running(*command, box=box) as process:
        wait_until(asked(box, 60), process)
        left = children(process)
        process.kill()
        process.communicate()
    # Without it, its workers end by themselves.
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive
    ended = program(*command, box=box)
    assert ended.code == 0, ended.err
    assert "resuming the run of" in ended.err
    assert ended.summary["tickers"]["done"] == len(TICKERS)
    assert sorted(bodies(box)) == sorted(TICKERS)


def test_an_interrupt_ends_all_of_it(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(page_size=300, latency=0.05)
    command = ("--tickers", *TICKERS, *RANGE, "--rate", "60/s", "--workers", "2", "--json")
    with program.running(*command, box=box) as process:
        wait_until(asked(box, 40), process)
        left = children(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert json.loads(out)["interrupted"] is True
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_an_existing_cluster_is_used_and_left_clean(
    protocol: str, program: Program, sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from distributed import Client, Security

    box, encryption, security = sandbox(), {}, Security()
    if protocol == "tls":
        encryption = encrypted_by(Authority(tmp_path_factory.mktemp("certificates")))
        own = encryption["DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT"]
        bundle = encryption["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"]
        security = Security(require_encryption=True, tls_ca_file=bundle, tls_client_cert=own, tls_client_key=own)
    with cluster(program.directory, box, encryption) as dask:
        dask.scheduler()
        dask.worker()
        address = dask.address
        assert address.startswith(f"{protocol}://")
        command = ("--tickers", *TICKERS[:4], *RANGE, "--rate", "unlimited", "--scheduler", address)
        ended = program(*command, "--json", box=box, env=encryption)
        assert ended.code == 0, ended.err
        assert len(ended.summary["workers"]) == 1
        with Client(address, timeout=10, security=security) as client:
            assert not client.run_on_scheduler(lambda dask_scheduler: dict(dask_scheduler.tasks))
            # No secret is anywhere in the scheduler.
            state = client.run_on_scheduler(lambda dask_scheduler: repr(vars(dask_scheduler)))
        assert box.api_key not in state
    assert sorted(bodies(box)) == sorted(TICKERS[:4])


def test_without_a_shared_directory_the_object_is_the_result(
    program: Program, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """The path means another directory for each process, as it would on another machine."""
    box, elsewhere = sandbox(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    own = ("--output-dir", "/proc/self/cwd/out")
    with cluster(elsewhere, box) as dask:
        dask.scheduler()
        dask.worker()
        command = ("--tickers", *TICKERS[:3], *RANGE, "--rate", "unlimited", "--scheduler", dask.address, *own)
        refused = program(*command, "--no-upload", box=box)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert "the workers do not share /proc/self/cwd/out, where --no-upload leaves the CSVs" in refused.error
        ended = program(*command, "--json", box=box)
        assert ended.code == 0, ended.err
        assert "the objects are the result, no CSV is kept" in ended.err
        again = program(*command, "--json", box=box)
        assert again.summary["tickers"]["earlier"] == 3
    assert sorted(bodies(box)) == sorted(TICKERS[:3])
    assert [done["csv"] for done in ended.summary["done"]] == [None] * 3
    assert names(program.directory / "out") == []
    assert not list(elsewhere.rglob("*.csv"))
    assert not list(elsewhere.rglob("*.lzo"))


def test_a_worker_without_a_key_is_named(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    with cluster(program.directory, box) as dask:
        dask.scheduler()
        dask.worker(without="POLYGON_API_KEY")
        ended = program("--tickers", "A", *RANGE, "--scheduler", dask.address, box=box)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith("polygon-async: error: worker tcp://127.0.0.1:")
    assert ": POLYGON_API_KEY is not set; " in ended.error
    assert not box.requests


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--engine", "dask"),
            "--engine dask needs --workers N, for processes on this machine, or --scheduler ADDRESS",
        ),
        (("--engine", "local", "--workers", "2"), "--scheduler and --workers need --engine dask"),
        (("--workers", "2", "--scheduler", "tcp://h:1"), "--scheduler names an existing cluster, --workers starts a"),
        (("--engine", "spark"), "--engine 'spark': must be local or dask"),
        (("--scheduler", "host:8786"), "must be an address such as tcp://host:8786"),
        (("--workers", "x"), "--workers 'x': must be a whole number from 1 to "),
        (("--scheduler", "tcp://127.0.0.1:9", "--no-upload"), "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_an_engine_is_one_line(
    program: Program, sandbox: Callable[..., Sandbox], flags: tuple[str, ...], said: str
) -> None:
    ended = program("--tickers", "A", *RANGE, *flags, box=sandbox(), timeout=100)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert said in ended.err


@pytest.mark.parametrize(
    ("variables", "address", "said"),
    [
        ({}, "tls://127.0.0.1:9", "check --scheduler, and Dask's settings for TLS"),
        (
            dict.fromkeys(("TLS__CA_FILE", "TLS__CLIENT__CERT", "TLS__CLIENT__KEY"), "/nowhere.pem"),
            "tls://127.0.0.1:9",
            "No such file or directory); check --scheduler, and Dask's",
        ),
        ({"REQUIRE_ENCRYPTION": "true"}, "tcp://127.0.0.1:9", "and Dask's settings for TLS (DASK_DISTRIBUTED__COMM__"),
    ],
)
def test_a_scheduler_that_wants_certificates_is_one_line(
    variables: dict[str, str], address: str, said: str, program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    env = {f"DASK_DISTRIBUTED__COMM__{name}": value for name, value in variables.items()}
    box = sandbox()
    ended = program("--tickers", "A", *RANGE, "--scheduler", address, "--no-upload", box=box, env=env)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert f"no Dask scheduler answers at {address} (" in ended.err
    assert said in ended.err


def test_a_configuration_that_dask_cannot_read_is_one_line(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    broken = program.directory / "dask.yaml"
    broken.write_text("distributed: [\n")
    env = {"DASK_CONFIG": str(broken)}
    ended = program("--tickers", "A", *RANGE, "--workers", "1", box=sandbox(), env=env)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert "Dask cannot read its own configuration: " in ended.error
