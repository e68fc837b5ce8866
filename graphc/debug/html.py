"""Pictures, kernels and source lines as one self-contained page: nothing is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .draw import draw_body, svg_document
from .picture import Picture

_LINE = re.compile(r"([^\s:&]+):(\d+)")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class View:
    """A tab of the page: `name` on the tab, `note` beside the page's title."""

    name: str
    picture: Picture
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table below the details. Rows whose first cell is an item's title lead to that item."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def page(
    title: str,
    views: Sequence[View],
    sources: Mapping[str, str] | None = None,
    table: Table | None = None,
) -> str:
    """The text of an HTML file.

    sources: the text of each source file, by the name that the nodes' lines have.
    """
    drawn = [draw_body(view.picture) for view in views]
    data = {
        "views": [
            {
                "note": view.note,
                "size": [round(width), round(height)],
                "items": _items(view.picture),
            }
            for view, (width, height, _) in zip(views, drawn)
        ]
    }
    folder = Path(__file__).parent
    tabs = "".join([f"<button>{escape(view.name)}</button>" for view in views])
    script = (folder / "page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{(folder / 'page.css').read_text(encoding='utf-8')}</style></head>\n"
        f'<body><header><h1>{escape(title)}</h1><span class="note"></span>'
        f"<nav>{tabs}</nav></header>\n"
        f'<div id="stage">{"".join([svg_document(*part) for part in drawn])}'
        '<div id="tools"><button id="in" title="+">+</button>'
        '<button id="out" title="-">−</button><button id="fit" title="0">whole</button>'
        "</div></div>\n"
        f'<aside><div id="detail"></div><div id="report">{_table(table)}</div>'
        f'<div id="source">{_sources(views, sources or {})}</div></aside>\n'
        f'<script id="data" type="application/json">{_json(data)}</script>\n'
        f"<script>\n{script}</script></body></html>\n"
    )


def _items(picture: Picture) -> list[dict[str, Any]]:
    """By number, what the page shows of each item."""
    return [
        {
            "title": item.title,
            "text": item.text,
            "loc": item.loc.replace(" & ", "\n"),
            "lines": source_lines(item.loc),
        }
        for item in picture.walk()
    ]


def source_lines(loc: str) -> list[str]:
    """ "a.py:3 in f & b.py:4 in g" as ["a.py:3", "b.py:4"]."""
    found = [_LINE.match(part.strip()) for part in loc.split(" & ")]
    return list(dict.fromkeys([match.group(0) for match in found if match]))


def _json(data: Any) -> str:
    """JSON that no HTML parser takes for the end of the script."""
    return (
        json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        .replace("</", "<\\/")
        .replace("<!--", "<\\u0021--")
    )


def _sources(views: Sequence[View], sources: Mapping[str, str]) -> str:
    used = {
        line for view in views for item in view.picture.walk() for line in source_lines(item.loc)
    }
    parts = []
    for name, text in sources.items():
        lines = []
        for number, line in enumerate(text.splitlines(), 1):
            key = f"{name}:{number}"
            mark = ' class="used"' if key in used else ""
            lines.append(
                f'<div data-line="{escape(key)}"{mark}><i>{number}</i>{escape(line, False)}</div>'
            )
        parts.append(f"<h2>{escape(name)}</h2><pre>{''.join(lines)}</pre>")
    return "".join(parts)


def _table(table: Table | None) -> str:
    if table is None:
        return ""
    head = "".join([f"<th>{escape(cell)}</th>" for cell in table.head])
    rows = []
    for row in table.rows:
        cells = [f"<td{_number_class(cell)}>{escape(cell, False)}</td>" for cell in row]
        rows.append(f'<tr data-title="{escape(row[0])}">{"".join(cells)}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _number_class(cell: str) -> str:
    return ' class="n"' if cell[:1].isdigit() else ""
