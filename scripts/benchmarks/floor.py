"""One full page in; the CPU that each stage of its way takes, out."""

from __future__ import annotations

import hashlib
import shutil
import time
from statistics import median
from typing import TYPE_CHECKING
from unittest.mock import patch

import programs
from figures import Figure, Section
from isal import igzip

from polygon_async.bars.page import Border
from polygon_async.model.tickers import AssetType, Ticker
from polygon_async.model.units import Unit
from polygon_async.polygon.bar_pages import read_page
from polygon_async.system.worker import get_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload import Job

__all__ = ["floor"]

_TIMES = 11


def floor(packed: bytes, job: Job, receive: Callable[[], object], scratch: Path) -> Section:
    """What one page costs at least, stage by stage.

    Args:
        packed: The page's body as it is sent.
        job: Whose first page it is.
        receive: Gets the page from the server once more.
        scratch: Where files may be written.
    """
    # As in the processes that read pages, which keep their memory.
    get_ready("polygon_async.polygon.fast_pages")
    unit = Unit(
        ticker=Ticker(job.tickers[0], AssetType.CRYPTO, "unknown", "USD"),
        start=job.start,
        end=job.end,
        adjusted=True,
    )
    body = igzip.decompress(packed)  # type: ignore[no-untyped-call]  # isal has no type for it
    page = read_page(body, unit=unit, border=Border())
    csv, lzo = scratch / "page.csv", scratch / "page.csv.lzo"
    lzop = shutil.which("lzop") or "lzop"

    def read() -> None:
        read_page(body, unit=unit, border=Border())

    def read_generally() -> None:
        with patch("polygon_async.polygon.fast_pages.plain_rows", return_value=None):
            read()

    def write() -> None:
        with csv.open("wb", buffering=0) as file:
            file.write(page.rows)

    stages = {
        "receive (http.client, loopback)": _own(receive),
        "gunzip (isal)": _own(lambda: igzip.decompress(packed)),  # type: ignore[no-untyped-call]
        "read: parse, check, print": _own(read),
        "sha256 of the CSV": _own(lambda: hashlib.sha256(page.rows).digest()),
        "write the CSV": _own(write),
        "lzop": _program(lzop, "-f", "-o", str(lzo), "--", str(csv), scratch=scratch),
        "lzop -t": _program(lzop, "-t", "--", str(lzo), scratch=scratch),
    }
    compressed = lzo.read_bytes()
    stages["md5 and sha256 of the .lzo"] = _own(lambda: (_md5(compressed), hashlib.sha256(compressed).digest()))
    generally = _own(read_generally)
    figures = [Figure(name=name, value=value * 1000, unit="ms") for name, value in stages.items()]
    figures.append(Figure(name="sum", value=sum(stages.values()) * 1000, unit="ms"))
    figures.append(Figure(name="read, bar by bar (plain_rows off; not in the sum)", value=generally * 1000, unit="ms"))
    size = f"{page.bars:,} bars, {len(packed):,} bytes as sent, {len(body):,} of JSON, {len(page.rows):,} of CSV"
    return Section("Floor: one page, CPU", figures, [f"{size}, {len(compressed):,} of .lzo"])


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _own(act: Callable[[], object]) -> float:
    """Seconds of this process's CPU that an act takes."""
    spent = []
    for _ in range(_TIMES):
        began = time.process_time()
        act()
        spent.append(time.process_time() - began)
    return median(spent)


def _program(*command: str, scratch: Path) -> float:
    return median(programs.run(command, {}, cwd=scratch).cpu for _ in range(_TIMES))
