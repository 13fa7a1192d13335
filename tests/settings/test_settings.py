"""Which value counts when several places have one, and which values are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from polygon_async.errors import ConfigError
from polygon_async.settings import values
from polygon_async.settings.environment import Environment
from polygon_async.settings.settings import Settings, settings_from
from polygon_async.settings.values import default_range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from conftest import Program

    from polygon_async.sandbox import Sandbox

KEY = {"POLYGON_API_KEY": "k"}


def settle(
    flags: Mapping[str, Any] | None = None,
    own: Mapping[str, str] | None = None,
    dotenv: Mapping[str, str | None] | None = None,
) -> Settings:
    """The settings from these three places, a key included."""
    return settings_from(flags or {}, Environment({**KEY, **(own or {})}, dotenv or {}))


# Order


@pytest.mark.parametrize(
    ("flag", "variable", "values", "default"),
    [
        ("from", "POLYGON_FROM", ("2026-01-01", "2026-01-02", "2026-01-03"), None),
        ("to", "POLYGON_TO", ("2026-01-01", "2026-01-02", "2026-01-03"), None),
        ("concurrency", "POLYGON_CONCURRENCY", ("1", "2", "3"), "8"),
        ("rate", "POLYGON_RATE_LIMIT", ("1/s", "2/min", "unlimited"), "auto"),
        ("patience", "POLYGON_PATIENCE", ("1", "2.5", "0"), "300.0"),
        ("stall_timeout", "POLYGON_STALL_TIMEOUT", ("1", "2", "3"), "30.0"),
        ("outage_patience", "POLYGON_OUTAGE_PATIENCE", ("1", "2", "3"), "600.0"),
        ("bucket", "S3_BUCKET", ("one", "two", "three"), "mochi-tickdata-historical"),
    ],
)
def test_flags_come_before_variables_before_dotenv_before_defaults(
    flag: str, variable: str, values: tuple[str, str, str], default: str | None
) -> None:
    by_flag, by_variable, by_dotenv = values
    range_ = {"from": "2025-12-01", "to": "2026-02-01"}
    flags = {name: value for name, value in range_.items() if name != flag}
    fields = {"from": "start", "to": "end"}

    def chosen(settings: Settings) -> str:
        value = getattr(settings, fields.get(flag, flag))
        return str(getattr(value, "text", value))

    def said(text: str) -> str:
        return str(float(text)) if default and default.endswith(".0") else text

    own, dotenv = {variable: by_variable}, {variable: by_dotenv}
    assert chosen(settle({**flags, flag: by_flag}, own, dotenv)) == said(by_flag)
    assert chosen(settle(flags, own, dotenv)) == said(by_variable)
    assert chosen(settle(flags, {variable: "  "}, dotenv)) == said(by_dotenv)
    assert chosen(settle(flags, {}, dotenv)) == said(by_dotenv)
    if default is not None:
        assert chosen(settle(flags, {}, {variable: None})) == default


def test_without_a_word_the_defaults_of_the_contract_hold() -> None:
    settings = settle()
    assert settings.tickers is None
    assert [str(path) for path in settings.universe] == ["tickers.csv"]
    assert (settings.match, settings.limit) == ((), None)
    assert str(settings.output_dir) == "output"
    assert settings.base_url == "https://api.polygon.io"
    assert (settings.adjusted, settings.upload, settings.keep_csv, settings.force) == (True, True, True, False)
    assert (settings.exchange, settings.currency) == (None, None)


@pytest.mark.parametrize(
    ("own", "dotenv", "key"),
    [
        ({"POLYGON_API_KEY": "a", "MASSIVE_API_KEY": "b"}, {}, "a"),
        ({"MASSIVE_API_KEY": "b"}, {}, "b"),
        ({"POLYGON_API_KEY": "", "MASSIVE_API_KEY": "b"}, {}, "b"),
        ({"MASSIVE_API_KEY": "b"}, {"POLYGON_API_KEY": "c"}, "b"),
        ({}, {"POLYGON_API_KEY": "c", "MASSIVE_API_KEY": "d"}, "c"),
        ({}, {"MASSIVE_API_KEY": "d"}, "d"),
        ({"POLYGON_API_KEY": "  a\n"}, {}, "a"),
    ],
)
def test_the_key_may_have_either_name(own: dict[str, str], dotenv: dict[str, str | None], key: str) -> None:
    assert settings_from({}, Environment(own, dotenv)).api_key == key


# Refused


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("today", "2026-03-31", "2026-03-31"),
        ("Yesterday", "2026-03-30", "2026-03-30"),
        ("-30d", "2026-03-01", "2026-03-01"),
        ("-2w", "2026-03-17", "2026-03-17"),
        ("-1m", "2026-02-28", "2026-02-28"),
        ("-2y", "2024-03-31", "2024-03-31"),
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2024-02-03", "2024-02-03", "2024-02-03"),
    ],
)
def test_days_as_people_say_them(text: str, first: str, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "today", lambda: date(2026, 3, 31))
    assert (f"{values.parse_date(text)}", f"{values.parse_last_date(text)}") == (first, last)


@pytest.mark.parametrize(
    ("text", "spelt"), [("5/m", "5/min"), ("100/sec", "100/s"), ("5/Minute", "5/min"), ("3000/hour", "3000/h")]
)
def test_rates_as_people_say_them(text: str, spelt: str) -> None:
    assert settle({"rate": text}).rate == settle({"rate": spelt}).rate


def test_all_wrong_values_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from({"rate": "5", "concurrency": "x", "from": "soon"}, Environment({}, {}))
    said = str(caught.value)
    assert all(
        word in said for word in ("--rate '5': ", "--concurrency 'x': ", "--from 'soon': ", "POLYGON_API_KEY is not")
    )
    assert said.isprintable()


@pytest.mark.parametrize(
    ("flag", "variable", "bad"),
    [
        (
            "from",
            "POLYGON_FROM",
            [
                "tomorrow",
                "-30",
                "-30x",
                "-99999y",
                "2026-00",
                "2026-02-30",
                "2026-1-2",
                "20260102",
                "1969-12-31",
                "9999-12-31",
                "\uff12\uff10\uff12\uff16-01-02",
            ],
        ),
        ("to", "POLYGON_TO", ["2026-13-01", "01/02/2026", "2026-01-02T00:00", "9999-12-31", "2200-01-01"]),
        ("concurrency", "POLYGON_CONCURRENCY", ["0", "-1", "1.5", "eight", "1001", "\uff19", "1e2", "9" * 5000]),
        ("rate", "POLYGON_RATE_LIMIT", ["5", "0/s", "-1/s", "5 / s", "inf/s", "5/day", "Unlimited", "nan/s"]),
        ("patience", "POLYGON_PATIENCE", ["-1", "nan", "inf", "long", "5m"]),
        ("stall-timeout", "POLYGON_STALL_TIMEOUT", ["0", "-1", "nan"]),
        ("outage-patience", "POLYGON_OUTAGE_PATIENCE", ["-1", "inf"]),
    ],
)
def test_a_bad_value_is_told_with_its_flag_or_its_variable(flag: str, variable: str, bad: list[str]) -> None:
    for text in bad:
        with pytest.raises(ConfigError, match=f"^--{flag} '") as caught:
            settle({flag.replace("-", "_"): text})
        assert str(caught.value).isprintable()
        with pytest.raises(ConfigError, match=f"^{variable} '"):
            settle(own={variable: text})
        with pytest.raises(ConfigError, match=f"^{variable} '"):
            settle(dotenv={variable: text})


@pytest.mark.parametrize("flag", ["from", "to", "concurrency", "rate", "patience", "bucket", "output_dir", "universe"])
def test_an_empty_flag_is_not_the_default(flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{flag.replace('_', '-')} '': "):
        settle({flag: ""})


@pytest.mark.parametrize("flag", ["exchange", "currency"])
def test_a_tag_that_no_store_takes_is_refused(flag: str) -> None:
    for text in ("N&Y", "a\nb", "x" * 257, "a*"):
        with pytest.raises(ConfigError, match=f"^--{flag} .* cannot be the value of an S3 tag"):
            settle({flag: text})


@pytest.mark.parametrize(
    "url",
    [
        "https://api.massive.com",
        "https://api.massive.com/",
        "https://proxy.example/polygon",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://localhost:8000",
        "http://[::1]:8000",
    ],
)
def test_https_and_loopback_are_base_urls(url: str) -> None:
    assert settle(own={"POLYGON_BASE_URL": url}).base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://api.polygon.io", "is plain http"),
        ("http://localhost.example.com", "is plain http"),
        ("http://127.0.0.1.example.com", "is plain http"),
        ("http://10.0.0.1:8000", "is plain http"),
        ("http://0.0.0.0:8000", "is plain http"),
        ("api.polygon.io", "must be like https://api.polygon.io"),
        ("ftp://api.polygon.io", "must be like https://api.polygon.io"),
        ("https://", "must be like https://api.polygon.io"),
        ("https://host:port", "must be like https://api.polygon.io"),
        ("https://host:99999", "must be like https://api.polygon.io"),
        ("https://[::1", "must be like https://api.polygon.io"),
        ("https://host/?apiKey=s3cret", "must be like https://api.polygon.io"),
        ("https://user:s3cret@host", "must not contain a user or a password"),
        ("http://127.0.0.1@example.com", "must not contain a user or a password"),
    ],
)
def test_other_base_urls_are_refused_without_repeating_them(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^POLYGON_BASE_URL {said}") as caught:
        settle(own={"POLYGON_BASE_URL": url})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("own", [{}, {"POLYGON_API_KEY": "  "}])
def test_without_a_key_it_is_told_where_one_goes(own: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from({}, Environment(own, {}))
    assert str(caught.value) == "POLYGON_API_KEY is not set; export it or put it in .env (see .env.example)"


@pytest.mark.parametrize("key", ["s3 cret", "s3\ncret", "s3\rcret", "s3crét", "s3cret…"])
def test_a_key_that_no_header_takes_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^MASSIVE_API_KEY contains characters not found in API keys") as caught:
        settings_from({}, Environment({"MASSIVE_API_KEY": key}, {}))
    assert key not in str(caught.value)


def test_settings_do_not_show_the_key() -> None:
    assert "s3cret" not in repr(settle(own={"POLYGON_API_KEY": "s3cret"}))


def test_the_client_is_told_the_key_which_does_not_show_either() -> None:
    access = settle(own={"POLYGON_API_KEY": "s3cret"}).access
    assert access.api_key == "s3cret"
    assert "s3cret" not in repr(access)


@pytest.mark.parametrize(("last", "large"), [("2026-03-08", False), ("2026-03-09", True)])
def test_large_pages_are_expected_of_ranges_of_over_a_week(last: str, *, large: bool) -> None:
    assert settle({"from": "2026-03-02", "to": last}).access.expects_large_pages is large


# Range


@pytest.mark.parametrize(
    ("today", "first", "last"),
    [
        ("2026-07-15", "2024-07-16", "2026-07-14"),
        ("2026-01-01", "2024-01-02", "2025-12-31"),
        ("2026-02-28", "2024-02-29", "2026-02-27"),
        ("2026-03-01", "2024-03-02", "2026-02-28"),
        ("2028-02-29", "2026-03-01", "2028-02-28"),
        ("2028-03-01", "2026-03-02", "2028-02-29"),
        ("2025-12-31", "2024-01-01", "2025-12-30"),
    ],
)
def test_the_default_range_is_two_years_back_plus_a_day_until_yesterday(today: str, first: str, last: str) -> None:
    assert default_range(date.fromisoformat(today)) == (date.fromisoformat(first), date.fromisoformat(last))


def test_a_range_of_one_day_is_one() -> None:
    settings = settle({"from": "2026-03-02", "to": "2026-03-02"})
    assert settings.start == settings.end == date(2026, 3, 2)


def test_a_range_cannot_end_before_it_starts() -> None:
    with pytest.raises(ConfigError) as caught:
        settle({"from": "2026-03-03"}, {"POLYGON_TO": "2026-03-02"})
    assert str(caught.value) == "the range ends before it starts: --from 2026-03-03 is after --to 2026-03-02"


def test_a_range_cannot_start_in_the_future() -> None:
    with pytest.raises(ConfigError, match=r"^--from 2098-01-01 is in the future; today is \d{4}-\d\d-\d\d in New York"):
        settle({"from": "2098-01-01", "to": "2098-01-02"})


# Through the program


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_key_in_quotes_is_told_before_anything_is_asked(
    program: Program, sandbox: Callable[..., Sandbox], quote: str
) -> None:
    """docker's --env-file keeps them."""
    box = sandbox()
    quoted = f"{quote}{box.api_key}{quote}"
    ended = program("--tickers", "QQ", box=box, env={"POLYGON_API_KEY": quoted})
    assert (ended.code, ended.out, box.requests) == (2, "", [])
    assert ended.err == (
        "polygon-async: error: POLYGON_API_KEY is in quotes, which docker's --env-file keeps;"
        " write the key without quotes\n"
    )
    # The key itself is known as a secret, in quotes or not.
    again = program("--tickers", f"{box.api_key}%", box=box, env={"POLYGON_API_KEY": None, "MASSIVE_API_KEY": quoted})
    assert again.code == 2
    assert box.api_key not in again.err


