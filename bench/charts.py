"""Charts as plain SVG, and a page around them: one file, no script, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LABEL_WIDTH = 190
FIGURE_WIDTH = 150
ROW_HEIGHT = 22
TITLE_HEIGHT = 34
STYLE = """
svg { font: 13px system-ui, sans-serif; max-width: 100%; }
svg text { fill: #1f2937; } svg .quiet { fill: #6b7280; } svg .title { font-weight: 600; }
svg .bar { fill: #cbd5e1; } svg .bar.marked { fill: #2563eb; }
@media (prefers-color-scheme: dark) {
  svg text { fill: #e5e7eb; } svg .quiet { fill: #9ca3af; }
  svg .bar { fill: #475569; } svg .bar.marked { fill: #60a5fa; }
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


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def paragraph(text: str) -> str:
    """An HTML paragraph."""
    return f"<p>{escape(text)}</p>"


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
