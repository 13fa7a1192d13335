"""Pages of the list of splits, and what is kept of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from polygon_async.errors import PolygonAsyncError, Retryable, TickerError, Untrue
from polygon_async.ledger.database import connected
from polygon_async.ledger.splits import ALL, keep_splits, known_splits
from polygon_async.model.counters import Counters
from polygon_async.model.splits import Adjustment, Split, adjustments, once_each
from polygon_async.polygon.session import open_polygon
from polygon_async.polygon.splits import SplitQuery, read_splits, splits_of
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import settings_from
from polygon_async.system.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox

SINCE, UNTIL = dt.date(2026, 1, 1), dt.date(2026, 6, 30)
ASKED = SplitQuery(since=SINCE, until=UNTIL)
ROW = {"ticker": "A", "execution_date": "2026-03-02", "split_from": 1, "split_to": 2}


def page(*rows: Any, **more: Any) -> bytes:
    return json.dumps({"results": rows, "status": "OK", "request_id": "r1", **more}).encode()


def test_a_page_is_read() -> None:
    found = read_splits(
        page(ROW, {**ROW, "split_to": 1.5}, next_url="https://x/v3/reference/splits?cursor=c"), asked=ASKED
    )
    assert found.rows == [Split("A", dt.date(2026, 3, 2), "1", "2"), Split("A", dt.date(2026, 3, 2), "1", "1.5")]
    assert found.next_url == "https://x/v3/reference/splits?cursor=c"
    assert read_splits(page(), asked=ASKED).rows == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (page({**ROW, "execution_date": "2026-07-01"}), Untrue),
        (page({**ROW, "ticker": 7}), TickerError),
        (b'{"status":"OK"}', Retryable),
        (b"[]", PolygonAsyncError),
        (b"", Retryable),
    ],
)
def test_what_cannot_be_the_answer_is_none(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_splits(body, asked=ASKED)


@pytest.mark.parametrize(
    "wrong", [{"split_to": 0}, {"split_to": None}, {"split_from": "x"}, {"execution_date": "soon"}]
)
def test_a_row_that_cannot_be_a_split_fails_its_own_ticker(wrong: dict[str, Any]) -> None:
    found = read_splits(page({**ROW, **wrong}, {**ROW, "ticker": "B"}), asked=ASKED)
    of_a, of_b = ([split for split in found.rows if split.ticker == name] for name in "AB")
    assert once_each(of_b) == ([Split("B", dt.date(2026, 3, 2), "1", "2")], 0)
    with pytest.raises(TickerError, match="an impossible split"):
        once_each(of_a)


def test_ratios_multiply_up_to_a_day() -> None:
    days = [dt.date(2026, 1, 5), dt.date(2026, 2, 2), dt.date(2026, 3, 2)]
    splits = [Split("A", days[0], "1", "4"), Split("A", days[1], "10", "1"), Split("A", days[2], "2", "3")]
    assert [float(each.ratio) for each in adjustments(splits, as_of=days[2])] == pytest.approx([0.6, 0.15, 1.5])
    assert adjustments(splits, as_of=days[0]) == [Adjustment(days[0], splits[0].ratio)]
    assert adjustments(splits, as_of=days[0] - dt.timedelta(days=1)) == []


def test_what_was_asked_is_known_and_what_goes_on_joins_it(tmp_path: Path) -> None:
    split = Split("A", dt.date(2026, 3, 2), "1", "2")

    def known(since: dt.date, until: dt.date, *, asked_since: float = 0) -> bool:
        found = known_splits(connection, ["A"], source="s", since=since, until=until, asked_since=asked_since)
        assert list(found.splits.get("A", ())) == ([split] if since <= split.day <= until else [])
        return "A" in found.known

    def day(month: int, number: int = 1) -> dt.date:
        return dt.date(2026, month, number)

    with connected(tmp_path) as connection:
        keep_splits(connection, [split], asked=ALL, source="s", since=day(2), until=day(4))
        assert known(day(2), day(4))
        assert known(day(3), day(3, 5))
        assert not known(day(1), day(4))
        assert not known(day(2), day(5))
        assert not known(day(2), day(4), asked_since=float("inf"))
        # It goes on, and goes back as far as before.
        keep_splits(connection, [], asked=ALL, source="s", since=day(3, 20), until=day(6))
        assert known(day(2), day(6))
        # What does not touch it says nothing of the days between.
        keep_splits(connection, [], asked=ALL, source="s", since=day(8), until=day(9))
        assert not known(day(2), day(9))
        assert known(day(8), day(9))
        # A split that is not listed any more is forgotten.
        keep_splits(connection, [], asked="A", source="s", since=day(2), until=day(4))
        found = known_splits(connection, ["A"], source="s", since=day(2), until=day(4), asked_since=0)
        assert dict(found.splits) == {}
        assert isinstance(connection, sqlite3.Connection)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as plain:
        assert plain.execute("SELECT count(*) FROM split_query").fetchone() == (2,)


@pytest.mark.parametrize(
    ("troubles", "said"),
    [
        ((), ""),
        (("splits 2 empty 1x", "splits 3 status=503 1x"), ""),
        (("splits 2 empty",), "was empty twice, and a next_url promised more"),
        (("splits 3 next_back",), "has a next_url but no new split"),
    ],
)
async def test_all_pages_are_asked_for(troubles: tuple[str, ...], said: str, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(*troubles, page_size=2)
    symbols = [f"SPLIT{letter}" for letter in "ABCDEFG"]
    for symbol in symbols:
        box.market.splits.of(symbol)
    settings = settings_from({"rate": "unlimited", "processes": "0", "patience": "5"}, Environment(box.environment, {}))
    asked = SplitQuery(since=dt.date(2025, 6, 1), until=dt.date(2025, 6, 30))
    async with Threads(2) as offload, open_polygon(settings.access, offload=offload, counters=Counters()) as client:
        if said:
            with pytest.raises(TickerError, match=said):
                await splits_of(asked, client=client)
            return
        found = await splits_of(asked, client=client)
    assert set(symbols) <= {split.ticker for split in found}
    assert len(found) == len(set(found))
    assert {request.auth for request in box.requests} == {"bearer"}
