"""A picture as lines for the terminal: one item a line, with rails that show the flow of data.

    0  ●        x            f32[32×1×8×8]
    1  ●        conv         f32[32×16×8×8]   0.weight             digits.py:26 · 0.Conv2d
    2  ├─●      mul          f32[32×16×8×8]
    3  ●─╯      add          f32[32×16×8×8]

The number is the item's layer: no item reads another one of its layer. Kernels are headings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .draw import short_loc
from .family import RESULT, Family
from .picture import Item, Picture, shorten

MOST_RAILS = 12
_RAILS = "│─╯┤┼╰├●╮┬"
_ASCII = "|-'+++`*.+"

#: Colours a text by a family, or (None) makes it faint.
Paint = Callable[[str, "Family | None"], str]


def plain(text: str, _: Family | None) -> str:
    return text


@dataclass(slots=True)
class _Row:
    """A line before its columns are aligned; `heading` rows have no columns."""

    layer: str
    rail: str
    item: Item | None
    heading: str = ""


def listing(
    picture: Picture, paint: Paint = plain, unicode: bool = True, width: int | None = None
) -> str:
    """The picture as text. width: where lines are cut (None: nowhere)."""
    rows: list[_Row] = []
    if picture.title:
        rows.append(_Row("", "", None, picture.title))
    _list(picture, rows, "")
    text = "\n".join(_align(rows, paint, width))
    if not unicode:
        text = text.translate(str.maketrans(_RAILS, _ASCII))
        text = text.translate({ord("×"): "x", ord("−"): "-", ord("·"): ".", ord("…"): "~"})
    return text


def _list(picture: Picture, rows: list[_Row], indent: str) -> None:
    rails = _Rails(picture)
    layers = _layers(picture)
    for item in picture.items:
        rail = rails.step(item)
        rows.append(_Row(str(layers[item]), indent + rail, item))
        if item.inside is not None:
            _list(item.inside, rows, indent + rails.passing() + "  ")


def _layers(picture: Picture) -> dict[Item, int]:
    layers = dict.fromkeys(picture.items, 0)
    above: dict[Item, list[Item]] = {item: [] for item in picture.items}
    for link in picture.links:
        above[link.target].append(link.source)
    for item in picture.items:
        layers[item] = max([layers[source] + 1 for source in above[item]], default=0)
    return layers


class _Rails:
    """Which item's value runs in which column, from the item that makes it to its last reader."""

    def __init__(self, picture: Picture) -> None:
        self.reads: dict[Item, dict[Item, None]] = {item: {} for item in picture.items}
        self.last: dict[Item, Item] = {}
        place = {item: k for k, item in enumerate(picture.items)}
        for link in picture.links:
            self.reads[link.target][link.source] = None
            last = self.last.get(link.source)
            if last is None or place[link.target] > place[last]:
                self.last[link.source] = link.target
        self.columns: list[Item | None] = []

    def step(self, item: Item) -> str:
        """The rails of the item's line; afterwards its own value runs."""
        columns = self.columns
        read = [k for k, value in enumerate(columns) if value in self.reads[item]]
        ends = [k for k in read if self.last[columns[k]] is item]  # type: ignore[index]
        if ends:
            own = ends[0]
        elif None in columns:
            own = columns.index(None)
        else:
            own = len(columns)
            columns.append(None)
        marks = ["│" if value is not None else " " for value in columns]
        marks[own] = "●"
        reach = [*read, own]
        for k in range(min(reach), max(reach) + 1):
            if k == own:
                continue
            if k in read:
                left = k < own
                marks[k] = ("╰" if left else "╯") if k in ends else ("├" if left else "┤")
            else:
                marks[k] = "┼" if columns[k] is not None else "─"
        for k in ends:
            columns[k] = None
        columns[own] = item if item in self.last else None
        while columns and columns[-1] is None:
            columns.pop()
        return _join(marks, min(reach), max(reach))

    def passing(self) -> str:
        """The rails beside a line that belongs to none of them."""
        return _join(["│" if value is not None else " " for value in self.columns], 0, 0)


def _join(marks: list[str], first: int, last: int) -> str:
    """Marks with a column between them, bridged from the first to the last end of a connection."""
    if len(marks) > MOST_RAILS:
        marks, last = [*marks[:MOST_RAILS], "…"], min(last, MOST_RAILS)
    text = ""
    for k, mark in enumerate(marks):
        text += mark + ("─" if first <= k < last else " ")
    return text


def _align(rows: list[_Row], paint: Paint, width: int | None) -> list[str]:
    items = [row for row in rows if row.item is not None]
    if not items:
        return [row.heading for row in rows]
    deep = max(len(row.layer) for row in items)
    rail = max(len(row.rail) for row in items)
    title = min(max(len(row.item.title) for row in items if row.item), 24)
    kind = min(max(len(_type(row.item)) for row in items if row.item), 34)
    note = min(max(len(_note(row.item)) for row in items if row.item), 44)
    lines = []
    for row in rows:
        item = row.item
        if item is None:
            lines.append(row.heading)
            continue
        room = None if width is None else max(width - deep - rail - title - 6, 12)
        texts = [
            f"{_type(item):{kind}}",
            f"{shorten(_note(item), 44):{note}}",
            short_loc(item.loc) if item.inside is None else "",
        ]
        rest = "  ".join(texts).rstrip()
        rest = rest if room is None else shorten(rest, room)
        head = f"{row.layer:>{deep}}  {row.rail:{rail}}"
        family = None if item.family is RESULT else item.family
        name = paint(f"{item.title:{title}}", family) if family else f"{item.title:{title}}"
        lines.append(f"{paint(head, None)} {name}  {paint(rest, None)}".rstrip())
    return lines


def _type(item: Item) -> str:
    return f"{item.note}  {item.detail}" if item.inside is not None else item.type


def _note(item: Item) -> str:
    if item.inside is not None:
        return ""
    return "  ".join([part for part in (item.note, item.detail) if part])
