"""Sessions: which days owe bars, which have none, and that what was learned survives kills and old ledgers."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polygon_async.bars.page import Border, Page
from polygon_async.model.days import (
    by_month,
    dates_of,
    days_between,
    days_of,
    ends_of,
    from_text,
    iso_dates_of,
    plausible_day,
    set_of,
    since,
    to_text,
    up_to,
)
from polygon_async.model.exchange_calendar import trading_days
from polygon_async.model.sessions import Coverage, Sessions, coverage, sessions
from polygon_async.model.tickers import AssetType
from polygon_async.model.units import CsvFile, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from polygon_async.sandbox import Sandbox

D = dt.date


def a_set(*days: dt.date) -> int:
    """These days."""
    return set_of(days)


DAYS = st.dates(D(1970, 1, 1), D(2199, 12, 31))


@settings(deadline=None)
@given(st.sets(DAYS, max_size=40))
def test_a_set_of_days_is_kept_as_it_is(days: set[dt.date]) -> None:
    found = a_set(*days)
    assert found == sum(days_between(day, day) for day in days)
    assert list(dates_of(found)) == sorted(days)
    assert iso_dates_of(found) == [day.isoformat() for day in sorted(days)]
    assert ends_of(found) == ((min(days), max(days)) if days else None)
    assert by_month(found) == Counter(f"{day:%Y-%m}" for day in days)
    assert from_text(to_text(found)) == found
    assert from_text(to_text(None)) is None


@settings(deadline=None)
@given(st.sets(DAYS, max_size=40), st.dates())
def test_a_set_of_days_is_cut_at_any_day(days: set[dt.date], border: dt.date) -> None:
    found = a_set(*days)
    assert since(found, border) == a_set(*(day for day in days if day >= border))
    assert up_to(found, border) == a_set(*(day for day in days if day <= border))


@pytest.mark.parametrize(
    ("moment", "market", "day"),
    [
        ("2026-01-02T09:00", AssetType.STOCKS, D(2026, 1, 2)),
        ("2026-01-03T00:59", AssetType.STOCKS, D(2026, 1, 2)),
        ("2026-07-02T08:00", AssetType.OPTIONS, D(2026, 7, 2)),
        ("2026-07-02T23:59", AssetType.INDICES, D(2026, 7, 2)),
        ("2026-07-03T00:00", AssetType.CRYPTO, D(2026, 7, 3)),
        ("2026-07-03T23:59", AssetType.FOREX, D(2026, 7, 3)),
    ],
)
def test_a_bar_is_of_its_markets_day(moment: str, market: AssetType, day: dt.date) -> None:
    stamp = int(dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC).timestamp() * 1000)
    assert list(dates_of(days_of(np.array([stamp, stamp + 1]), market))) == [day]
    assert days_of(np.array([], dtype=np.int64), market) == 0


def test_what_has_sets_of_days_can_be_printed() -> None:
    """Python refuses to spell out a number of so many digits."""
    expected = sessions(AssetType.STOCKS, D(2026, 1, 1), D(2026, 11, 30))
    assert repr(expected) == "Sessions(229 days, 1 of them half)"
    assert repr(coverage(expected, a_set(D(2026, 1, 2), D(2026, 11, 30)))).endswith("before=0, after=0)")
    csv = CsvFile(path=Path("A.csv"), bars=1, first=0, last=0, duplicates=0, size=1, sha256="", days=expected.days)
    progress = Progress(size=1, crc=0, bars=1, first=0, last=0, duplicates=0, resume_at=None, days=expected.days)
    page = Page(
        rows=b"", bars=0, first=None, border=Border(), days=expected.days, duplicates=0, next_url=None, request_id=None
    )
    assert all("days" not in repr(each) for each in (csv, progress, page))
    assert repr(Border(last=1, tail=b"1,2\n" * 1000)) == "Border(last=1)"


def test_hundreds_of_missing_days_take_little_room() -> None:
    first, last = D(2024, 11, 26), D(2026, 11, 24)
    found = coverage(sessions(AssetType.STOCKS, first, last), a_set(first, last))
    assert found.missing.bit_count() > 490
    assert len(found.as_text()) < 350


def test_each_market_has_its_own_sessions() -> None:
    first, last = D(2025, 11, 27), D(2025, 11, 30)
    stocks = sessions(AssetType.STOCKS, first, last)
    assert list(dates_of(stocks.days)) == [D(2025, 11, 28)], "Thanksgiving and a weekend"
    assert stocks.half_days == stocks.days, "the day after is a half one"
    assert sessions(AssetType.CRYPTO, first, last) == Sessions(days_between(first, last), 0)
    assert list(dates_of(sessions(AssetType.FOREX, first, last).days)) == [first, D(2025, 11, 28)]
    assert sessions(AssetType.STOCKS, D(2025, 11, 29), last).days == 0
    assert sessions(AssetType.INDICES, D(1999, 12, 31), D(2000, 1, 2)).days == a_set(D(1999, 12, 31))
    assert sessions(AssetType.STOCKS, D(1970, 1, 1), D(1970, 1, 4)).days == a_set(D(1970, 1, 2))
    assert sessions(AssetType.STOCKS, last, first) == Sessions(0, 0)


def test_the_calendar_is_kept_and_made_again_where_it_cannot_be_used(
    calendar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = D(2026, 3, 2)
    kept = Path(os.environ["XDG_CACHE_HOME"], "polygon_async", calendar.name)
    assert trading_days(day, day) == (a_set(day), 0)
    whole = json.loads(kept.read_text())
    # What is kept is what counts: the library was not asked.
    kept.write_text(json.dumps({**whole, "half_days": whole["days"]}))
    assert trading_days(day, day) == (a_set(day), a_set(day))
    for spoilt in ("", "{}", "[]", json.dumps({**whole, "library": "0"}), json.dumps({**whole, "days": 7})):
        kept.write_text(spoilt)
        assert trading_days(day, day) == (a_set(day), 0)
        assert json.loads(kept.read_text()) == whole
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert trading_days(day, day) == (a_set(day), 0)


WEEK = Sessions(days_between(D(2026, 3, 2), D(2026, 3, 6)), 0)


@pytest.mark.parametrize(
    ("bars", "life", "expected"),
    [
        ([2, 3, 4, 5, 6], {}, (0, 0, [])),
        ([3, 5], {}, (1, 1, [4])),
        ([3, 5], {"listed": D(2026, 3, 2), "delisted": D(2026, 3, 7)}, (0, 0, [2, 4, 6])),
        ([3, 5], {"listed": D(1980, 1, 1)}, (0, 1, [2, 4])),
        ([3, 4], {"delisted": D(2026, 3, 5)}, (1, 2, [])),
        ([], {}, (5, 0, [])),
    ],
)
def test_only_sessions_within_a_tickers_life_are_missing(
    bars: list[int], life: dict[str, Any], expected: tuple[int, int, list[int]]
) -> None:
    found = coverage(WEEK, a_set(*(D(2026, 3, day) for day in bars)), **life)
    assert (found.before, found.after, [day.day for day in dates_of(found.missing)]) == expected
    assert (found.expected, found.with_bars) == (5, len(bars))
    assert Coverage.from_text(found.as_text()) == found
    assert Coverage.from_text(json.dumps(found.as_json())) == found, "as ledgers of before have it"


LIFE = st.none() | st.dates(D(2026, 2, 20), D(2026, 3, 20)) | st.sampled_from([D(1896, 5, 26), D(9999, 12, 31)])


@settings(deadline=None)
@given(st.sets(st.dates(D(2026, 2, 25), D(2026, 3, 12))), LIFE, LIFE)
@example(set(), D(2026, 3, 2), D(1896, 5, 26))
def test_a_life_is_from_the_first_sign_of_it_to_the_last(
    bars: set[dt.date], listed: dt.date | None, delisted: dt.date | None
) -> None:
    """Day by day, as a person would count."""
    week = [D(2026, 3, day) for day in range(2, 7)]
    lived = [day for day in (*bars, listed) if day is not None]
    died = [day for day in (*bars, delisted and delisted - dt.timedelta(days=1)) if day is not None]
    before = [day for day in week if not lived or day < min(lived)]
    after = [day for day in week if lived and died and day > max(min(lived), *died)]
    missing = [day for day in week if lived and died and min(lived) <= day <= max(died) and day not in bars]

    found = coverage(WEEK, a_set(*bars), listed=listed, delisted=delisted)

    assert (found.before, found.after, list(dates_of(found.missing))) == (len(before), len(after), missing)
    assert (found.expected, found.with_bars) == (5, len(bars.intersection(week)))


NO_DAYS = [
    "0001-01-01", "0000-00-00", "1600-06-15", "1899-12-30", "1900-01-01", "1970-01-01", "2999-06-15", "9999-12-31",
    "", "-", "none", "NaT", "2026-02-30", "02/27/2024", "elsewhere",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_DAYS)
def test_what_cannot_be_a_day_is_none(text: str) -> None:
    assert plausible_day(text) is None
    assert plausible_day(f" {text}T00:00:00Z") is None


@pytest.mark.parametrize("text", ["1900-01-02", "1970-01-02", "2024-02-27", "2024-02-27T00:00:00Z", " 2024-02-27 "])
def test_what_can_be_a_day_is_one(text: str) -> None:
    assert plausible_day(text) == dt.date.fromisoformat(text.strip()[:10])


def test_a_universes_day_that_cannot_be_one_is_none(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    """Other programs write 0001-01-01 or 9999-12-31 where they know no day."""
    box, days = (
        sandbox(),
        ("--from", "2026-03-02", "--to", "2026-03-31", "--rate", "unlimited", "--no-upload", "--json"),
    )
    names = [f"T{number}" for number in range(len(NO_DAYS))]
    rows = [f"{name},{text},{text}" for name, text in zip(names, NO_DAYS, strict=True)]
    (program.directory / "u.csv").write_text("\n".join(["ticker,list_date,Delist_Date", *rows, ""]))
    plain = program("--tickers", *names, *days, "--output-dir", "plain", box=box)
    ended = program("--universe", "u.csv", *days, box=box)
    assert (plain.code, ended.code) == (0, 0), ended.err
    sessions_of = [[done["sessions"] for done in each.summary["done"]] for each in (plain, ended)]
    assert sessions_of[0] == sessions_of[1]
    # A run with nothing to do looks at the days again.
    assert program("--universe", "u.csv", *days, box=box).code == 0


def test_a_run_tells_the_sessions_without_bars_and_status_knows_them(
    program: Program, sandbox: Callable[..., Sandbox]
) -> None:
    box = sandbox(page_size=500)
    flags = ("--tickers", "GAPPY", "A", "--from", "2026-03-02", "--to", "2026-03-31", "--rate", "unlimited")
    ended = program(*flags, "--no-upload", "--json", box=box)
    assert ended.code == 0, ended.err
    month = sessions(AssetType.STOCKS, D(2026, 3, 2), D(2026, 3, 31))
    for done in ended.summary["done"]:
        bars = box.market.days(done["ticker"], D(2026, 3, 2), D(2026, 3, 31))
        stamps = np.array([bar.t for bar in bars])
        expected = coverage(month, days_of(stamps, AssetType.STOCKS))
        assert done["sessions"] == expected.as_json()
    again = program(*flags, "--no-upload", "--json", box=box)
    assert [done["sessions"] for done in again.summary["done"]] == [done["sessions"] for done in ended.summary["done"]]
    status = program("status", "--json")
    told = {unit["ticker"]: unit["sessions"] for unit in status.summary["tickers"]}
    assert told == {done["ticker"]: done["sessions"] for done in ended.summary["done"]}
    # As ledgers of before have it: the missing days one by one ...
    for ticker, sessions_of in told.items():
        program.ledger("UPDATE unit SET coverage = ? WHERE ticker = ?", (json.dumps(sessions_of), ticker))
    assert {unit["ticker"]: unit["sessions"] for unit in program("status", "--json").summary["tickers"]} == told
    # ... or nothing is known of its days, and nothing is made up.
    program.ledger("UPDATE unit SET days = NULL, coverage = NULL")
    old = program(*flags, "--no-upload", "--json", box=box)
    assert (old.code, ["sessions" in done for done in old.summary["done"]]) == (0, [False, False])
