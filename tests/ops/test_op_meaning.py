"""What an op infers is what it evaluates to: for static, symbolic, empty and scalar shapes; its
node survives the text form; its result does not share memory with an operand that may change."""

import numpy as np
import pytest

from graphc.ir.build import trace
from graphc.ir.diff import structural_hash
from graphc.ir.dims import Dim, evaluate_dim, symbol
from graphc.ir.dtype import DTYPES
from graphc.ir.errors import ShapeError
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.ops import compact, full_like, lt
from graphc.ir.text import parse, print_graph
from graphc.ir.types import TensorType, parse_type
from graphc.ir.verify import verify

from .op_cases import CONTROL, all_cases, cases_of, control_arrays, is_elementwise, random_array

CASES = all_cases()
N = symbol("n")
# Sizes that must be known: what a stride does not divide, what groups divide.
NOT_SYMBOLIC = {
    "reshape-0": (2, 6),  # [n, 6] to [3, 4]
    "slice-0": (6,),
    "slice-1": (7,),
    "window-0": (6,),
    "window-1": (6,),
    "conv-0": (3, 6),
    "conv-1": (2, 4, 6),
    "conv_last-0": (3, 6),
    "conv_last-2": (3, 4, 6),
    "conv_grad_input_last-1": (3, 4, 6),
    "conv_groups_last-0": (2, 3, 6, 10, 20),
    "conv_groups_last-1": (4, 8),
    "conv_depthwise_last-0": (3, 6, 20),
    "conv_depthwise_last-1": (9,),
    "dot_pairs-0": (2, 32, 64),  # pairs of 64
    "dot_pairs-1": (2, 3, 6),
    "conv_winograd-0": (6, 7),  # tiles
    "conv_winograd-1": (4, 6, 9),
    "winograd_weight-0": (3, 40),  # its kernel, and its panels
    "winograd_weight-1": (3, 8),
    "winograd_weight-2": (3, 40),
}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_what_is_inferred_is_what_is_evaluated(case):
    graph = case.graph
    verify(graph)
    found = evaluate(graph, *case.arrays)
    with np.errstate(all="ignore"):
        raw = graph.nodes[0].op.eval_node(graph.nodes[0], case.arrays, graph.nodes[0].attrs)
    for value, array, plain in zip(graph.results, found, raw, strict=True):
        assert value.type.shape == array.shape == np.shape(plain)
        assert value.type.dtype.numpy == array.dtype


def sizes_of(case):
    return sorted({d for t in case.types for d in t.shape if d > 1})


@pytest.mark.parametrize("case", [c for c in CASES if not is_elementwise(c.op)], ids=repr)
def test_symbolic_sizes_infer_what_static_sizes_do(case):
    """Each size in turn becomes a symbol, in the operands and in the attributes."""
    expected = evaluate(case.graph, *case.arrays)
    refused = []
    for size in sizes_of(case):
        try:
            graph = case.resized(size, N).graph
        except ShapeError:
            refused.append(size)
            continue
        verify(graph)
        for value, fixed in zip(graph.results, case.graph.results, strict=True):
            shape = tuple(evaluate_dim(d, {"n": size}) for d in value.type.shape)
            assert (value.type.dtype, shape) == (fixed.type.dtype, fixed.type.shape)
        for a, b in zip(evaluate(graph, *case.arrays), expected, strict=True):
            assert same_bits(a, b)
    assert set(refused) <= set(NOT_SYMBOLIC.get(case.name, ())), refused


@pytest.mark.parametrize("name", [n for n in OPS if is_elementwise(OPS[n])])
def test_pointwise_ops_take_any_shape(name):
    case = cases_of(name)[0].only_plain()
    expected = evaluate(case.graph, *case.arrays)
    for shape in [(), (0,), (2, 0, 3), (1, 1, 1), (4, 6), (N, 6), (2, N + 1, 3)]:
        sizes = {"n": 4 if shape[0:1] == (N,) else 3}
        here = tuple(evaluate_dim(d, sizes) for d in shape)
        count = int(np.prod(here))
        types = [t.with_shape(shape) for t in case.types]
        graph = trace(lambda *xs: case.op(*xs, **case.attrs), *types)
        assert graph.results[0].type.shape == shape
        found = evaluate(graph, *[a[:count].reshape(here) for a in case.arrays])
        assert same_bits(found[0], expected[0][:count].reshape(here))


