"""The ratios of a run as SVG: a bar for each workload, from 1 to the left or to the right."""

from __future__ import annotations

import math
from html import escape

from .results import Measured, Run, geometric_mean

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 250, 90, 16, 70
INK, SOFT, GRID = "#212529", "#6c757d", "#e9ecef"
FASTER, SLOWER, UNDER = "#2b8a3e", "#f08c00", "#c92a2a"
LEAST, MOST = 1 / 16, 16.0


def across(ratio: float) -> float:
    """Where a ratio stands, by its logarithm."""
    inside = min(max(ratio, LEAST), MOST)
    span = WIDTH - LEFT - RIGHT
    return LEFT + span * (math.log(inside / LEAST) / math.log(MOST / LEAST))


def text(
    x: float, y: float, what: str, anchor: str = "start", colour: str = INK, size: int = 11
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}">{escape(what)}</text>'
    )


def bar(one: Measured, y: float) -> list[str]:
    """A workload's row: its name, its bar, its ratio and the peer; a tick at the floor."""
    ratio = one.ratio()
    parts = [text(LEFT - 8, y + 11, one.name.partition("/")[2], "end")]
    if ratio is None:
        return [*parts, text(across(1) + 6, y + 11, "no peer", colour=SOFT)]
    colour = UNDER if one.is_under else FASTER if ratio >= 1 else SLOWER
    start, end = sorted((across(1), across(ratio)))
    parts.append(
        f'<rect x="{start:.1f}" y="{y + 2:.1f}" width="{max(end - start, 1):.1f}" '
        f'height="{ROW - 4}" fill="{colour}"/>'
    )
    floor = across(one.floor)
    parts.append(f'<path d="M{floor:.1f},{y:.1f}v{ROW}" stroke="{INK}"/>')
    peer = one.fastest(False)
    named = f"{ratio:.2f} {peer[0]}" if peer and ratio else "failed"
    place, anchor = (end + 5, "start") if ratio >= 1 else (across(1) + 5, "start")
    parts.append(text(place, y + 11, named, anchor, SOFT))
    return parts


def svg(run: Run) -> str:
    """The text of an SVG file: the groups, for one thread and for more."""
    parts, y = [], float(TOP)
    groups = [(n, *pair) for n in run.threads for pair in run.groups(n).items()]
    for threads, group, measured in groups:
        mean = geometric_mean([one.ratio() for one in measured])
        shown = f"geometric mean {mean:.2f}" if mean else "no peer"
        counted = f"{threads} thread{'s' * (threads > 1)}"
        parts.append(text(12, y + 14, f"{group}, {counted}: {shown}", size=13))
        y += 22
        for one in measured:
            parts += bar(one, y)
            y += ROW
        y += 12
    lines = []
    for step in range(-4, 5):
        ratio = 2.0**step
        x = across(ratio)
        weight = SOFT if ratio == 1 else GRID
        lines.append(f'<path d="M{x:.1f},{TOP - 8}V{y:.1f}" stroke="{weight}"/>')
        lines.append(text(x, TOP - 14, f"{ratio:.4g}", "middle", SOFT))
    note = f"{run.date}; right of 1: graphc is faster; black ticks: floors"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10:.0f}" '
            f'width="{WIDTH}" height="{y + 10:.0f}" font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            text(12, 22, "The best peer's time / graphc's", size=15),
            text(12, 40, note, colour=SOFT),
            *lines,
            *parts,
            "</svg>\n",
        ]
    )
