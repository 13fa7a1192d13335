"""Secrets go out of every text; ordinary words and paths that look like a short one stay."""

from __future__ import annotations

import pytest

from polygon_async.system.redaction import Redactor

SHORT = Redactor(["test", "b", "p@ss#1"])


@pytest.mark.parametrize(
    "text",
    [
        "the latest bucket is bad",
        "s3://bucket/latest/object",
        "/srv/pytest-0/test_of_b/b/test/output: no such directory",
        "subset_b, attest, tests",
        "a-b.csv",
        "x latest… and more",
    ],
)
def test_a_short_secret_leaves_words_and_paths_alone(text: str) -> None:
    assert SHORT(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("AWS_SECRET_ACCESS_KEY=test", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ("http://user:b@host/x", "http://user:[redacted]@host/x"),
        ("https://host/path/test?apiKey=b&to=1", "https://host/path/[redacted]?apiKey=[redacted]&to=1"),
        ("Authorization: Bearer test", "Authorization: Bearer [redacted]"),
        ('{"secret": "test"}', '{"secret": "[redacted]"}'),
        ("the secret is test.", "the secret is [redacted]."),
        ("u:p@ss#1@host", "u:[redacted]@host"),
        ("Credential=test/2026", "Credential=[redacted]/2026"),
    ],
)
def test_a_short_secret_is_not_shown_where_it_is_one(text: str, left: str) -> None:
    assert SHORT(text) == left


def test_a_long_secret_is_not_shown_anywhere() -> None:
    assert Redactor(["minioadmin"])("xminioadminx /minioadmin/ minioadm…") == "x[redacted]x /[redacted]/ [redacted]…"
