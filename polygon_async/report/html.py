"""A run's report as one self-contained page: what failed, whether it is complete, what was slow, how it ran."""

from __future__ import annotations

import shlex
from html import escape
from typing import TYPE_CHECKING, Any

from polygon_async.report.charts import bars, lines
from polygon_async.report.elements import items, paragraph, pasted, section, table
from polygon_async.report.flags import as_flags
from polygon_async.report.months import months_table
from polygon_async.report.style import STYLE
from polygon_async.report.words import counted, duration, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["html_of"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_WORDS = {0: "all done", 1: "some tickers failed, or none had data", 2: "could not continue", 130: "interrupted"}
_STAGES = {
    "tokens": "waiting for the rate limit",
    "pauses": "pauses requested by the API",
    "network": "network, request to last byte",
    "reading": "reading pages",
    "lzop": "lzop",
    "upload": "test, upload, read-back",
}
_MOST_WORDS = 100
"""Of the command line."""
_MOST_GAPS = 12
"""Days that are named of each ticker."""


def html_of(report: Mapping[str, Any]) -> str:
    """The page of a report, from `report_of` or read back from its JSON, also of an older version."""
    title = f"Minute bars, {report['collected'][:16].replace('T', ' ')} UTC"
    parts = [
        _head(title, report),
        _left_to_do(report),
        _complete(report),
        _slow(report),
        _files(report),
        _settings(report),
    ]
    return _PAGE.format(title=escape(title), style=STYLE, body="\n".join(filter(None, parts)))


def _head(title: str, report: Mapping[str, Any]) -> str:
    count = report["tickers"]
    code = report["exit_code"]
    told = report["error"] or _WORDS.get(code, "")
    start = "each from its last day" if report["from"] == "last" else report["from"]
    tiles = [
        ("tickers done", f"{count['done']:,} of {count['total']:,}"),
        ("failed", f"{count['failed']:,}"),
        ("without data", f"{count['no_data']:,}"),
        ("bars", f"{report['bars']:,}"),
        ("CSV", size(report["csv_bytes"])),
        ("in S3", size(report["stored_bytes"])),
        ("requests", f"{report['requests']:,}"),
        *_planned(report["estimate"]),
        ("retries", f"{sum(report['retries'].values()):,}"),
        ("time", duration(report["seconds"])),
    ]
    boxes = "".join(f'<div class="tile"><span class="soft">{name}</span><b>{escape(v)}</b></div>' for name, v in tiles)
    kind = "soft" if code == 0 else "bad"
    days, version = f"{start} to {report['to']}", report["version"]
    prices = "adjusted" if report["adjusted"] else "not adjusted"
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="soft">{escape(f"{days}, {prices}, polygon_async {version}")}</p>\n'
        f'<p class="{kind}">exit code {code}: {escape(told)}</p>\n<div class="tiles">{boxes}</div>'
    )


