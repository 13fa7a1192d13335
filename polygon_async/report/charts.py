"""Charts as SVG to embed in an HTML page, from which they take their colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bars", "lines"]

_INK, _FAINT = "#010203", "#040506"
_COLOURS = ("#0a0101", "#0a0102", "#0a0103", "#0a0104")
# The library needs a colour; the page decides what it is, in light and dark mode.
_OF_THE_PAGE = {_INK: "var(--ink)", _FAINT: "var(--faint)"}
_OF_THE_PAGE |= {colour: f"var(--series-{number})" for number, colour in enumerate(_COLOURS, 1)}
_SCRIPT = re.compile(r"<script.*?</script>|<script[^>]*/>", re.DOTALL)
_MOST_LABELS = 8


def lines(series: dict[str, Sequence[tuple[float, float]]], *, x_title: str, y_title: str) -> str:
    """Lines over a common axis: points (x, y), by the line's name."""
    import pygal

    chart = pygal.XY(
        **_common(),
        x_title=x_title,
        y_title=y_title,
        show_legend=len(series) > 1,
        show_dots=any(len(points) < 2 for points in series.values()),
        show_x_guides=False,
        x_labels_major_count=_MOST_LABELS,
        show_minor_x_labels=False,
        stroke_style={"width": 2},
        range=(0, max((y for points in series.values() for _, y in points), default=1) * 1.05 or 1),
        height=300,
    )
    for name, points in series.items():
        chart.add(name, list(points))
    return _rendered(chart)


def bars(rows: Sequence[tuple[str, float]], *, unit: str, horizontal: bool = True) -> str:
    """A bar for each row, with its value."""
    import pygal

    kind = pygal.HorizontalBar if horizontal else pygal.Bar
    shown = list(reversed(rows)) if horizontal else list(rows)
    chart = kind(
        **_common(),
        show_legend=False,
        # Beside a horizontal bar, its value would overlap it.
        print_values=not horizontal,
        print_values_position="top",
        value_formatter=lambda value: f"{value:,.4g} {unit}".strip(),
        height=90 + 26 * len(shown) if horizontal else 280,
        x_label_rotation=0 if horizontal else 35,
    )
    chart.x_labels = [f"{name}: {value:,.4g} {unit}" if horizontal else name for name, value in shown]
    chart.add("", [value for _, value in shown])
    return _rendered(chart)


def _common() -> dict[str, Any]:
    from pygal.style import Style

    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground=_INK,
        foreground_strong=_INK,
        foreground_subtle=_FAINT,
        guide_stroke_color=_FAINT,
        major_guide_stroke_color=_FAINT,
        opacity="1",
        opacity_hover="1",
        colors=_COLOURS,
        value_colors=(_INK,) * len(_COLOURS),
        font_family="inherit",
        label_font_size=12,
        major_label_font_size=12,
        value_font_size=12,
        title_font_size=14,
        legend_font_size=12,
    )
    return {
        "style": style,
        "width": 860,
        "js": (),
        "disable_xml_declaration": True,
        "explicit_size": False,
        "legend_at_bottom": True,
        "legend_box_size": 10,
        "margin": 8,
        "no_data_text": "nothing to show",
    }


def _rendered(chart: Any) -> str:
    text = _SCRIPT.sub("", chart.render(is_unicode=True))
    for colour, variable in _OF_THE_PAGE.items():
        text = text.replace(colour, variable)
    return text
