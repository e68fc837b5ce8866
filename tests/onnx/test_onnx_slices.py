"""Slices of ONNX models: bounds beyond the ends are moved there, for sizes that are open too."""

import itertools

import numpy as np
import onnx
import pytest

import graphc as torch
from graphc.ir.interpret import evaluate

FAR = [2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**9, -(10**9)]
NEAR = [0, 1, 4, 5, 6, 9, -1, -2, -5, -6, -9]


def sliced(start, end, step=1, size="N"):
    """A model that slices rows of `x`."""
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[{size}, 4] x) => (float[M, P] y) {{
            a = Constant<value_ints=[{start}]>()
            b = Constant<value_ints=[{end}]>()
            axis = Constant<value_ints=[0]>()
            step = Constant<value_ints=[{step}]>()
            y = Slice(x, a, b, axis, step)
        }}""").SerializeToString()


def moved(bound, low, high):
    return min(max(bound, low), high)


def expected(x, start, end, step):
    """What the ONNX standard says of the bounds."""
    n = len(x)
    start, end = [b + n if b < 0 else b for b in (start, end)]
    if step > 0:
        places = range(moved(start, 0, n), moved(end, 0, n), step)
    else:
        places = range(moved(start, 0, n - 1), moved(end, -1, n - 1), step)
    return x[list(places)]


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("size", ["N", 5])
def test_slices_are_those_of_the_standard(size, step):
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    pairs = [*itertools.product(NEAR, NEAR), *itertools.product(FAR, NEAR)]
    for start, end in [*pairs, *itertools.product(NEAR, FAR)]:
        if step < 0 and end in (2**31 - 1, 2**63 - 1):
            continue  # the standard and onnxruntime disagree: "to the end" is there the front
        run = torch.onnx.load(sliced(start, end, step, size))
        graph = run._for([torch.tensor(x)]).graphs["main"]  # what a call runs
        np.testing.assert_array_equal(
            evaluate(graph, x)[0], expected(x, start, end, step), f"{start}:{end}:{step}"
        )


def test_an_end_far_beyond_a_symbolic_size_is_the_size():
    run = torch.onnx.load(sliced(0, 1000000000))
    assert run.graph.results[0].type.text == "f32[N, 4]"
    assert run.module.dims["N"].hi == 1000000000
    run = torch.onnx.load(sliced(-1000000000, 2))
    assert run.graph.results[0].type.text == "f32[2, 4]"
    x = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(run(x), x[:2])


def test_sizes_that_an_assumption_excludes_are_loaded_by_themselves():
    """The graph of open sizes is for N >= 5; after it, a reshape to 3 rows fits only N < 5."""
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[N] x) => (float[M, P] y) {
            a = Constant<value_ints=[0]>()
            b = Constant<value_ints=[5]>()
            shape = Constant<value_ints=[3, 1]>()
            z = Slice(x, a, b, a)
            y = Reshape(z, shape)
        }""").SerializeToString()
    run = torch.onnx.load(proto)
    assert run(torch.ones(3)).shape == (3, 1)
    with pytest.raises(RuntimeError, match="cannot reshape"):
        run(torch.ones(9))
