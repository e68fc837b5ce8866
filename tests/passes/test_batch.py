"""vmap against a loop over the examples: ops, derivatives, control flow, for every subset of mapped
inputs."""

import itertools

import numpy as np
import pytest

from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp
from graphc.passes.batch import vmap
from graphc.passes.clean import clean

from .derivative_cases import CASES, block, graph_of, joined, total

COUNT = 3


def subsets(n):
    for k in range(1, n + 1):
        yield from itertools.combinations(range(n), k)


def arrays_for(graph, mapped, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for i, p in enumerate(graph.params):
        shape = ((COUNT,) if i in mapped else ()) + tuple(p.type.shape)
        if p.type.dtype.kind in "iub":
            found.append(np.asarray(random.integers(0, 2, shape)).astype(p.type.dtype.numpy))
        else:
            found.append(np.asarray(random.normal(size=shape)).astype(p.type.dtype.numpy))
    return found


def check(graph, mapped, rtol=1e-12):
    batched = vmap(graph, mapped, COUNT)
    verify(batched)
    arrays = arrays_for(graph, mapped)
    found = evaluate(batched, *arrays)
    rows = []
    for k in range(COUNT):
        rows.append(evaluate(graph, *[a[k] if i in mapped else a for i, a in enumerate(arrays)]))
    for i, result in enumerate(found):
        expected = np.stack([row[i] for row in rows])
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol)
    return batched


def names(graph):
    found = set()
    for node in graph.nodes:
        found.add(node.op.name)
        for inner in node.blocks:
            found |= names(inner)
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_vmap_of_functions(name):
    graph = graph_of(name)
    for mapped in subsets(min(len(graph.params), 3)):
        check(graph, mapped)


