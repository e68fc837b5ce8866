"""Matrix products as kernels want them: how each operand lies in memory, seen through views.

A product kernel takes row-major matrices, either side transposed. `matrix_product` follows each
operand up through reshape, permute and expand to memory in which it is such a matrix;
`prepare_products` puts a permute in front of operands for which there is none, so that after it
every product has its views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import BF16, BOOL, F16, I32
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS
from graphc.ir.ops.contract import free_axes

from .fuse.affine import (
    ZERO,
    Affine,
    Index,
    NotFused,
    SplitVariable,
    flatten,
    scale,
    shift,
    unflatten,
)
from .fuse.sizes import Sizes

#: Rows of a panel that kernels read in place: whole vectors of every target.
PANEL_STEP, MOST_PANEL = 16, 64


@dataclass(frozen=True, slots=True)
class MatrixView:
    """A stack of matrices in the memory of `base`: rows x inner, or inner x rows if transposed.

    panel: 0, or the rows lie in panels of so many: [rows / panel, inner, panel] (right only).
    """

    base: Value
    transposed: bool
    batched: bool
    panel: int = 0


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """out[b, m, n] = sum over k of left[b, m, k] * right[b, k, n].

    Of the right operand `transposed` means that it is stored as [b, n, k].
    """

    batch: AnyDim
    m: AnyDim
    n: AnyDim
    k: AnyDim
    left: MatrixView
    right: MatrixView


#: A view above a value: its op's name and attributes, and the shape of what it is a view of.
View = tuple[str, Attrs, tuple[AnyDim, ...]]


def matrix_product(node: Node) -> MatrixProduct | None:
    """How a `dot` is a stack of matrix products; None where an operand needs a copy."""
    (left, left_views), (right, right_views) = map(_views, node.inputs)
    shapes = (left[0].type.shape, right[0].type.shape)
    # Halves are widened while they are packed, so none is read in place.
    panels = node.inputs[1].type.dtype not in (F16, BF16)
    found = _product_of(node.attrs, shapes, left_views, right_views, panels)
    if found is None:
        return None
    sizes, (i, *of_left), (j, *of_right) = found
    views = MatrixView(left[i], *of_left), MatrixView(right[j], *of_right)
    batch, m, n, k = sizes
    return MatrixProduct(batch, m, n, k, *views)


def _views(value: Value) -> tuple[list[Value], tuple[View, ...]]:
    """The value and those that it shows, up to memory, with the views in between."""
    chain, views = [value], []
    while value.node is not None and value.node.op.name in ("reshape", "permute", "expand"):
        node = value.node
        value = node.inputs[0]
        chain.append(value)
        views.append((node.op.name, node.attrs, value.type.shape))
    return chain, tuple(views)


@lru_cache(maxsize=4096)  # equal layers have equal products, and a compile asks several times
def _product_of(
    attrs: Attrs,
    shapes: tuple[tuple[AnyDim, ...], ...],
    left_views: tuple[View, ...],
    right_views: tuple[View, ...],
    panels: bool,
) -> tuple | None:
    """Sizes (batch, m, n, k) and for each side: how many views up, transposed, batched."""
    contract, batch = attrs["contract"], attrs["batch"]
    frees = free_axes(contract, batch, [len(shape) for shape in shapes])
    for order in permutations(range(len(contract[0]))):
        inner = [[axes[i] for i in order] for axes in contract]
        left = _view_of(shapes[0], left_views, (batch[0], frees[0], inner[0]))
        right = _right_view(shapes[1], right_views, (batch[1], frees[1], inner[1]), panels)
        if left is not None and right is not None:
            sizes = (
                product([shapes[0][i] for i in batch[0]]),
                product([shapes[0][i] for i in frees[0]]),
                product([shapes[1][i] for i in frees[1]]),
                product([shapes[0][i] for i in contract[0]]),
            )
            # `transposed` of a view is about rows x inner: B is stored as n x k where it is not.
            return sizes, left, (right[0], not right[1], right[2], right[3])
    return None


def _right_view(
    shape: tuple[AnyDim, ...],
    views: Sequence[View],
    groups: tuple[Sequence[int], ...],
    panels: bool,
) -> tuple[int, bool, bool, int] | None:
    """The right operand as a stack of matrices, or, if `panels`, as one matrix in panels."""
    found = _view_of(shape, views, groups)
    if found is not None:
        return (*found, 0)
    batch, free, inner = map(tuple, groups)
    width = shape[-1] if shape else 0
    if not panels or (batch, free, inner) != ((), (0, 2), (1,)) or not isinstance(width, int):
        return None
    if width > MOST_PANEL or width % PANEL_STEP:
        return None
    return 0, True, False, width


def _view_of(
    shape: tuple[AnyDim, ...], views: Sequence[View], groups: tuple[Sequence[int], ...]
) -> tuple[int, bool, bool] | None:
    """The operand as a stack of matrices, in memory as far up as there is such a view."""
    index: Index = tuple([Affine(0, ((axis, 1),)) for axis in range(len(shape))])
    matrix = _matrix(shape, flatten(index, shape), groups)
    found = None if matrix is None else (0, *matrix)
    outer = shape
    for up, view in enumerate(views, 1):
        moved = _through(view, index, outer, shape)
        if moved is None:
            break
        index, outer = moved, view[2]
        matrix = _matrix(shape, flatten(index, outer), groups)
        if matrix is not None:
            found = (up, *matrix)
    return found


def _through(
    view: View, index: Index, outer: tuple[AnyDim, ...], shape: tuple[AnyDim, ...]
) -> Index | None:
    """Where a view of shape `outer` shows an index; None where that is not affine."""
    name, attrs, inner = view
    if name == "permute":
        moved = [ZERO] * len(index)
        for place, axis in enumerate(attrs["perm"]):
            moved[axis] = index[place]
        return tuple(moved)
    if name == "expand":
        new = attrs["axes"]
        return tuple([form for axis, form in enumerate(index) if axis not in new])
    if name == "slice":
        every = zip(index, attrs["start"], attrs["step"], strict=True)
        return tuple([shift(scale(form, step), start) for form, start, step in every])
    try:
        return unflatten(flatten(index, outer), inner, list(shape), Sizes())
    except (NotFused, SplitVariable):
        return None


def view_above(value: Value, index: Index, shape: tuple[AnyDim, ...]) -> tuple[Value, Index] | None:
    """What a value is an affine view of, and its index there; variables run over `shape`."""
    node = value.node
    if node is None or node.op.name not in ("reshape", "permute", "expand", "slice"):
        return None
    (above,) = node.inputs
    moved = _through((node.op.name, node.attrs, above.type.shape), index, value.type.shape, shape)
    return None if moved is None else (above, moved)


def _matrix(
    shape: tuple[AnyDim, ...], form: Affine, groups: tuple[Sequence[int], ...]
) -> tuple[bool, bool] | None:
    """Whether it is transposed and batched, where each group of axes is one of its axes."""
    steps = dict(form.terms)
    collapsed = []
    for axes in groups:
        size: AnyDim = 1
        stride: AnyDim | None = None
        for axis in reversed(axes):
            if shape[axis] == 1:
                continue
            step = steps.get(axis, 0)
            if stride is None:
                stride = step
            elif step != stride * size:
                return None
            size = size * shape[axis]
        collapsed.append((size, stride))
    (batch, per_batch), (rows, per_row), (inner, per_inner) = collapsed
    batched = per_batch is not None and per_batch != 0
    if batched and per_batch != rows * inner:
        return None
    if per_inner in (None, 1) and per_row in (None, inner):
        return False, batched or batch == 1
    if per_row in (None, 1) and per_inner in (None, rows):
        return True, batched or batch == 1
    return None


def prepare_products(graph: Graph) -> Graph:
    """The graph with a permute in front of each operand of a product that has no view."""
    dot = OPS["dot"]
    awkward = [
        node
        for node in graph.nodes
        if node.op is dot and (node.inputs[0].type.dtype is BOOL or matrix_product(node) is None)
    ]
    if not awkward:
        return graph
    changed = set(awkward)
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = dict(zip(graph.params, graph.params))
        for node in graph.nodes:
            inputs = tuple([new[value] for value in node.inputs])
            builder.loc = node.loc
            made: tuple[Value, ...]
            if node in changed:
                made = (_prepared(node, inputs),)
            else:
                made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made))
        return builder.graph([new[value] for value in graph.results])


def _prepared(node: Node, inputs: tuple[Value, ...]) -> Value:
    """The product of the operands in the order batch, free, contracted."""
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    if inputs[0].type.dtype is BOOL:
        whole = [OPS["cast"](value, dtype=I32) for value in inputs]
        made = OPS["dot"](*whole, contract=contract, batch=batch)
        if matrix_product(made.node) is None:
            made = _prepared(made.node, tuple(whole))
        return OPS["cast"](made, dtype=BOOL)
    ranks = [len(value.type.shape) for value in inputs]
    frees = free_axes(contract, batch, ranks)
    moved, pairs = [], []
    for side, value in enumerate(inputs):
        order = (*batch[side], *frees[side], *contract[side])
        if order != tuple(range(ranks[side])):
            value = OPS["permute"](value, perm=order)
        moved.append(value)
        pairs.append(tuple(range(ranks[side] - len(contract[side]), ranks[side])))
    along = tuple(range(len(batch[0])))
    return OPS["dot"](*moved, contract=tuple(pairs), batch=(along, along))
