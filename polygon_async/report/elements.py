"""Texts in, escaped HTML out: tables, lists, and text to paste."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["items", "paragraph", "pasted", "section", "table"]


def section(title: str, *parts: str, level: int = 2) -> str:
    """A titled part of the page; nothing, if it has no content."""
    body = "\n".join(filter(None, parts))
    if not body:
        return ""
    tag = "section" if level == 2 else "div"
    return f'<{tag} class="card"><h{level}>{escape(title)}</h{level}>\n{body}</{tag}>'


def paragraph(text: str, kind: str = "") -> str:
    """One sentence or more; nothing, if there is no text."""
    tag = f'<p class="{kind}">' if kind else "<p>"
    return f"{tag}{escape(text)}</p>" if text else ""


def pasted(command: str) -> str:
    """A command to copy."""
    return f"<pre><code>{escape(command)}</code></pre>" if command else ""


def items(texts: Iterable[str]) -> str:
    """A list of sentences."""
    lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{lines}</ul>" if lines else ""


def table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[object]]) -> str:
    """A table; each column has a name, and whether it contains numbers. Nothing, if it has no rows."""
    lines = list(rows)
    if not lines:
        return ""
    kind: Callable[[bool], str] = lambda number: ' class="n"' if number else ""  # noqa: E731
    head = "".join(f'<th scope="col"{kind(number)}>{escape(name)}</th>' for name, number in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind(number)}>{escape(str(text))}</td>" for (_, number), text in zip(columns, row, strict=True))
        + "</tr>"
        for row in lines
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
