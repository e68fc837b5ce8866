"""The last pass over sums that are complete in memory: epilogue, rounding, and their place."""

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.vector import Vector


def finisher(
    builder: KernelBuilder,
    like: Vector,
    source: Element,
    stored: Element,
    epilogue: Epilogue | None,
) -> Subroutine:
    """A subroutine over a rectangle of sums; source and destination may be the same memory.

    Pointers source, out and the epilogue's; indices: rows, columns, from_stride, to_stride, and
    batch, row and column of the first element, for the epilogue.
    """
    extra = epilogue.operands if epilogue else ()
    names = ["rows", "columns", "from_stride", "to_stride"]
    if epilogue is not None:
        names += ["batch", "row", "column"]
    pointers = ("source", "out", *extra)
    routine = Subroutine(pointers, dict.fromkeys(names), shared=pointers)
    emitter, values = routine.emitter, routine.values
    vector = like.on(emitter)
    arguments = tuple(f"%{name}" for name in extra)

    def one_row(step: Index, _carried: Sequence[str]) -> None:
        here = vector.address("%source", emitter.mul(step, values["from_stride"]), source)
        there = vector.address("%out", emitter.mul(step, values["to_stride"]), stored)

        def part(at: Index, mask: str | None) -> None:
            value = vector.load(vector.address(here, at, source), mask, source)
            if epilogue is not None:
                place = (
                    values["batch"],
                    emitter.add(values["row"], step),
                    emitter.add(values["column"], at),
                )
                value = epilogue.emit(emitter, value, Position(*place, mask, arguments))
            vector.store(value, vector.address(there, at, stored), mask, stored)

        columns = values["columns"]
        full = emitter.round_down(columns, vector.lanes)
        emitter.loop(0, full, vector.lanes, lambda at, _none: part(at, None))
        rest = emitter.sub(columns, full)
        emitter.when(emitter.less(0, rest), lambda: part(full, vector.mask(rest)))

    emitter.loop(0, values["rows"], 1, one_row)
    routine.define(builder, "finish")
    return routine
