"""Schedules that autotuning tries: for a problem its default one, then a few others.

All of a list give equal bits: their `order_of_sums` is that of the default. Most differ from it in
one respect. The likeliest come first, since the time to try them is limited.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.conv_schedule import (
    ConvSchedule,
    WeightGradSchedule,
    schedule_conv,
    schedule_weight_grad,
)
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.gemm_form import GemmProblem, is_turned, may_serve, turn
from graphc.backends.llvm.contract.gemm_schedule import (
    GemmSchedule,
    schedule_gemm,
    tile_choices,
    tile_cost,
)
from graphc.backends.llvm.contract.winograd import (
    WinogradProblem,
    WinogradSchedule,
    schedule_winograd,
)
from graphc.backends.llvm.target import Target

#: Schedules of a list at most, the default one included.
MOST = 12

_Schedule = TypeVar("_Schedule")


def _listed(default: _Schedule, others: Iterable[_Schedule], order: Any = None) -> list[_Schedule]:
    """Without repetitions, and without what adds up in another order than the default."""
    kept = [other for other in others if order is None or order(other) == order(default)]
    return list(dict.fromkeys([default, *kept]))[:MOST]


def gemm_schedules(problem: GemmProblem, target: Target) -> list[GemmSchedule]:
    """Of a matrix product; one only where it takes the dot form, or sums halves or integers."""
    default = schedule_gemm(problem, target)
    of = element(problem.dtype)
    if of.is_half or not of.floating or may_serve(problem, target):
        return [default]
    if is_turned(problem, target):
        problem = turn(problem)
    return _listed(default, _gemm_others(problem, default, target))


def _gemm_others(
    problem: GemmProblem, default: GemmSchedule, target: Target
) -> Iterator[GemmSchedule]:
    lanes = target.lanes(element(problem.dtype).accumulator.bits)
    columns, k = default.vectors * lanes, problem.k
    tiles = [
        replace(
            default,
            rows=rows,
            vectors=vectors,
            row_block=_whole(default.row_block, rows),
            column_block=_whole(default.column_block, max(vectors * lanes, problem.panel)),
        )
        for rows, vectors in _other_tiles(problem, default, target, lanes)
    ]
    yield from tiles[:2]
    if k:
        for block in (256, 128, k):  # visits of the output against panels in the first cache
            yield replace(default, k_block=-(-k // -(-k // block)))
    if not default.pack_a:
        yield replace(default, columns_first=not default.columns_first)
    yield replace(default, column_block=_whole(default.column_block // 2, columns))
    if problem.n is None or default.column_block < problem.n:
        yield replace(default, column_block=default.column_block * 2)
    if not problem.transpose_b and not problem.panel:
        yield replace(default, pack_b=not default.pack_b, columns_first=False)
    if default.ahead:
        yield replace(default, ahead="")
    yield replace(default, pack_a=not default.pack_a, columns_first=False)
    yield replace(default, row_block=default.row_block * 2)
    yield replace(default, row_block=_whole(default.row_block // 2, default.rows))
    yield from tiles[2:]


def _other_tiles(
    problem: GemmProblem, default: GemmSchedule, target: Target, lanes: int
) -> list[tuple[int, int]]:
    """(rows, vectors) of the best tile of each other width, the cheapest first."""
    found = []
    for most, vectors in tile_choices(target):
        if problem.panel % (vectors * lanes) or vectors == default.vectors:
            continue
        m, n = problem.m or most, problem.n or vectors * lanes
        tiles = -(-m // most)
        rows = -(-m // tiles)  # as even as can be
        cost = tile_cost(rows, vectors) * tiles * -(-n // (vectors * lanes))
        found.append((cost, rows, vectors))
    return [(rows, vectors) for _, rows, vectors in sorted(found)]


def _whole(size: int, step: int) -> int:
    """About `size`, at least one step and a multiple of it."""
    return max(size // step, 1) * step


def conv_schedules(
    c: Correlation, target: Target, lanes: int, item_bytes: int, across: int | None = None
) -> list[ConvSchedule]:
    """Of a direct correlation. across: as for `schedule_conv`."""
    default = schedule_conv(c, target, lanes, item_bytes, across)
    others = _conv_others(c, default, target, lanes, across)
    return _listed(default, others, lambda schedule: schedule.order_of_sums(c))


def _conv_others(
    c: Correlation, default: ConvSchedule, target: Target, lanes: int, across: int | None
) -> Iterator[ConvSchedule]:
    heights = [axis.count for axis in c.axes[1] if axis.count]
    widths = [axis.count for axis in c.axes[2] if axis.count]
    if not heights or not widths:
        return
    height, width, least = max(heights), max(widths), min(heights)
    found = []
    for most, vectors in tile_choices(target):
        if across is not None and vectors != across:
            continue
        panels = -(-c.target_channels // (vectors * lanes))
        for columns in range(1, min(most, min(widths)) + 1):
            for rows in range(1, min(most // columns, max(1, least // default.bands)) + 1):
                tiles = -(-width // columns) * -(-height // rows)
                cost = tiles * panels * tile_cost(rows * columns, vectors)
                found.append((cost, vectors != default.vectors, rows, columns, vectors))
    tiles_of: dict[int, int] = {}
    for _, _, rows, columns, vectors in sorted(found):
        tiles_of[vectors] = tiles_of.get(vectors, 0) + 1
        if tiles_of[vectors] <= 3:
            yield replace(default, rows=rows, columns=columns, vectors=vectors)
    yield replace(default, by_channels=not default.by_channels)
    for bands in (default.bands * 2, default.bands // 2, 1):
        if 1 <= bands <= max(1, least // default.rows):
            yield replace(default, bands=bands, by_channels=bands == 1)


def weight_grad_schedules(
    c: Correlation, target: Target, lanes: int, item_bytes: int
) -> list[WeightGradSchedule]:
    """Of the gradient of a correlation's weights."""
    default = schedule_weight_grad(c, target, lanes, item_bytes)
    others = _weight_grad_others(c, default, target)
    return _listed(default, others, lambda schedule: schedule.order_of_sums(c))


def _weight_grad_others(
    c: Correlation, default: WeightGradSchedule, target: Target
) -> Iterator[WeightGradSchedule]:
    if default.taps == (1, 1):
        for most, vectors in tile_choices(target):
            fits = [
                rows
                for rows in range(1, min(most, default.block, c.source_channels) + 1)
                if default.block % rows == 0 or rows == c.source_channels
            ]
            yield replace(default, rows=fits[-1], vectors=vectors)
    yield replace(default, by_output=not default.by_output)
    if default.images > 1:
        yield replace(default, images=default.images // 2)
    if default.bands == 1:
        yield replace(default, images=default.images * 2)
    else:
        yield replace(default, bands=-(-default.bands // 2))
        yield replace(default, bands=min(default.bands * 2, c.target[1]))


def winograd_schedules(
    p: WinogradProblem, target: Target, lanes: int, across: int
) -> list[WinogradSchedule]:
    """Of a convolution by Winograd's algorithm whose weight has panels of `across` vectors."""
    default = schedule_winograd(p, target, lanes, across)
    most = next(most for most, vectors in tile_choices(target) if vectors == across)
    whole = [
        replace(default, block=_whole(block, default.rows))
        for block in (default.block * 2, default.block // 2, default.block // 4)
    ]
    other = [
        replace(default, rows=rows, block=_whole(default.block, rows))
        for rows in (most, max(1, most * 3 // 4), max(1, most // 2))
    ]
    return _listed(default, [*whole, *other])
