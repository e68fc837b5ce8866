"""Square tiles: loaded along one loop, transposed by shuffles, read along the other."""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.passes.fuse.affine import Affine, Variable
from graphc.passes.fuse.expr import Expr
from graphc.passes.loop.ir import RowTiles, TileLoad

from .access import address, load_vector, prefetch
from .combine import lanes_below
from .printer import Binding, Printer


def print_tile_load(p: Printer, s: TileLoad) -> None:
    """Loads and transposes the tiles of all loads into memory of this call."""
    mask = _enter_tile(p, s, s.steps)
    for expr in s.loads:
        dtype = expr.dtype
        kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
        slots = []
        for u in p.active:
            slots.append(p.slot(kind, s.steps * p.width))
            rows = _side_by_side(p, kind, _rows(p, s, expr, u, mask, s.steps, s.ahead), s.steps)
            for row, name in enumerate(transpose(p, vector, rows)):
                at = p.element(slots[-1], str(row * p.width), kind)
                p.do(f"store {vector} {name}, ptr {at}, align {dtype.itemsize}")
        p.tiles[expr] = (slots, s.start, s.step)


def print_row_tiles(p: Printer, s: RowTiles) -> None:
    """The same into rows of scratch; the last vector is stored whole, behind the row's end."""
    mask = _enter_tile(p, s, p.width)
    for expr, offset in zip(s.loads, s.offsets, strict=True):
        dtype = expr.dtype
        kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
        slot = p.first(f"getelementptr i8, ptr %S, i64 {p.size(offset)}")
        terms = [(s.lane, 1), (s.step, s.length), (s.first, s.length * -1)]
        place = Affine(0, tuple(sorted(terms)))
        here = address(p, slot, place, kind, 0)
        for row, name in enumerate(transpose(p, vector, _rows(p, s, expr, 0, mask, p.width))):
            at = p.element(here, p.size(s.length * row), kind)
            p.do(f"store {vector} {name}, ptr {at}, align {dtype.itemsize}")
        p.row_tiles[expr] = slot, place


def _enter_tile(p: Printer, s: TileLoad | RowTiles, steps: int) -> str | None:
    """Goes to the first of the tile's steps; the steps that exist, None where all do."""
    start = p.env[s.start]
    p.env[s.step] = Binding(start.name, start.depth, start.range)
    n = p.kernel.extents[s.step]
    if p.sizes.divides(steps, n):
        return None
    mask = lanes_below(p, p.sub(p.size(n), start.name))
    if steps < p.width:
        mask = p.shuffle(p.mask_kind, mask, "poison", list(range(steps)))
    return mask


def _rows(
    p: Printer,
    s: TileLoad | RowTiles,
    expr: Expr,
    u: int,
    mask: str | None,
    steps: int,
    fetched: tuple[Variable, int] | None = None,
) -> list[str]:
    """The steps of each lane; lanes that do not exist repeat the last."""
    access, dtype = expr.payload, expr.dtype
    kind = memory_element(dtype)
    start = address(p, p.buffer(access.buffer), access.form, kind, u)
    stride = p.size(dict(p.form(access.form).terms)[s.lane])
    ahead = last = None
    if fetched is not None:
        variable, count = fetched
        ahead = p.mul(str(count), stride if variable == s.lane else "1")
    if p.mask is not None:
        size = p.size(p.kernel.extents[s.lane])
        last = p.sub(p.sub(size, "1"), p.env[s.lane].name)
    rows = []
    for j in range(p.width):
        lane = str(j) if last is None else p.least(str(j), last)
        at = p.element(start, p.mul(lane, stride), kind)
        rows.append(load_vector(p, at, dtype, mask, steps))
        if ahead is not None:
            prefetch(p, at, ahead, kind)
    return rows


def _side_by_side(p: Printer, kind: str, rows: list[str], steps: int) -> list[str]:
    """As many whole vectors as a row has steps: row k, row k + steps, ... one after the other."""
    lanes = steps
    while lanes < p.width:
        joined = ", ".join([f"i32 {j}" for j in range(2 * lanes)])
        rows = [
            p.let(
                f"shufflevector <{lanes} x {kind}> {rows[k]}, <{lanes} x {kind}> "
                f"{rows[k + steps]}, <{2 * lanes} x i32> <{joined}>"
            )
            for first in range(0, len(rows), 2 * steps)
            for k in range(first, first + steps)
        ]
        lanes *= 2
    return rows


def transpose(p: Printer, kind: str, rows: list[str]) -> list[str]:
    """Squares of as many lanes as there are rows, transposed in rounds of shuffles."""
    width = p.width
    distance = len(rows) // 2
    while distance:
        made = list(rows)
        for i in range(len(rows)):
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