def _planned(estimate: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How many requests a plan would have estimated."""
    if not estimate or not estimate["units"]:
        return []
    low, high = estimate["requests"]
    return [("planned", f"{low:,} to {high:,}")]


# What is left to do


def _left_to_do(report: Mapping[str, Any]) -> str:
    failed, count = report["failures"], report["tickers"]
    unfinished = count.get("unfinished", 0)
    if not failed and not unfinished:
        return ""
    told = [f"{counted(count['failed'], 'ticker')} failed"] if failed else []
    told += [f"{counted(unfinished, 'ticker')} not finished"] if unfinished else []
    parts = [paragraph(f"{' and '.join(told)}.")]
    if again := report.get("again"):
        parts += [paragraph("To continue, run:"), pasted(again)]
    causes = report.get("causes", [])
    parts.append(section("Failures by cause", items(map(_cause, causes)), level=3))
    rows = [(each["ticker"], each["error"]) for each in failed]
    rest = count["failed"] - len(failed)
    more = paragraph(f"and {rest:,} more, in failed.csv") if rest > 0 else ""
    parts.append(section("Failed", table([("ticker", False), ("what happened", False)], rows), more, level=3))
    names = report.get("unfinished_tickers", [])
    parts.append(section("Not finished", _list(names, unfinished, "failed.csv"), level=3))
    return section("What is left to do", *parts)


def _cause(cause: Mapping[str, Any]) -> str:
    first = ", ".join(cause["first"])
    rest = cause["tickers"] - len(cause["first"])
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"{counted(cause['tickers'], 'ticker')}: {cause['cause']}: {first}{more}"


# Whether it is complete


def _complete(report: Mapping[str, Any]) -> str:
    coverage = report["coverage"]
    gaps = [
        (each["ticker"], f"{len(each['missing']):,}", ", ".join(each["missing"][:_MOST_GAPS]))
        for each in coverage["tickers"]
        if each["missing"]
    ]
    shown = len(coverage["tickers"])
    limited = f"Shown: the {shown:,} with the most gaps." if gaps and shown < coverage["of"] else ""
    columns = [("ticker", False), ("sessions missing", True), ("days", False)]
    without = report["no_data_tickers"]
    return section(
        "Is it complete?",
        paragraph(_verdict(report)),
        section("Sessions without bars", paragraph(limited, "soft"), table(columns, gaps), level=3),
        section("Worth checking", _doubts(report), level=3),
        section("Without data", _list(without, report["tickers"]["no_data"], "no_data.csv"), level=3),
        section("Sessions with bars", months_table(coverage), level=3),
    )


def _verdict(report: Mapping[str, Any]) -> str:
    coverage, count = report["coverage"], report["tickers"]
    if not coverage["of"]:
        return ""
    gaps, tickers = coverage["with_gaps"], counted(coverage["of"], "ticker")
    if gaps:
        verb = "has" if gaps == 1 else "have"
        told = f"{gaps:,} of {tickers} {verb} sessions without bars between the first and the last one."
    else:
        told = f"Yes: {tickers} {'has' if coverage['of'] == 1 else 'have'} bars in every session between the first and"
        told += " the last one."
    if missing := count["failed"] + count.get("unfinished", 0):
        told += f" {counted(missing, 'ticker')} that failed or {'was' if missing == 1 else 'were'} not finished"
        told += f" {'is' if missing == 1 else 'are'} not among them."
    return told


def _doubts(report: Mapping[str, Any]) -> str:
    """What a person should look at; reports of older versions tell nothing of it."""
    rows = [(each["ticker"], each["note"]) for each in report.get("in_doubt", [])]
    for each in report.get("odd", []):
        told = ", ".join(f"{count:,} with {what}" for what, count in sorted(each["bars"].items()))
        rows.append((each["ticker"], f"bars with impossible values, kept as received: {told}"))
    return table([("ticker", False), ("what", False)], rows)


# What was slow, and why


def _slow(report: Mapping[str, Any]) -> str:
    return section(
        "What was slow, and why?",
        paragraph(_slowest_stage(report)),
        section("Where the time went", _stages(report["seconds_in"]), level=3),
        section("Slowest tickers", _slowest(report["slowest"]), level=3),
        section("Requests per second", _rate(report["series"]), level=3),
        section("How long requests took", _latency(report), level=3),
        section("Workers", _workers(report.get("workers", [])), level=3),
    )


def _slowest_stage(report: Mapping[str, Any]) -> str:
    spent = {name: report["seconds_in"].get(name) or 0 for name in _STAGES}
    whole = sum(spent.values())
    if not whole:
        return ""
    name = max(spent, key=lambda each: spent[each])
    rate = report["settings"].get("rate")
    which = f" (--rate {rate})" if name in {"tokens", "pauses"} and rate else ""
    return f"{spent[name] / whole:.0%} of the tickers' time went to {_STAGES[name]}{which}."


def _rate(series: Mapping[str, Any]) -> str:
    points = series["points"]
    if not points:
        return ""
    if len(points) == 1:
        sent = round(points[0][1] * series["seconds"])
        return paragraph(f"{counted(sent, 'request')}, all within {series['seconds']:g} s.")
    shown: dict[str, Sequence[tuple[float, float]]] = {"sent": [(at, sent) for at, sent, *_ in points]}
    allowed = [(at, limit) for at, *_, limit in points if limit is not None]
    if allowed:
        shown["allowed"] = allowed
    for place, name in ((2, "refused (429)"), (3, "failed")):
        if any(point[place] for point in points):
            shown[name] = [(point[0], point[place]) for point in points]
    chart = lines(shown, x_title="seconds since the start", y_title="requests per second")
    told = f"One point for every {series['seconds']:g} s in which requests were sent."
    return f'<div class="scroll">{chart}</div>{paragraph(told, "soft")}'


def _latency(report: Mapping[str, Any]) -> str:
    buckets = report["latencies"]
    if not buckets:
        return ""
    told = paragraph(", ".join(f"{name} {value:,.4g} ms" for name, value in report["latency_ms"].items()))
    if len(buckets) == 1:
        ((upper, count),) = buckets
        which = "The only request" if count == 1 else f"All {counted(count, 'request')}"
        return told + paragraph(f"{which} took up to {upper:,.4g} ms.")
    chart = bars([(f"to {upper:,.4g} ms", count) for upper, count in buckets], unit="", horizontal=False)
    return f'{told}<div class="scroll">{chart}</div>'


def _stages(spent: Mapping[str, float]) -> str:
    rows = [(words, spent[name]) for name, words in _STAGES.items() if spent.get(name)]
    if len(rows) < 2:
        return "".join(paragraph(f"{words}: {duration(seconds)}, all tickers together.") for words, seconds in rows)
    return f'<div class="scroll">{bars(rows, unit="s")}</div>{paragraph("All tickers together; they overlap.", "soft")}'


def _slowest(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [("ticker", False), ("time", True), ("bars", True), ("outcome", False)]
    return table(columns, [(row["ticker"], duration(row["seconds"]), f"{row['bars']:,}", row["state"]) for row in rows])


def _workers(workers: Sequence[Mapping[str, Any]]) -> str:
    columns = [("worker", False), ("requests", True), ("pages", True), ("uploads", True), ("", False)]
    return table(
        columns,
        [
            (each["worker"], *(f"{each[name]:,}" for name in ("requests", "pages", "uploads")), "lost" * each["lost"])
            for each in workers
        ],
    )


# How it ran, and where everything is


def _files(report: Mapping[str, Any]) -> str:
    files = report.get("files", [])
    columns = [("ticker", False), ("outcome", False), ("bars", True), ("CSV", False), ("object", False)]
    rows = [
        (each["ticker"], each["state"], f"{each['bars']:,}", each["csv"] or "", each["key"] or "") for each in files
    ]
    rest = report["tickers"]["done"] - len(files)
    more = paragraph(f"and {counted(rest, 'ticker')} more: polygon-async status --json") if files and rest > 0 else ""
    return section("Files and objects", table(columns, rows), more)


def _settings(report: Mapping[str, Any]) -> str:
    command = report.get("command") or []
    words = shlex.join(["polygon-async", *command[:_MOST_WORDS]]) if command else ""
    rest = " ..." if len(command) > _MOST_WORDS else ""
    rows = as_flags(report["settings"])
    if "--tickers" in command:
        # Then there was no universe but these.
        rows = [row for row in rows if row[0] != "--universe"]
    return section(
        "Settings",
        pasted(words + rest),
        table([("flag or variable", False), ("value", False)], rows),
    )


def _list(tickers: Sequence[str], total: int, where: str) -> str:
    rest = f" and {total - len(tickers):,} more, in {where}" if total > len(tickers) else ""
    return paragraph(", ".join(tickers) + rest if tickers else "")
