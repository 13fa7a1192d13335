"""A run's report as one self-contained HTML page, for light and dark mode and for print."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from polygon_async.report.charts import bars, lines
from polygon_async.report.words import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["html_of"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #c9d0da; --paper: #fff; --card: #f4f6f9; --soft: #5b6675;
  --series-1: #2563a8; --series-2: #b26a00; --series-3: #b3261e; --series-4: #4b7d3a; --good: 37 99 168;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --faint: #3a4452; --paper: #11161d; --card: #1a212b;
  --soft: #9aa6b5; --series-1: #6cabef; --series-2: #f0a94b; --series-3: #f2877f; --series-4: #8cc27a;
  --good: 108 171 239; --bad: #f2877f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; } p { margin: .4rem 0; }
.soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tile { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; min-width: 34rem; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: left; border-bottom: 1px solid var(--faint); vertical-align: top; }
th { font-weight: 600; color: var(--soft); } td.n, th.n { text-align: right; } td { overflow-wrap: anywhere; }
.months td, .months th { padding: .1rem .15rem; border: 0; font-size: 12px; white-space: nowrap; }
.months td.m { min-width: 2.1rem; text-align: center; border: 1px solid var(--paper); }
.months td.g { outline: 2px solid var(--bad); outline-offset: -2px; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  .card, table, svg { break-inside: avoid; } svg { min-width: 0; } .scroll { overflow: visible; } }
"""
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


def html_of(report: Mapping[str, Any]) -> str:
    """The page of a report, from `report_of` or read back from its JSON."""
    title = f"Minute bars, {report['collected'][:16].replace('T', ' ')} UTC"
    parts = [
        _head(title, report),
        _section("Requests per second", _rate(report["series"])),
        _section("How long requests took", _latency(report)),
        _section("Where the time went", _stages(report["seconds_in"])),
        _section("Sessions with bars", _months(report["coverage"])),
        _section("Slowest tickers", _slowest(report["slowest"])),
        _section("Failed", _failures(report)),
        _section("Worth checking", _doubts(report)),
        _section("Without data", _list(report["no_data_tickers"], report["tickers"]["no_data"])),
        _section("Settings", _table([("setting", False), ("value", False)], sorted(report["settings"].items()))),
    ]
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(filter(None, parts)))


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


def _doubts(report: Mapping[str, Any]) -> str:
    """What a person should look at; reports of older versions tell nothing of it."""
    rows = [(each["ticker"], each["note"]) for each in report.get("in_doubt", [])]
    for each in report.get("odd", []):
        told = ", ".join(f"{count:,} with {what}" for what, count in sorted(each["bars"].items()))
        rows.append((each["ticker"], f"bars with impossible values, kept as received: {told}"))
    return _table([("ticker", False), ("what", False)], rows) if rows else ""


def _section(title: str, body: str) -> str:
    return f'<section class="card"><h2>{title}</h2>\n{body}</section>' if body else ""


def _rate(series: Mapping[str, Any]) -> str:
    points = series["points"]
    if not points:
        return ""
    shown: dict[str, Sequence[tuple[float, float]]] = {"sent": [(at, sent) for at, sent, *_ in points]}
    allowed = [(at, limit) for at, *_, limit in points if limit is not None]
    if allowed:
        shown["allowed"] = allowed
    for place, name in ((2, "refused (429)"), (3, "failed")):
        if any(point[place] for point in points):
            shown[name] = [(point[0], point[place]) for point in points]
    chart = lines(shown, x_title="seconds since the start", y_title="requests per second")
    told = f"One point for every {series['seconds']:g} s in which requests were sent."
    return f'<div class="scroll">{chart}</div><p class="soft">{told}</p>'


def _latency(report: Mapping[str, Any]) -> str:
    if not report["latencies"]:
        return ""
    chart = bars([(f"to {upper:,.4g} ms", count) for upper, count in report["latencies"]], unit="", horizontal=False)
    told = ", ".join(f"{name} {value:,.4g} ms" for name, value in report["latency_ms"].items())
    return f'<p>{escape(told)}</p><div class="scroll">{chart}</div>'


