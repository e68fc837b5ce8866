"""A curve of numbers as SVG: the values faint, their running mean strong, round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .draw import FONT

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 44, 42
INK, SOFT, GRID, LINE, FAINT = "#212529", "#6c757d", "#e9ecef", "#3b6fd4", "#b7cbf2"


def curve_svg(values: Sequence[float], title: str, x_name: str, note: str = "") -> str:
    """The text of an SVG file. Raises ValueError for no values or for one that is not finite."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("a curve needs values, all of them finite")
    top = max(values) * 1.05 or 1.0
    step = round_step(top / 5)
    span_x, span_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(k: float, value: float) -> str:
        x = LEFT + span_x * k / max(len(values) - 1, 1)
        return f"{x:.1f},{TOP + span_y * (1 - value / top):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="{FONT}" font-size="11">',
        '<rect width="100%" height="100%" rx="10" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" font-weight="600" fill="{INK}">'
        f'{escape(title)}<tspan font-size="12" font-weight="400" fill="{SOFT}" dx="12">'
        f"{escape(note)}</tspan></text>",
    ]
    for k in range(int(top / step) + 1):
        x, y = at(0, k * step).split(",")
        parts.append(f'<path d="M{x},{y}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end" fill="{SOFT}">'
            f"{k * step:.6g}</text>"
        )
    across = round_step(len(values) / 6)
    for k in range(0, len(values), max(int(across), 1)):
        x = at(k, 0).partition(",")[0]
        parts.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{SOFT}">'
            f"{k}</text>"
        )
    middle = LEFT + span_x / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" fill="{SOFT}">'
        f"{escape(x_name)}</text>"
    )
    for shown, colour, width in ((values, FAINT, 1), (running_mean(values), LINE, 2.4)):
        points = " ".join([at(k, value) for k, value in enumerate(shown)])
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )
    return "\n".join([*parts, "</svg>\n"])


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (times a power of ten) that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * k for k in (1, 2, 5, 10) if power * k >= least * 0.999)


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of the last thirtieth of the curve up to each value."""
    window = max(len(values) // 30, 1)
    means, total = [], 0.0
    for k, value in enumerate(values):
        total += value - (values[k - window] if k >= window else 0.0)
        means.append(total / min(k + 1, window))
    return means