def test_dotenv_of_the_working_directory_fills_the_gaps(program: Program, sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    lines = {**box.environment, "POLYGON_FROM": "2026-03-02", "POLYGON_TO": "2026-03-09", "POLYGON_RATE_LIMIT": "bad"}
    lines["AWS_SECRET_ACCESS_KEY"] = "wrong"
    (program.directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    own = {"POLYGON_TO": "2026-03-02", "AWS_SECRET_ACCESS_KEY": box.s3.secret_key}
    ended = program("--tickers", "QQ", "--rate", "unlimited", "--json", env=own)
    assert ended.code == 0, ended.err
    assert (ended.summary["from"], ended.summary["to"]) == ("2026-03-02", "2026-03-02")
    assert ended.summary["done"][0]["bucket"] == box.bucket
    assert [request.ticker for request in box.requests] == ["QQ"]


def test_no_other_dotenv_is_read(program: Program, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POLYGON_API_KEY=from-the-parent\n")
    (tmp_path / "sub").mkdir()
    ended = replace(program, directory=tmp_path / "sub")("--tickers", "QQ")
    assert ended.code == 2
    assert ended.err == (
        "polygon-async: error: POLYGON_API_KEY is not set; export it or put it in .env (see .env.example)\n"
    )


def test_a_dotenv_that_is_no_text_is_told(program: Program) -> None:
    (program.directory / ".env").write_bytes(b"POLYGON_API_KEY=\xff\xfe\n")
    ended = program("--tickers", "QQ")
    assert ended.code == 2
    assert ended.err.startswith("polygon-async: error: ")
    assert ".env cannot be read" in ended.err
    assert ended.err.count("\n") == 1
