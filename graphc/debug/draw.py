"""A picture as SVG: boxes in layers, kernels as frames around their ops, colours by family."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from .family import RESULT
from .layout import Edge, Layout, Point, layered
from .picture import Item, Picture, Port

FONT = "Inter,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
MONO = "'JetBrains Mono','SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"
MARGIN = 22.0
PAD_X = 11.0
FRAME_PAD, FRAME_HEAD = 14.0, 25.0
INK, SOFT, EDGE = "#212529", "#6c757d", "#adb5bd"
FRAME_FILL, FRAME_STROKE = "#f8f9fc", "#98a6c3"
#: Boxes beyond this many make a picture that nobody reads and a layout that takes minutes.
MOST_ITEMS = 3000

# Widths of characters, in hundredths of the font's size, as Helvetica and its kin have them.
_WIDE = dict.fromkeys("mwMW@%—…", 88) | dict.fromkeys("ABCDEGHKNOPQRSUVXYZ&+<>=×−·", 69)
_WIDE |= dict.fromkeys("iljtfI.,:;'|!()[]{} /", 33) | dict.fromkeys("rsJ-_", 46)


class TooLarge(ValueError):
    """A picture with more boxes than can be drawn."""


@dataclass(slots=True)
class _Line:
    """A line of a label: runs of (text, style) where a style is one of `_STYLES`."""

    runs: list[tuple[str, str]]
    height: float

    @property
    def width(self) -> float:
        return sum([text_width(text, style) for text, style in self.runs])


_STYLES = {  # font size, weight, monospaced, colour
    "title": (13.0, 600, False, INK),
    "note": (11.5, 400, False, "#495057"),
    "detail": (10.5, 400, False, SOFT),
    "type": (10.5, 400, True, "#495057"),
    "loc": (9.5, 400, False, "#868e96"),
    "kernel": (11.5, 600, False, "#3b4a6b"),
    "kernel note": (10.5, 400, False, "#7383a3"),
    "light": (12.0, 600, False, "#ffffff"),
    "heading": (16.0, 600, False, INK),
    "heading note": (12.0, 400, False, SOFT),
}


def text_width(text: str, style: str) -> float:
    size, weight, mono, _ = _STYLES[style]
    if mono:
        return len(text) * size * 0.61
    hundredths = sum([_WIDE.get(character, 57) for character in text])
    return hundredths * size / 100 * (1.06 if weight > 500 else 1.0)


@dataclass(slots=True)
class _Placed:
    """A box with its size, its label and what lies inside."""

    item: Item
    lines: list[_Line]
    width: float
    height: float
    inner: _Drawing | None = None


@dataclass(slots=True)
class _Drawing:
    """A picture with its layout."""

    picture: Picture
    boxes: dict[Item, _Placed]
    layout: Layout
    edges: list[Edge]


def draw(picture: Picture, note: str = "", compact: bool = False) -> str:
    """The picture as the text of an SVG file; compact: one line a box.

    Raises TooLarge beyond `MOST_ITEMS` boxes.
    """
    width, height, body = draw_body(picture, note, compact)
    return svg_document(width, height, body)


def draw_side_by_side(pictures: Sequence[tuple[Picture, str]], compact: bool = True) -> str:
    """Several pictures, each with its note, beside each other in one SVG file."""
    x, tallest, parts = 0.0, 0.0, []
    for picture, note in pictures:
        width, height, body = draw_body(picture, note, compact)
        parts.append(f'<g transform="translate({x:.1f},0)">\n{body}\n</g>')
        x += width
        tallest = max(tallest, height)
    return svg_document(x, tallest, "\n".join(parts))


def svg_document(width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="{FONT}">\n'
        f'<rect width="100%" height="100%" rx="10" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def draw_body(picture: Picture, note: str = "", compact: bool = False) -> tuple[float, float, str]:
    """Width, height and the elements of a picture, its heading and legend included."""
    count = sum([1 for _ in picture.walk()])
    if count > MOST_ITEMS:
        raise TooLarge(f"a picture of {count} boxes; {MOST_ITEMS} are the most that is drawn")
    drawing = _arrange(picture, compact)
    heading, y = [], MARGIN
    widest = drawing.layout.width
    if picture.title:
        line = _Line([(picture.title, "heading"), (f"   {note}" * bool(note), "heading note")], 20)
        heading.append(_text(MARGIN, y + 14, line))
        widest = max(widest, line.width)
        y += 28
    legend, legend_width = _legend(picture, MARGIN, y)
    widest = max(widest, legend_width)
    y += 26
    left = MARGIN + (widest - drawing.layout.width) / 2
    body = "\n".join([*heading, *legend, *_render(drawing, left, y)])
    return widest + 2 * MARGIN, y + drawing.layout.height + MARGIN, body


def _legend(picture: Picture, x: float, y: float) -> tuple[list[str], float]:
    """The families that occur, in the order of their first use."""
    found = dict.fromkeys([item.family for item in picture.walk() if item.inside is None])
    parts, start = [], x
    for family in found:
        if family.name in ("inputs", "results"):
            continue
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="11" height="11" rx="3" '
            f'fill="{family.fill}" stroke="{family.stroke}"/>'
        )
        line = _Line([(family.name, "detail")], 12)
        parts.append(_text(x + 16, y + 9.5, line))
        x += 16 + line.width + 16
    return parts, x - start


# --- arrangement ---------------------------------------------------------------------------------


def _arrange(picture: Picture, compact: bool) -> _Drawing:
    """Sizes from the inside out, then the layout."""
    boxes = {item: _measure(item, compact) for item in picture.items}
    sizes: dict[Hashable, tuple[float, float]] = {
        item: (box.width, box.height) for item, box in boxes.items()
    }
    edges = []
    for link in picture.links:
        edges.append(
            Edge(
                link.source,
                link.target,
                _port_at(boxes[link.source], link.source_port),
                _port_at(boxes[link.target], link.target_port),
            )
        )
    top = {port: None for port, _ in picture.entries}
    bottom = {port: None for _, port in picture.exits}
    for port in (*top, *bottom):
        sizes[port] = (4.0, 0.0)
    for port, item in picture.entries:
        edges.append(Edge(port, item))
    for item, port in picture.exits:
        edges.append(Edge(item, port))
    inner = bool(top or bottom)
    gaps = (14.0, 10.0 if compact else 16.0) if inner else (24.0, 16.0 if compact else 30.0)
    layout = layered(sizes, edges, gap_x=gaps[0], gap_y=gaps[1], top=top, bottom=bottom)
    return _Drawing(picture, boxes, layout, edges)


def _port_at(box: _Placed, port: Port | None) -> float:
    """Where the port is on the frame, from its middle."""
    if port is None or box.inner is None:
        return 0.0
    x = box.inner.layout.middle[port][0]
    return x - box.inner.layout.width / 2


def _measure(item: Item, compact: bool) -> _Placed:
    lines = _label(item, compact)
    width = max(line.width for line in lines)
    if item.inside is not None and item.inside.items:
        inner = _arrange(item.inside, compact)
        width = max(width, inner.layout.width) + 2 * FRAME_PAD
        ported = item.inside.entries or item.inside.exits
        height = FRAME_HEAD + inner.layout.height + (0.0 if ported else FRAME_PAD)
        return _Placed(item, lines, width, height, inner)
    height = sum([line.height for line in lines]) + 11
    return _Placed(item, lines, max(width + 2 * PAD_X, 46.0), height)


def _label(item: Item, compact: bool) -> list[_Line]:
    if item.inside is not None and item.inside.items:
        return [
            _Line([(item.title, "kernel"), (f"  {item.note}  {item.detail}", "kernel note")], 16)
        ]
    if item.family is RESULT:
        return [_Line([(item.title, "light"), (f"  {item.note}" * bool(item.note), "light")], 15)]
    lines = [_Line([(item.title, "title"), (f"  {item.note}" * bool(item.note), "note")], 16)]
    if compact:
        lines[0].runs.append((f"  {item.type}" * bool(item.type), "type"))
        return lines
    if item.detail:
        lines.append(_Line([(item.detail, "detail")], 14))
    if item.type:
        lines.append(_Line([(item.type, "type")], 14))
    if item.loc:
        lines.append(_Line([(short_loc(item.loc), "loc")], 12))
    return lines


def short_loc(loc: str) -> str:
    """ "net.py:12 in forward (0.conv) & net.py:14 in forward" as "net.py:12 · 0.conv + 1 more"."""
    first, *others = loc.split(" & ")
    first = first.partition(" via ")[0]
    place, _, rest = first.partition(" in ")
    path = rest.partition(" (")[2].rstrip(")")
    shown = f"{place} · {path}" if path else place
    return f"{shown} + {len(others)} more" if others else shown


# --- elements ------------------------------------------------------------------------------------


def _render(drawing: _Drawing, left: float, top: float) -> list[str]:
    """Frames with what they contain, then edges, boxes, and the titles of the frames on top."""
    frames, edges, boxes, titles = [], [], [], []
    for item, box in drawing.boxes.items():
        x, y = drawing.layout.middle[item]
        x, y = left + x - box.width / 2, top + y - box.height / 2
        if box.inner is not None:
            frames += _frame(box, x, y)
            titles.append(_text(x + 10, y + 16, box.lines[0], halo=True))
        else:
            boxes += _box(box, x, y)
    for edge, route in zip(drawing.edges, drawing.layout.routes):
        at_box = isinstance(edge.target, Item) and drawing.boxes[edge.target].inner is None
        edges.append(_edge([(left + x, top + y) for x, y in route], at_box, edge))
    return frames + edges + boxes + titles


def _frame(box: _Placed, x: float, y: float) -> list[str]:
    """The frame of a kernel or of blocks, the lines through its head, and its inside."""
    assert box.inner is not None
    inner_left = x + (box.width - box.inner.layout.width) / 2
    parts = [
        f'<g class="frame" data-item="{box.item.number}">{_tip(box.item)}'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="9" '
        f'fill="{FRAME_FILL}" stroke="{FRAME_STROKE}" stroke-width="1.2"/></g>'
    ]
    for port in dict.fromkeys([port for port, _ in box.inner.picture.entries]):
        at = inner_left + box.inner.layout.middle[port][0]
        line = f'd="M{at:.1f},{y:.1f}v{FRAME_HEAD:g}" fill="none"'
        parts.append(f'<path {line} stroke="{EDGE}" stroke-width="1.4"/>')
    return parts + _render(box.inner, inner_left, y + FRAME_HEAD)


def _box(box: _Placed, x: float, y: float) -> list[str]:
    family, item = box.item.family, box.item
    radius = 15.0 if family.name in ("inputs", "results") else 6.0
    parts = [
        f'<g class="node" data-item="{item.number}">{_tip(item)}'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="{min(radius, box.height / 2):.1f}" fill="{family.fill}" stroke="{family.stroke}" '
        f'stroke-width="1.2"/>'
    ]
    baseline = y + 5
    for line in box.lines:
        baseline += line.height
        parts.append(_text(x + box.width / 2, baseline - 3.5, line, middle=True))
    parts[-1] += "</g>"
    return parts


def _tip(item: Item) -> str:
    text = "\n".join([part for part in (item.text, item.loc) if part])
    return f"<title>{escape(text, quote=False)}</title>" if text else ""


def _text(x: float, y: float, line: _Line, middle: bool = False, halo: bool = False) -> str:
    spans = []
    for text, style in line.runs:
        if not text:
            continue
        size, weight, mono, colour = _STYLES[style]
        font = f' font-family="{MONO}"' if mono else ""
        bold = f' font-weight="{weight}"' if weight != 400 else ""
        spans.append(
            f'<tspan font-size="{size:g}"{bold}{font} fill="{colour}">'
            f"{escape(text, quote=False)}</tspan>"
        )
    more = ' text-anchor="middle"' if middle else ""
    if halo:
        more += f' paint-order="stroke" stroke="{FRAME_FILL}" stroke-width="4"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{more} xml:space="preserve">{"".join(spans)}</text>'


def _edge(route: list[Point], arrow: bool, edge: Edge) -> str:
    """Straight within layers, S-curves between them, with a small head where it ends at a box."""
    points = list(route)
    if arrow:
        x, y = points[-1]
        points[-1] = (x, y - 5)
    d = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (ax, ay), (bx, by) in pairwise(points):
        if abs(ax - bx) < 0.05:
            d += f"V{by:.1f}" if abs(ay - by) > 0.05 else ""
            continue
        half = (ay + by) / 2
        d += f"C{ax:.1f},{half:.1f} {bx:.1f},{half:.1f} {bx:.1f},{by:.1f}"
    ends = _ends(edge)
    made = f'<path class="edge"{ends} d="{d}" fill="none" stroke="{EDGE}" stroke-width="1.4"/>'
    if arrow:
        x, y = route[-1]
        made += f'<path d="M{x - 3.6:.1f},{y - 6.5:.1f}h7.2L{x:.1f},{y:.1f}z" fill="#868e96"/>'
    return made


def _ends(edge: Edge) -> str:
    parts = []
    for name, end in (("from", edge.source), ("to", edge.target)):
        if isinstance(end, Item):
            parts.append(f' data-{name}="{end.number}"')
    return "".join(parts)
