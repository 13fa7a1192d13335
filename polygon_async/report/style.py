"""How a report's page looks: light and dark, on a phone and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #c9d0da; --paper: #fff; --card: #f4f6f9; --soft: #5b6675;
  --series-1: #2563a8; --series-2: #b26a00; --series-3: #b3261e; --series-4: #4b7d3a; --good: 37 99 168;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --faint: #3a4452; --paper: #11161d; --card: #1a212b;
  --soft: #9aa6b5; --series-1: #6cabef; --series-2: #f0a94b; --series-3: #f2877f; --series-4: #8cc27a;
  --good: 108 171 239; --bad: #f2877f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } p, ul { margin: .4rem 0; } ul { padding-left: 1.2rem; }
.soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tile { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.25rem; font-weight: 600; }
.scroll { overflow-x: auto; max-width: 100%; } svg { width: 100%; height: auto; min-width: 34rem; display: block; }
pre { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; margin: .4rem 0; white-space: pre-wrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: left; border-bottom: 1px solid var(--faint); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; } td.n, th.n { text-align: right; white-space: nowrap; }
td { min-width: 4rem; }
td:first-child { white-space: nowrap; }
.months td, .months th { padding: .1rem .15rem; border: 0; font-size: 12px; white-space: nowrap; }
.months th:first-child { position: sticky; left: 0; background: var(--paper); padding-right: .5rem; }
.months td.m { min-width: 2.1rem; text-align: center; border: 1px solid var(--paper); }
.months td.g { outline: 2px solid var(--bad); outline-offset: -2px; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  .card, table, svg { break-inside: avoid; } svg { min-width: 0; } .scroll { overflow: visible; } }
"""
