"""A run's report in; its two files in the output directory out. Blocking: it runs in the executor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from polygon_async.bars.part import disk_errors
from polygon_async.model.layout import REPORT_HTML, REPORT_JSON
from polygon_async.report.html import html_of
from polygon_async.report.lists import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["publish"]


def publish(report: Mapping[str, Any], directory: Path) -> Path:
    """Write a report as JSON and as a page, each whole or not at all; returns the page's path.

    Raises:
        DiskUnusable: they cannot be written.
    """
    page = directory / REPORT_HTML
    for path, text in ((directory / REPORT_JSON, json.dumps(report, indent=1) + "\n"), (page, html_of(report))):
        with disk_errors(path):
            replace_file(path, text)
    return page
