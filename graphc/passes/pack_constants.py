"""Constants of a scan that its step multiplies by are packed once, ahead of the loop.

A kernel of a product packs its right operand into panels, [n / panel, k, panel], unless it can read
it in place. In a loop it would do so at each step, for the same matrix: here the matrix is packed
outside, which is a reshape and a permute in front of the scan, and the step's product reads the
panels. The sums are the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS

from .blocks import has_blocks
from .products import MatrixProduct, matrix_product

DOT, SCAN = OPS["dot"], OPS["scan"]
#: For a product: in panels of how many columns it would have its right operand; 0: as it is.
PanelOf = Callable[[Node], int]


def pack_constants(graph: Graph, panel_of: PanelOf) -> Graph:
    """The graph whose scans are given the constants of their products in panels; itself where
    there is nothing to pack."""
    if not has_blocks(graph):
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = {p: p for p in graph.params}
        for node in graph.nodes:
            inputs = tuple([new[v] for v in node.inputs])
            blocks = tuple([pack_constants(block, panel_of) for block in node.blocks])
            builder.loc = node.loc
            found = _packed(node, blocks[0], panel_of) if node.op is SCAN else None
            if found is not None:
                block, packed = found
                more = [_in_panels(inputs[i], product, width) for i, product, width in packed]
                made = builder.emit(SCAN, (*inputs, *more), node.attrs, (block,))
            else:
                made = builder.emit(node.op, inputs, node.attrs, blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        result = builder.graph([new[v] for v in graph.results])
    same = result.nodes == graph.nodes and result.results == graph.results
    return graph if same else result


def _packed(
    node: Node, block: Graph, panel_of: PanelOf
) -> tuple[Graph, list[tuple[int, MatrixProduct, int]]] | None:
    """The step that takes panels as further constants; of each the operand of the scan that is
    packed, the product that says how it lies in memory, and the width."""
    if node.attrs["length"] == 1:
        return None
    place = {p: i for i, p in enumerate(block.params)}
    first = node.attrs["carry"] + node.attrs["xs"]
    chosen: dict[Node, tuple[int, MatrixProduct, int]] = {}
    for inner in block.nodes:
        if inner.op is not DOT or len(inner.attrs["contract"][0]) != 1:
            continue
        product = matrix_product(inner)
        if product is None or place.get(product.right.base, -1) < first:
            continue
        width = panel_of(inner)
        if width:
            chosen[inner] = place[product.right.base], product, width
    if not chosen:
        return None
    given: dict[tuple[int, bool, int], tuple[Value, MatrixProduct]] = {}
    with Builder() as b:
        new = {p: b.param(p.type, p.name) for p in block.params}
        for i, product, width in chosen.values():
            key = (i, product.right.transposed, width)
            if key not in given:
                shape = (product.n // width, product.k, width)  # type: ignore[operator]
                type = product.right.base.type.with_shape(shape)
                given[key] = b.param(type), product
        for inner in block.nodes:
            inputs = tuple([new[v] for v in inner.inputs])
            b.loc = inner.loc
            if inner in chosen:
                i, product, width = chosen[inner]
                panels, _ = given[i, product.right.transposed, width]
                contract = (inner.attrs["contract"][0], (1,))
                made = ops.dot(inputs[0], panels, contract=contract)
                new[inner.outputs[0]] = ops.reshape(made, shape=inner.outputs[0].type.shape)
            else:
                outs = b.emit(inner.op, inputs, inner.attrs, inner.blocks, inner)
                new.update(zip(inner.outputs, outs, strict=True))
        step = b.graph([new[v] for v in block.results])
    return step, [(i, product, width) for (i, _, width), (_, product) in given.items()]


def _in_panels(value: Value, product: MatrixProduct, width: int) -> Value:
    """A matrix as [n / width, k, width], from n x k or k x n."""
    n, k = product.n, product.k
    if product.right.transposed:
        parts = ops.reshape(value, shape=(n // width, width, k))  # type: ignore[operator]
        return ops.permute(parts, perm=(0, 2, 1))
    parts = ops.reshape(value, shape=(k, n // width, width))  # type: ignore[operator]
    return ops.permute(parts, perm=(1, 0, 2))
