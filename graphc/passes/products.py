"""Matrix products as kernels want them: how each operand lies in memory, seen through views.

A product kernel takes row-major matrices, either side transposed. `view_of` follows an operand up
through reshape, permute and expand to memory in which it is such a matrix; `prepare_products`
puts a permute in front of operands for which there is none, so that after it every product has
its views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import BOOL, I32
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS
from graphc.ir.ops.contract import free_axes

from .fuse.affine import Affine, NotFused, SplitVariable, flatten, unflatten
from .fuse.sizes import Sizes


@dataclass(frozen=True, slots=True)
class MatrixView:
    """A stack of matrices in the memory of `base`: rows x inner, or inner x rows if transposed."""

    base: Value
    transposed: bool
    batched: bool


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


def matrix_product(node: Node) -> MatrixProduct | None:
    """How a `dot` is a stack of matrix products; None where an operand needs a copy."""
    shapes = [value.type.shape for value in node.inputs]
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    frees = free_axes(contract, batch, [len(shape) for shape in shapes])
    for order in permutations(range(len(contract[0]))):
        left = view_of(node.inputs[0], batch[0], frees[0], [contract[0][i] for i in order])
        right = view_of(node.inputs[1], batch[1], frees[1], [contract[1][i] for i in order])
        if left is not None and right is not None:
            # `transposed` of a view is about rows x inner: B is stored as n x k where it is not.
            right = MatrixView(right.base, not right.transposed, right.batched)
            return MatrixProduct(
                product([shapes[0][i] for i in batch[0]]),
                product([shapes[0][i] for i in frees[0]]),
                product([shapes[1][i] for i in frees[1]]),
                product([shapes[0][i] for i in contract[0]]),
                left,
                right,
            )
    return None


def view_of(
    value: Value, batch: Sequence[int], rows: Sequence[int], inner: Sequence[int]
) -> MatrixView | None:
    """The operand as a stack of matrices, in memory as far up as there is such a view."""
    found = None
    source, index = value, None
    while True:
        form = _form(value, source, index)
        if form is not None:
            found = _matrix(value, source, form, (batch, rows, inner)) or found
        step = _step(source)
        if step is None or form is None:
            return found
        index = (*(index or ()), source)
        source = step


def _step(value: Value) -> Value | None:
    node = value.node
    if node is not None and node.op.name in ("reshape", "permute", "expand"):
        return node.inputs[0]
    return None


def _form(value: Value, source: Value, through: tuple[Value, ...] | None) -> Affine | None:
    """The place in `source` of the element of `value` at the index (i0, i1, ...)."""
    shape = value.type.shape
    index = tuple([Affine(0, ((axis, 1),)) for axis in range(len(shape))])
    sizes = Sizes()
    for view in through or ():
        node = view.node
        assert node is not None
        inner = node.inputs[0].type.shape
        if node.op.name == "permute":
            moved = [Affine(0)] * len(index)
            for place, axis in enumerate(node.attrs["perm"]):
                moved[axis] = index[place]
            index = tuple(moved)
        elif node.op.name == "expand":
            new = node.attrs["axes"]
            index = tuple([form for axis, form in enumerate(index) if axis not in new])
        else:
            try:
                index = unflatten(flatten(index, view.type.shape), inner, list(shape), sizes)
            except (NotFused, SplitVariable):
                return None
    return flatten(index, source.type.shape)


def _matrix(
    value: Value, base: Value, form: Affine, groups: tuple[Sequence[int], ...]
) -> MatrixView | None:
    """The view, where each group of axes is one axis of row-major matrices."""
    shape, steps = value.type.shape, dict(form.terms)
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
        return MatrixView(base, False, batched or batch == 1)
    if per_row in (None, 1) and per_inner in (None, rows):
        return MatrixView(base, True, batched or batch == 1)
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
