"""The one microkernel: a tile of sums held in registers over a nest of k.

    tile[r, v] = start[r, v] + sum over k of A[rows[r] + offset(k)] * B[k * b_stride + v * lanes]

`offset` walks a nest of (extent, stride) levels, outer to inner, while B advances by one row
for each k. Matrix products, convolutions of every stride and dilation, and their gradients
are this loop with other displacements. Each element is one chain of multiply-adds in the order
of k, so its bits depend on neither the tile's shape nor the blocks that k is cut into.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.vector import Vector


@dataclass(frozen=True, slots=True)
class Nest:
    """The levels of k, outer to inner: (extent, stride of A in elements)."""

    levels: tuple[tuple[Index, Index], ...]

    @staticmethod
    def of(*levels: tuple[Index, Index]) -> "Nest":
        """The nest with levels of one turn left out, and with contiguous levels joined."""
        kept: list[tuple[Index, Index]] = []
        for extent, stride in levels:
            if extent == 1:
                continue
            if kept and isinstance(extent, int) and isinstance(stride, int):
                outer_extent, outer_stride = kept[-1]
                if isinstance(outer_extent, int) and outer_stride == extent * stride:
                    kept[-1] = (outer_extent * extent, stride)
                    continue
            kept.append((extent, stride))
        return Nest(tuple(kept))


@dataclass(frozen=True, slots=True)
class Operands:
    """Where a tile reads.

    a, b      pointers to A's and B's first element
    a_rows    displacement of each row of the tile in A
    b_stride  elements between B's rows
    b_masks   the lanes of each vector of B that may be read
    ahead     what is fetched into the second cache meanwhile, a line for each k: (the first,
              elements from one to the next)
    """

    a: str
    b: str
    a_rows: Sequence[Index]
    b_stride: Index
    b_masks: Sequence[str | None]
    ahead: Sequence[tuple[str, Index]] = ()


def contract(
    emitter: Emitter, vector: Vector, operands: Operands, nest: Nest, start: Sequence[str]
) -> list[str]:
    """The sums: `start` and the result are row by row, vector by vector."""

    def step(a: str, streams: Sequence[str], sums: Sequence[str]) -> list[str]:
        b, *ahead = streams
        columns = [
            vector.load(vector.address(b, place * vector.lanes), mask)
            for place, mask in enumerate(operands.b_masks)
        ]
        for pointer in ahead:
            emitter.prefetch(pointer, far=True)
        result = []
        for row, displacement in enumerate(operands.a_rows):
            scalar = vector.load_scalar(vector.address(a, displacement))
            spread = vector.splat(scalar)
            for place, column in enumerate(columns):
                total = sums[row * len(columns) + place]
                result.append(vector.multiply_add(spread, column, total))
        return result

    strides = [operands.b_stride, *(stride for _, stride in operands.ahead)]
    count = len(strides)

    def level(
        depth: int, a: str, streams: Sequence[str], sums: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """The streams (pointers that each k moves: to B, and to what is fetched ahead) and the
        sums, after the levels from `depth` inwards."""
        if depth == len(nest.levels):
            after = [vector.address(at, stride) for at, stride in zip(streams, strides)]
            return after, step(a, streams, sums)
        extent, stride = nest.levels[depth]

        def body(_index: Index, carried: Sequence[str]) -> list[str]:
            a_here, *others = carried
            after, sums_after = level(depth + 1, a_here, others[:count], others[count:])
            return [vector.address(a_here, stride), *after, *sums_after]

        carried = [("ptr", at) for at in (a, *streams)]
        carried += [(vector.sum_type, value) for value in sums]
        _, *rest = emitter.loop(0, extent, 1, body, carried)
        return rest[:count], rest[count:]

    streams = [operands.b, *(pointer for pointer, _ in operands.ahead)]
    return level(0, operands.a, streams, start)[1]
