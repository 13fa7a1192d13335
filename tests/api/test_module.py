"""What the package shows of itself: help(), dir(), and how little importing it costs."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import polygon_async

FUNCTIONS = ("download", "fetch_bars", "read_bars", "scan_bars", "session")
CLASSES = ("ConfigError", "PolygonAsyncError", "RunError", "Session", "Summary", "TickerError")


def test_dir_lists_what_is_exported() -> None:
    assert {*FUNCTIONS, *CLASSES} < set(dir(polygon_async))
    assert {name for name in dir(polygon_async) if not name.startswith("__")} == {*FUNCTIONS, *CLASSES}


def test_help_shows_every_function_with_signature_and_docstring() -> None:
    shown = pydoc.plain(pydoc.render_doc(polygon_async))
    for name in FUNCTIONS:
        # The signature stands in one line, however long.
        assert f"    {'' if name == 'session' else 'async '}{name}(" in shown
        assert (inspect.getdoc(getattr(polygon_async, name)) or "").splitlines()[0] in shown
    for name in CLASSES:
        assert f"    class {name}(" in shown
        assert getattr(polygon_async, name).__doc__.splitlines()[0] in shown


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_say_what_can_go_wrong(name: str) -> None:
    text = inspect.getdoc(getattr(polygon_async, name)) or ""
    assert "Raises:" in text
    assert "ConfigError" in text


@pytest.mark.parametrize("code", ["import polygon_async; dir(polygon_async)", "VERSION"])
def test_importing_it_loads_nothing_heavy(code: str) -> None:
    if code == "VERSION":
        code = (
            "import sys; from polygon_async.__main__ import main; sys.argv[1:] = ['--version']\n"
            "try: main()\nexcept SystemExit: pass"
        )
    heavy = ("pandas", "numpy", "aiohttp", "aioboto3", "botocore", "pyarrow")
    check = f"{code}\nimport sys; print(*[name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines()[-1] == ""
