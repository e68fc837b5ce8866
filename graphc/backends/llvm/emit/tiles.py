"""Square tiles: loaded along one loop, transposed by shuffles, read along the other."""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.passes.fuse.affine import Affine
from graphc.passes.fuse.expr import Expr
from graphc.passes.loop.ir import RowTiles, TileLoad

from .access import address, load_vector
from .combine import lanes_below
from .printer import Binding, Printer


def print_tile_load(p: Printer, s: TileLoad) -> None:
    """Loads and transposes the tiles of all loads into memory of this call."""
    mask = _enter_tile(p, s)
    for expr in s.loads:
        dtype = expr.dtype
        kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
        slot = p.slot(kind, p.width * p.width)
        for row, name in enumerate(transpose(p, vector, _rows(p, s, expr, mask))):
            at = p.element(slot, str(row * p.width), kind)
            p.do(f"store {vector} {name}, ptr {at}, align {dtype.itemsize}")
        p.tiles[expr] = (slot, s.start, s.step)


def print_row_tiles(p: Printer, s: RowTiles) -> None:
    """The same into rows of scratch; the last vector is stored whole, behind the row's end."""
    mask = _enter_tile(p, s)
    for expr, offset in zip(s.loads, s.offsets, strict=True):
        dtype = expr.dtype
        kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
        slot = p.first(f"getelementptr i8, ptr %S, i64 {p.size(offset)}")
        terms = [(s.lane, 1), (s.step, s.length), (s.first, s.length * -1)]
        place = Affine(0, tuple(sorted(terms)))
        here = address(p, slot, place, kind, 0)
        for row, name in enumerate(transpose(p, vector, _rows(p, s, expr, mask))):
            at = p.element(here, p.size(s.length * row), kind)
            p.do(f"store {vector} {name}, ptr {at}, align {dtype.itemsize}")
        p.row_tiles[expr] = slot, place


def _enter_tile(p: Printer, s: TileLoad | RowTiles) -> str | None:
    """Goes to the first of the tile's steps; the steps that exist, None where all do."""
    start = p.env[s.start]
    p.env[s.step] = Binding(start.name, start.depth, start.range)
    n = p.kernel.extents[s.step]
    if p.sizes.divides(p.width, n):
        return None
    return lanes_below(p, p.sub(p.size(n), start.name))


def _rows(p: Printer, s: TileLoad | RowTiles, expr: Expr, mask: str | None) -> list[str]:
    """One vector along the step for each lane; lanes that do not exist repeat the last."""
    access, dtype = expr.payload, expr.dtype
    kind = memory_element(dtype)
    start = address(p, p.buffer(access.buffer), access.form, kind, 0)
    stride = p.size(dict(p.form(access.form).terms)[s.lane])
    last = None
    if p.mask is not None:
        size = p.size(p.kernel.extents[s.lane])
        last = p.sub(p.sub(size, "1"), p.env[s.lane].name)
    rows = []
    for j in range(p.width):
        lane = str(j) if last is None else p.least(str(j), last)
        rows.append(load_vector(p, p.element(start, p.mul(lane, stride), kind), dtype, mask))
    return rows


def transpose(p: Printer, kind: str, rows: list[str]) -> list[str]:
    """A square of registers, transposed in log2(width) rounds of shuffles."""
    width = p.width
    distance = width // 2
    while distance:
        made = list(rows)
        for i in range(width):
            if i & distance:
                continue
            low, high = rows[i], rows[i + distance]
            for upper, place in ((0, i), (distance, i + distance)):
                lanes = [
                    (j & ~distance) + upper + (width if j & distance else 0) for j in range(width)
                ]
                made[place] = p.shuffle(kind, low, high, lanes)
        rows = made
        distance //= 2
    return rows
