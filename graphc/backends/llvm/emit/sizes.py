"""Sizes that are known when a kernel or an entry starts, as i64 text."""

from __future__ import annotations

from typing import Protocol

from graphc.ir.dims import AnyDim
from graphc.passes.loop.ir import BlockCount, BlockStep, Bound, RoundDown, RowBlock, RowBlocks

RunTimeBound = RoundDown | BlockStep | RowBlock | RowBlocks | BlockCount
RUN_TIME_BOUNDS = (RoundDown, BlockStep, RowBlock, RowBlocks, BlockCount)


class SizeText(Protocol):
    """What prints i64 values: numbers are text too."""

    def let(self, text: str) -> str: ...

    def declare(self, text: str) -> None: ...

    def size(self, size: AnyDim) -> str: ...

    def bound(self, bound: Bound) -> str: ...


def is_number(text: str) -> bool:
    return text[0] != "%"


def extreme(p: SizeText, name: str, a: str, b: str) -> str:
    """The smaller (smin) or larger (smax) of two."""
    if is_number(a) and is_number(b):
        return str((min if name == "smin" else max)(int(a), int(b)))
    p.declare(f"i64 @llvm.{name}.i64(i64, i64)")
    return p.let(f"call i64 @llvm.{name}.i64(i64 {a}, i64 {b})")


def run_time_bound(p: SizeText, bound: RunTimeBound) -> str:
    """A bound that is more than a polynomial of sizes."""
    if isinstance(bound, RoundDown):
        return p.let(f"and i64 {p.size(bound.size)}, {-bound.multiple}")
    if isinstance(bound, BlockStep):
        size = p.size(bound.size)
        short = p.let(f"icmp slt i64 {size}, {bound.limit}")
        step = p.let(f"select i1 {short}, i64 {size}, i64 {bound.block}")
        return extreme(p, "smax", step, "1")
    if isinstance(bound, RowBlock):
        return _rows_per_block(p, p.size(bound.rows))
    if isinstance(bound, RowBlocks):
        return ceiling(p, p.size(bound.rows), p.bound(RowBlock(bound.rows)))
    return ceiling(p, p.size(bound.size), p.bound(bound.step))


def ceiling(p: SizeText, size: str, step: str) -> str:
    """size / step, rounded up."""
    if is_number(size) and is_number(step):
        return str(-(-int(size) // int(step)))
    above = p.let(f"add nsw i64 {size}, {step}")
    last = p.let(f"add nsw i64 {above}, -1")
    return p.let(f"sdiv i64 {last}, {step}")


def _rows_per_block(p: SizeText, rows: str) -> str:
    """`passes.loop.ir.rows_per_block`: max(32, 2 << (bits(rows - 1) + 1) / 2)."""
    p.declare("i64 @llvm.ctlz.i64(i64, i1)")
    last = extreme(p, "smax", p.let(f"sub i64 {rows}, 1"), "0")
    zeros = p.let(f"call i64 @llvm.ctlz.i64(i64 {last}, i1 false)")
    bits = p.let(f"sub i64 65, {zeros}")
    half = p.let(f"lshr i64 {bits}, 1")
    return extreme(p, "smax", p.let(f"shl i64 2, {half}"), "32")
