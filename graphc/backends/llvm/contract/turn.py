"""Batches of matrices turned around: rows become columns, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, entry_emitter
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

#: Rows of a unit: a line of the cache in the result. Their columns are turned a few at a time,
#: so that the lines are full while they are in the first cache.
LINE_BYTES, COLUMNS = 64, 128


def turned(batch: int | None, m: int, n: int, dtype: str, target: Target) -> Kernel:
    """Operands x [batch, m, n] and out [batch, n, m], f32 or f64; batch None if symbolic."""
    builder, sizes = KernelBuilder(), ("batch",) if batch is None else ()
    emitter = entry_emitter(("x", "out"), sizes)
    stored = element(dtype)
    vector = Vector(emitter, stored, target)
    side = transpose_lanes(vector)
    turn = transposer(builder, vector, stored, exact=m % side != 0)
    step = max(side, LINE_BYTES // stored.bytes)
    blocks = -(-m // step)

    def unit(number: Index, _none: Sequence[str]) -> None:
        image = emitter.floor_div(number, blocks)
        first = emitter.mul(emitter.remainder(number, image, blocks), step)
        matrix = emitter.mul(image, m * n)
        x, out = vector.address("%x", matrix), vector.address("%out", matrix)
        end = emitter.minimum(emitter.add(first, step), m)

        def some(column: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(n, column), COLUMNS)
            to = vector.address(out, emitter.mul(column, m))

            def rows(at: Index, _none: Sequence[str]) -> None:
                here = vector.address(x, emitter.add(emitter.mul(at, n), column))
                counts: dict[str, Index] = {
                    "rows": emitter.minimum(emitter.sub(end, at), side),
                    "count": count,
                    "from_stride": n,
                    "to_stride": m,
                }
                turn.call(emitter, (here, vector.address(to, at)), counts)

            emitter.loop(first, end, side, rows)

        emitter.loop(0, n, COLUMNS, some)

    emitter.loop("%lo", "%hi", 1, unit)
    if batch is not None:
        units: int | str = batch * blocks
    else:
        count = Emitter(["i64 %batch"], result="i64")
        count.line(f"ret i64 {count.mul('%batch', blocks)}")
        units = builder.define("units", count)
    return builder.finish(
        "turned", emitter, operands=("x", "out"), sizes=sizes, units=units, scratch_bytes=0
    )
