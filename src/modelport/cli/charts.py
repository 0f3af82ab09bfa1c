"""Charts as plain SVG, and a page around them: one file, no script, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LABEL_WIDTH = 190
FIGURE_WIDTH = 150
ROW_HEIGHT = 22
TITLE_HEIGHT = 34
PLOT_HEIGHT = 260
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#64748b")
STYLE = """
svg { font: 13px system-ui, sans-serif; max-width: 100%; }
svg text { fill: #1f2937; } svg .quiet { fill: #6b7280; } svg .title { font-weight: 600; }
svg .bar { fill: #cbd5e1; } svg .bar.marked { fill: #2563eb; } svg .grid { stroke: #e5e7eb; }
@media (prefers-color-scheme: dark) {
  svg text { fill: #e5e7eb; } svg .quiet { fill: #9ca3af; }
  svg .bar { fill: #475569; } svg .bar.marked { fill: #60a5fa; } svg .grid { stroke: #374151; }
}
"""
PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 900px; padding: 0 1rem; color: #1f2937; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; } th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; white-space: nowrap; border-bottom: 1px solid #9ca3af; } .scroll { overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { background: #111827; color: #e5e7eb; } }
"""


@dataclass(frozen=True)
class Bar:
    """One bar: `figure` is what stands beside it."""

    label: str
    value: float
    figure: str
    is_marked: bool = False


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Lengths side by side, the longest as wide as there is room."""
    most = max((row.value for row in rows), default=0) or 1
    room = WIDTH - LABEL_WIDTH - FIGURE_WIDTH
    parts = [_title(title)]
    for number, row in enumerate(rows):
        y = TITLE_HEIGHT + number * ROW_HEIGHT
        length = max(row.value / most * room, 1)
        marked = " marked" if row.is_marked else ""
        parts.append(f'<text x="{LABEL_WIDTH - 8}" y="{y + 14}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(
            f'<rect class="bar{marked}" x="{LABEL_WIDTH}" y="{y + 2}" width="{length:.1f}" height="16" rx="2"/>'
        )
        x = LABEL_WIDTH + length + 6
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{y + 14}">{escape(row.figure)}</text>')
    return _svg(parts, TITLE_HEIGHT + len(rows) * ROW_HEIGHT + 6)


def percentile_curves(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """Each series' values by percentile; the axis stretches towards the slowest few."""
    held = {name: sorted(values) for name, values in series.items() if values}
    most = max((percentile(values, 0.999) for values in held.values()), default=0) or 1
    marks = (0.0, 0.5, 0.9, 0.99, 0.999)
    left, right, top, bottom = 70, WIDTH - 20, TITLE_HEIGHT + 10, TITLE_HEIGHT + PLOT_HEIGHT

    def across(share: float) -> float:
        return left + min(-math.log10(max(1 - share, 1e-9)) / 3, 1) * (right - left)

    def down(value: float) -> float:
        return bottom - value / most * (bottom - top)

    parts = [_title(title)]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{across(mark):.1f}" y1="{top}" x2="{across(mark):.1f}" y2="{bottom}"/>')
        label = f'<text class="quiet" x="{across(mark):.1f}" y="{bottom + 18}" text-anchor="middle">'
        parts.append(f"{label}{'fastest' if not mark else f'p{mark * 100:g}'}</text>")
    for step in range(5):
        value = most * step / 4
        parts.append(f'<line class="grid" x1="{left}" y1="{down(value):.1f}" x2="{right}" y2="{down(value):.1f}"/>')
        label = f'<text class="quiet" x="{left - 8}" y="{down(value) + 4:.1f}" text-anchor="end">'
        parts.append(f"{label}{value:.3g} {escape(unit)}</text>")
    for number, (name, values) in enumerate(held.items()):
        colour = COLOURS[number % len(COLOURS)]
        shares = [1 - 10 ** (-3 * step / 120) for step in range(121)]
        points = " ".join(f"{across(s):.1f},{down(percentile(values, s)):.1f}" for s in shares)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = left + number * 210
        parts.append(f'<rect x="{x}" y="{bottom + 32}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{bottom + 41}">{escape(name)}</text>')
    return _svg(parts, bottom + 56)


def timeline(title: str, seconds: float, values: Sequence[float]) -> str:
    """Equal spans of a time as columns side by side."""
    most = max(values, default=0) or 1
    left, right, top, bottom = 70, WIDTH - 20, TITLE_HEIGHT + 10, TITLE_HEIGHT + PLOT_HEIGHT // 2
    parts = [_title(title)]
    for value in (0, most / 2, most):
        y = bottom - value / most * (bottom - top)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="quiet" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    width = (right - left) / max(len(values), 1)
    for number, value in enumerate(values):
        height = value / most * (bottom - top)
        x = left + number * width
        place = f'x="{x:.1f}" y="{bottom - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}"'
        parts.append(f'<rect class="bar marked" {place}/>')
    parts.append(f'<text class="quiet" x="{right}" y="{bottom + 18}" text-anchor="end">{seconds:.3g} s</text>')
    return _svg(parts, bottom + 30)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the (sorted) values lies; 0 where there is none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def paragraph(text: str) -> str:
    """An HTML paragraph."""
    return f"<p>{escape(text)}</p>"


def stacked(images: Sequence[str]) -> str:
    """Several charts below each other, as one SVG."""
    parts = []
    y = 0.0
    for image in images:
        parts.append(f'<svg y="{y:.0f}"{image.removeprefix("<svg")}')
        y += float(image.split('viewBox="0 0 ')[1].split('"')[0].split()[1]) + 16
    return _svg(parts, y)


def page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>{PAGE_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _title(text: str) -> str:
    return f'<text class="title" x="0" y="18">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"])