@pytest.mark.parametrize("case", [c for c in CASES if not is_elementwise(c.op)], ids=repr)
def test_structural_ops_take_empty_operands(case):
    """Each size in turn becomes 0; what is refused is refused by inference."""
    for size in sizes_of(case):
        if size == case.index:
            continue  # indices into nothing
        try:
            graph = case.resized(size, 0).graph
        except ShapeError:
            continue
        arrays = [random_array(t, case.index) for t in case.resized(size, 0).types]
        for value, array in zip(graph.results, evaluate(graph, *arrays), strict=True):
            assert array.shape == value.type.shape and array.dtype == value.type.dtype.numpy


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_node_survives_the_text_form(case):
    text = print_graph(case.graph)
    again = parse(text)
    assert print_graph(again) == text
    assert structural_hash(again) == structural_hash(case.graph)
    verify(again)


@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_control_flow_survives_the_text_form(name, kind):
    graph = CONTROL[name](kind)
    verify(graph)
    again = parse(print_graph(graph))
    verify(again)
    assert print_graph(again) == print_graph(graph)
    arrays = control_arrays(graph)
    for a, b in zip(evaluate(graph, *arrays), evaluate(again, *arrays), strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_evaluation_leaves_its_operands_alone(case):
    before = [a.tobytes() for a in case.arrays]
    evaluate(case.graph, *case.arrays)
    assert [a.tobytes() for a in case.arrays] == before


def test_compact_gives_as_many_positions_as_the_mask_holds():
    k = symbol("k")
    graph = trace(lambda x: compact(lt(full_like(0.0, x), x), size=(k,)), parse_type("f32[2, 3]"))
    assert graph.results[0].type.text == "i64[k, 2]"
    x = np.array([[1, -1, 2], [0, 3, -4]], np.float32)
    (found,) = evaluate(graph, x, sizes={"k": 3})
    assert found.tolist() == [[0, 0], [0, 2], [1, 1]]
    with pytest.raises(ShapeError, match=r"evaluated to shape \(3, 2\), but the type is"):
        evaluate(graph, x, sizes={"k": 2})


@pytest.mark.parametrize("name", ["reduce_max", "reduce_min", "arg_reduce"])
def test_the_extreme_of_nothing_is_an_error_at_the_call(name):
    case = cases_of(name)[0]
    with pytest.raises(ShapeError, match="there are no elements"):
        case.resized(5, 0).graph


def test_indices_out_of_bounds_and_zero_divisors_are_errors_when_evaluated():
    gather, scatter, quo = [cases_of(n)[0] for n in ("gather", "scatter", "quo")]
    for case, at in ((gather, 1), (scatter, 1)):
        for bad in (-1, 5):
            arrays = list(case.arrays)
            arrays[at] = np.full_like(arrays[at], bad)
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
                evaluate(case.graph, *arrays)
    with pytest.raises(ZeroDivisionError):
        evaluate(quo.graph, quo.arrays[0], np.zeros_like(quo.arrays[1]))


def test_a_dim_is_a_number_of_its_own_size():
    (case,) = cases_of("dim")
    graph = trace(
        lambda x: OPS["dim"](size=x.type.shape[0] * 2 + 1, shape=()),
        TensorType(DTYPES["f32"], (N,)),
    )
    assert isinstance(graph.nodes[0].attrs["size"], Dim)
    assert evaluate(graph, np.zeros(5, np.float32)) == [11]
    assert evaluate(case.graph)[0].tolist() == [3, 3]
