"""3 x 3 convolutions by Winograd's algorithm, F(4 x 4, 3 x 3).

A tile of 4 x 4 results takes 36 products of sums instead of 144. With d a tile of 6 x 6 inputs, g a
kernel and @ the product of matrices, the tile of results is

    At ((G g Gt) * (Bt d B)) A

(A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, 2016, with the points 0, 1,
-1, 2, -2 and infinity.) In f32 the errors are some 5e-6 of the largest result.
"""

import numpy as np

from .. import ops
from ..errors import ShapeError
from ..op import op
from ..schema import Case, Flag, Float, IntAttr, IntPairs
from .base import Composite
from .layout import first, packed, unpacked

TILE, PATCH = 4, 6

INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)


def _both_sides(matrix: np.ndarray, x, axes: tuple[int, int]):
    """matrix @ x @ its transpose over two axes of x, which then are the last ones."""
    made = ops.const(matrix.astype(x.type.dtype.numpy))
    rank = len(x.type.shape)
    x = ops.dot(x, made, contract=((axes[0],), (1,)))  # the axis goes to the end
    column = axes[1] - (axes[1] > axes[0])
    x = ops.dot(x, made, contract=((column,), (1,)))
    assert len(x.type.shape) == rank
    return x


@op("winograd_weight")
class winograd_weight(Composite):
    """w [o, c, 3, 3] as the weight [panel, 6, 6, c, width] of `conv_winograd`.

    back: of w [c, o, 3, 3], whose convolution's gradient of x is meant: the kernels are flipped.
    """

    w: Float
    width: IntAttr
    back: Flag

    def expand(w, width, back):
        if len(w.type.shape) != 4 or w.type.shape[2:] != (3, 3) or width < 1:
            raise ShapeError(f"winograd_weight of {w.type.text} in panels of {width}")
        if back:
            w = ops.flip(ops.permute(w, perm=(1, 0, 2, 3)), axes=(2, 3))
        return packed(_both_sides(KERNEL, w, (2, 3)), width)

    no_onnx = "goes out as its expansion"
    samples = (
        Case("f32[40, 5, 3, 3]", width=32, back=False),
        Case("f64[8, 3, 3, 3]", width=8, back=False),
        Case("f32[5, 40, 3, 3]", width=32, back=True),
    )


@op("conv_winograd")
class conv_winograd(Composite):
    """A 3 x 3 convolution of stride 1 of x[n, h, w, c], as [n, h', w', outputs], by a weight
    u[panel, 6, 6, c, width] that is a `winograd_weight`."""

    x: Float
    u: Float
    outputs: IntAttr
    padding: IntPairs

    def expand(x, u, outputs, padding):
        square = len(u.type.shape) == 5 and u.type.shape[1:3] == (PATCH, PATCH)
        if len(x.type.shape) != 4 or not square or len(padding) != 2:
            raise ShapeError(f"conv_winograd of {x.type.text} with {u.type.text}")
        n, *size, _ = x.type.shape
        results = [m + sum(pair) - 2 for m, pair in zip(size, padding, strict=True)]
        tiles = [(m + TILE - 1) // TILE for m in results]
        missing = [TILE * count - m for count, m in zip(tiles, results)]
        after = [pair[1] + more for pair, more in zip(padding, missing)]
        moved = ops.permute(x, perm=first(2))
        low, high = (0, 0, padding[0][0], padding[1][0]), (0, 0, *after)
        wide = ops.pad(moved, low=low, high=high, value=0)
        patches = ops.window(
            wide, sizes=(PATCH, PATCH), strides=(TILE, TILE), dilations=(1, 1)
        )  # [n, c, rows, columns, 6, 6]
        patches = _both_sides(INPUT, patches, (4, 5))
        weights = unpacked(u, outputs)
        sums = ops.dot(patches, weights, contract=((1,), (1,)), batch=((4, 5), (2, 3)))
        made = _both_sides(OUTPUT, sums, (0, 1))  # [n, rows, columns, o, 4, 4]
        made = ops.permute(made, perm=(0, 1, 4, 2, 5, 3))
        wide_size = [TILE * count for count in tiles]
        made = ops.reshape(made, shape=(n, *wide_size, outputs))
        stop = (n, *results, outputs)
        return ops.slice_(made, start=(0,) * 4, stop=stop, step=(1,) * 4)

    no_onnx = "goes out as its expansion"
    samples = (
        Case("f32[2, 7, 6, 16]", "f32[1, 6, 6, 16, 32]", outputs=32, padding=((1, 1), (0, 1))),
        Case("f64[1, 4, 9, 3]", "f64[2, 6, 6, 3, 8]", outputs=13, padding=((1, 1), (1, 1))),
    )
