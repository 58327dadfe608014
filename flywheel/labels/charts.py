"""Shares with their intervals as a picture: SVG by hand, for a page and for Dagster's metadata.

Nothing here loads a plotting library, whose import would cost a turn a second.
"""

from collections.abc import Sequence
from html import escape

WIDE, LEFT, ROW, TOP = 590, 180, 22, 46
INK, LINE, MARK = "#3b6ea5", "#c33", "#999"
Point = tuple[str, float | None, float | None, float | None]  # name, low, value, high


def dot_plot(title: str, points: Sequence[Point], span: tuple[float, float], line: float) -> str:
    """One row a point, its interval as a bar; `line` is where nothing is to be seen.

    A value that is not known leaves its row empty; what lies beyond `span` ends at its edge.
    """
    low, high = span
    tall = TOP + ROW * len(points) + 24
    bottom = tall - 20

    def across(value: float) -> float:
        return LEFT + (WIDE - LEFT - 20) * (min(max(value, low), high) - low) / (high - low)

    marks = [
        f'<line x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{TOP - 10}" y2="{bottom}" '
        f'stroke="#eee"/><text x="{across(at):.1f}" y="{tall - 4}" text-anchor="middle" '
        f'fill="{MARK}">{at:g}</text>'
        for at in (low + (high - low) * step / 4 for step in range(5))
    ]
    marks.append(
        f'<line x1="{across(line):.1f}" x2="{across(line):.1f}" y1="{TOP - 10}" y2="{bottom}" '
        f'stroke="{LINE}" stroke-dasharray="3 3"/>'
    )
    for number, (name, below, value, above) in enumerate(points):
        y = TOP + ROW * number + 4
        marks.append(
            f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(short(name))}</text>'
        )
        if value is None:
            continue
        if below is not None and above is not None:
            marks.append(
                f'<line x1="{across(below):.1f}" x2="{across(above):.1f}" y1="{y}" y2="{y}" '
                f'stroke="{INK}" stroke-width="5" stroke-opacity=".35" stroke-linecap="round"/>'
            )
        marks.append(f'<circle cx="{across(value):.1f}" cy="{y}" r="4" fill="{INK}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{tall}" '
        f'viewBox="0 0 {WIDE} {tall}" font-family="system-ui,sans-serif" font-size="12" '
        f'role="img"><rect width="{WIDE}" height="{tall}" fill="#fff"/>'
        f'<text x="8" y="20" font-size="14" font-weight="600">{escape(title)}</text>'
        f"{''.join(marks)}</svg>"
    )


def short(name: str) -> str:
    """A name that fits beside a plot: a long pseudonym keeps both of its ends."""
    return name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}"
