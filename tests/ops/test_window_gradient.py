"""The transpose of `window`: windows side by side, overlapping, with holes, dilated, cut off."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type

WINDOWS = {
    # size of the axis: windows, strides, dilations
    "side by side": ((3, 12, 8), (2, 4), (2, 4), (1, 1)),
    "side by side, with a rest": ((3, 13, 11), (2, 4), (2, 4), (1, 1)),
    "holes between": ((2, 14, 9), (1, 2), (4, 3), (1, 1)),
    "one element, dilated": ((2, 5, 9), (1, 1), (1, 2), (3, 2)),
    "overlapping": ((2, 9, 17), (3, 3), (2, 1), (1, 1)),
    "dilated": ((2, 11, 17), (3, 2), (2, 3), (2, 4)),
    "dilated by the stride": ((1, 13, 13), (3, 3), (2, 2), (2, 2)),
    "one window": ((2, 5, 7), (5, 7), (5, 7), (1, 1)),
    "none": ((0, 5, 7), (3, 3), (2, 2), (1, 1)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_each_element_gets_what_its_windows_hold(name):
    shape, sizes, strides, dilations = WINDOWS[name]
    type = parse_type(f"f32[{', '.join(map(str, shape))}]")
    attrs = {"sizes": sizes, "strides": strides, "dilations": dilations}
    forward = trace(lambda x: [ops.window(x, **attrs)], type)
    places = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    where = evaluate(forward, places)[0].astype("i8")
    (node,) = forward.nodes
    grad = parse_type(f"f32[{', '.join(map(str, where.shape))}]")
    backward = trace(lambda ct: [node.op.transpose(ct, node, 0)], grad)
    ct = np.random.default_rng(0).integers(-9, 9, where.shape).astype("f4")
    expected = np.zeros(shape, "f4")
    np.add.at(expected.reshape(-1), where.reshape(-1), ct.reshape(-1))
    for apart in (False, True):
        found = compile_graph(backward, apart=apart)(ct)[0]
        np.testing.assert_array_equal(found, expected)