def _stages(spent: Mapping[str, float]) -> str:
    rows = [(words, spent[name]) for name, words in _STAGES.items() if spent.get(name)]
    if not rows:
        return ""
    chart = bars(rows, unit="s")
    return f'<div class="scroll">{chart}</div><p class="soft">All tickers together; they overlap.</p>'


def _months(coverage: Mapping[str, Any]) -> str:
    if not coverage["months"]:
        return ""
    names = [month for month, *_ in coverage["months"]]
    head = "".join(f"<th>{escape(name[2:])}</th>" for name in names)
    whole = {month: [found, expected] for month, found, expected in coverage["months"]}
    rows = [_month_row(f"all {coverage['of']:,} tickers", whole, names, has_gaps=False)]
    rows += [
        _month_row(each["ticker"], each["months"], names, has_gaps=bool(each["missing"]), gaps=each["missing"])
        for each in coverage["tickers"]
    ]
    told = f"{coverage['with_gaps']:,} of {coverage['of']:,} tickers have sessions without bars during their life."
    shown = len(coverage["tickers"])
    if shown < coverage["of"]:
        told += f" Shown: the {shown} with the most gaps."
    gaps = [
        (each["ticker"], f"{len(each['missing']):,}", ", ".join(each["missing"][:12]))
        for each in coverage["tickers"]
        if each["missing"]
    ]
    table = _table([("ticker", False), ("sessions missing", True), ("days", False)], gaps) if gaps else ""
    return (
        f"<p>{told}</p>{table}<div class='scroll'><table class='months'><tr><th>ticker</th>{head}</tr>"
        f"{''.join(rows)}</table></div>"
        '<p class="soft">Share of a month\'s sessions with bars, in percent; framed: sessions are missing.</p>'
    )


def _month_row(
    name: str, months: Mapping[str, Sequence[int]], names: Sequence[str], *, has_gaps: bool, gaps: Sequence[str] = ()
) -> str:
    with_gap = {day[:7] for day in gaps} if has_gaps else set()
    cells = []
    for month in names:
        found, expected = months.get(month, (0, 0))
        if not expected:
            cells.append("<td class='m'></td>")
            continue
        share = found / expected
        frame = " g" if month in with_gap else ""
        colour = f"background: rgb(var(--good) / {0.08 + 0.5 * share:.2f})"
        title = escape(f"{name}, {month}: {found} of {expected} sessions")
        cells.append(f'<td class="m{frame}" style="{colour}" title="{title}">{share * 100:.0f}</td>')
    return f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>"


def _slowest(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [("ticker", False), ("time", True), ("bars", True), ("outcome", False)]
    return _table(
        columns, [(row["ticker"], duration(row["seconds"]), f"{row['bars']:,}", row["state"]) for row in rows]
    )


def _failures(report: Mapping[str, Any]) -> str:
    failed = report["failures"]
    if not failed:
        return ""
    rest = report["tickers"]["failed"] - len(failed)
    more = f"<p>and {rest:,} more, in failed.csv</p>" if rest > 0 else ""
    again = "<p>To rerun only these: <code>--universe failed.csv</code> with the same days.</p>"
    return (
        _table([("ticker", False), ("what happened", False)], [(f["ticker"], f["error"]) for f in failed])
        + more
        + again
    )


def _list(tickers: Sequence[str], total: int) -> str:
    if not tickers:
        return ""
    rest = f" and {total - len(tickers):,} more, in no_data.csv" if total > len(tickers) else ""
    return f"<p>{escape(', '.join(tickers) + rest)}</p>"


def _table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[object]]) -> str:
    """A table; each column has a name, and whether it contains numbers."""
    lines = list(rows)
    if not lines:
        return ""
    cell: Callable[[str, bool, object], str] = lambda tag, number, text: (  # noqa: E731
        f'<{tag} class="{"n" if number else ""}">{escape(str(text))}</{tag}>'
    )
    head = "".join(cell("th", number, name) for name, number in columns)
    body = "".join(
        "<tr>" + "".join(cell("td", number, text) for (_, number), text in zip(columns, row, strict=True)) + "</tr>"
        for row in lines
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