@pytest.mark.parametrize("name", sorted(CASES))
def test_vmap_of_gradients(name):
    derivative = grad(graph_of(name))
    n = len(derivative.params)
    for mapped in ((0,), tuple(range(n))):
        check(derivative, mapped, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
def test_gradients_of_vmap(name):
    """The gradient of the sum over examples is each example's gradient."""
    graph = graph_of(name)
    every = tuple(range(len(graph.params)))
    summed = joined(vmap(graph, every, COUNT), lambda results: total(results[0]))
    found = evaluate(grad(summed), *arrays_for(graph, every))
    expected = evaluate(vmap(grad(graph), every, COUNT), *arrays_for(graph, every))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_hessian_is_vmap_of_jvp_of_grad():
    graph = graph_of("layer")
    gradient = grad(graph, wanted=[2])
    hessian = vmap(jvp(gradient, moved=[2]), [3], 2)
    arrays = arrays_for(graph, ())
    found = evaluate(hessian, *arrays, np.eye(2))[1]
    np.testing.assert_allclose(found, found.T, rtol=1e-12)
    step = 1e-6
    for i in range(2):
        d = np.eye(2)[i] * step
        ahead = evaluate(gradient, *arrays[:2], arrays[2] + d)[0]
        behind = evaluate(gradient, *arrays[:2], arrays[2] - d)[0]
        np.testing.assert_allclose(found[i], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-8)


OPS_TO_MAP = {
    "gather": (lambda x, i: ops.gather(x, i, axis=1), "f64[2, 4, 3]", "i64[2, 2]"),
    "gather rows": (lambda x, i: ops.gather(x, i, axis=0), "f64[4, 3]", "i64[5]"),
    "scatter": (
        lambda x, i, u: ops.scatter(x, i, u, axis=1, mode="add"),
        "f64[2, 4, 3]", "i64[2]", "f64[2, 2, 3]",
    ),
    "scatter set": (
        lambda x, i, u: ops.scatter(x, i, u, axis=0, mode="set"),
        "f64[4]", "i64[2, 2]", "f64[2, 2]",
    ),
    "dynamic slice": (
        lambda x, i, j: ops.dynamic_slice(x, i, j, sizes=(2, 2)), "f64[3, 4]", "i64[]", "i64[]",
    ),
    "dynamic update": (
        lambda x, u, i: ops.dynamic_update(x, u, i), "f64[5]", "f64[2]", "i64[]",
    ),
    "searchsorted": (lambda b, v: ops.searchsorted(b, v, right=True), "f64[4]", "f64[2, 3]"),
    "topk": (lambda x: ops.topk(x, axis=0, k=3)[1], "f64[4, 2]"),
    "sort": (lambda x: ops.sort(x, axis=0, descending=True)[1], "f64[4, 2]"),
    "arg_reduce": (lambda x: ops.arg_reduce(x, axis=1, mode="max"), "f64[3, 4]"),
    "conv_grad_weight": (
        lambda ct, x: ops.conv_grad_weight(
            ct, x, size=(2,), stride=(1,), padding=((0, 0),), dilation=(1,), groups=2
        ),
        "f64[2, 4, 3]", "f64[2, 2, 4]",
    ),
    "attention": (
        lambda q, k, v: composite.attention(q, k, v, scale=0.5), "f64[3, 4]", "f64[5, 4]",
        "f64[5, 2]",
    ),
    "attention_grad": (
        lambda *given: composite.attention_grad(*given, scale=0.5, causal=True), "f64[3, 4]",
        "f64[5, 4]", "f64[5, 2]", "f64[3]", "f64[3]", "f64[3, 2]", "f64[3, 5]",
    ),
    "softmax": (lambda x: composite.softmax(x, axis=0), "f64[3, 4]"),
    "layer_norm": (
        lambda x, w, b: composite.layer_norm(x, w, b, eps=1e-5), "f64[3, 4]", "f64[4]", "f64[4]",
    ),
    "gelu": (lambda x: composite.gelu(x), "f64[5]"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS_TO_MAP)
def test_vmap_of_ops(name):
    function, *types = OPS_TO_MAP[name]
    graph = trace(function, *map(parse_type, types))
    for mapped in subsets(len(types)):
        check(graph, mapped)


def test_what_has_a_rule_is_not_scanned():
    for name in (
        "gather",
        "scatter",
        "sort",
        "attention",
        "attention_grad",
        "softmax",
        "gelu",
        "conv_grad_weight",
    ):
        function, *types = OPS_TO_MAP[name]
        graph = trace(function, *map(parse_type, types))
        assert "scan" not in names(vmap(graph, range(len(types)), COUNT)), name
    for name in ("attention", "attention_grad", "softmax", "gelu"):
        function, *types = OPS_TO_MAP[name]
        graph = trace(function, *map(parse_type, types))
        assert name in names(vmap(graph, range(len(types)), COUNT))


def test_an_index_outside_of_its_example_stays_an_error():
    graph = trace(lambda x, i: ops.gather(x, i, axis=0), parse_type("f64[2]"), parse_type("i64[1]"))
    batched = vmap(graph, [0, 1], 3)
    with pytest.raises(IndexError):
        evaluate(batched, np.zeros((3, 2)), np.array([[0], [2], [1]]))


def test_while_runs_each_example_as_long_as_its_own_condition_holds():
    condition = block(lambda x, n: ops.lt(x, ops.full_like(100.0, x)), "f64[]", "f64[]")
    body = block(lambda x, n: [x * 3.0, n + 1.0], "f64[]", "f64[]")
    types = [parse_type("f64[]")] * 2
    graph = trace(lambda x, n: ops.while_loop(condition, body, x, n), *types)
    for mapped in subsets(2):
        batched = vmap(graph, mapped, 3)
        verify(batched)
    x, n = evaluate(vmap(graph, [0], 3), [1.0, 50.0, 200.0], 0.0)
    assert x.tolist() == [243.0, 150.0, 200.0] and n.tolist() == [5.0, 1.0, 0.0]


def test_nested_vmap_and_a_symbolic_count():
    graph = trace(lambda x, y: x * ops.sin(y), *[parse_type("f64[2]")] * 2)
    n, m = symbol("n"), symbol("m")
    twice = clean(vmap(vmap(graph, [0], n), [0, 1], m))
    assert [p.type.text for p in twice.params] == ["f64[m, n, 2]", "f64[m, 2]"]
    x, y = np.random.default_rng(0).normal(size=(4, 5, 2)), np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(evaluate(twice, x, y)[0], x * np.sin(y)[:, None])


def test_a_branch_for_each_example_has_no_nan_from_the_other():
    then = block(lambda x: ops.log(x), "f64[]")
    other = block(lambda x: x * 2.0, "f64[]")
    graph = trace(
        lambda x: ops.cond(ops.lt(ops.full_like(0.0, x), x), then, other, x)[0], parse_type("f64[]")
    )
    x = np.array([-1.0, 0.0, 2.0])
    summed = joined(vmap(graph, [0], 3), lambda results: total(results[0]))
    np.testing.assert_array_equal(evaluate(grad(summed), x)[0], [2.0, 2.0, 0.5])
    twice = joined(vmap(vmap(graph, [0], 3), [0], 2), lambda results: total(results[0]))
    np.testing.assert_array_equal(evaluate(grad(twice), np.stack([x, x]))[0][1], [2.0, 2.0, 0.5])


def test_sizes_that_depend_on_data_cannot_be_stacked():
    graph = trace(lambda m: ops.compact(m, size=(symbol("k"),)), parse_type("bool[4]"))
    with pytest.raises(UnsupportedError, match="another size"):
        vmap(graph, [0], 3)
