"""A graph cut in two: what follows from its weights, and the rest."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import prepare
from graphc.backends.llvm.target import TARGETS
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.dtype import F32
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.hoist import hoist


def cut(function, *texts, weights):
    graph = trace(function, *[parse_type(text) for text in texts])
    halves = hoist(graph, weights)
    random = np.random.default_rng(2)
    arrays = [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]
    held = [arrays[place] for place in weights]
    others = [array for place, array in enumerate(arrays) if place not in weights]
    packed = []
    if halves.early is not None:
        verify(halves.early)
        packed = evaluate(halves.early, *held)
    verify(halves.late)
    found = evaluate(halves.late, *others, *[held[k] for k in halves.weights], *packed)
    for a, b in zip(found, evaluate(graph, *arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    return halves


def names(graph):
    return [node.op.name for node in graph.nodes]


def test_what_follows_from_weights_crosses_in_memory():
    def scaled(x, w, v):
        scale = ops.rsqrt(ops.abs_(v)) * w
        return x * ops.expand(scale, shape=x.type.shape, axes=(0,))

    halves = cut(scaled, "f32[4, 3]", "f32[3]", "f32[3]", weights=[1, 2])
    assert names(halves.early) == ["abs", "rsqrt", "mul"]
    assert names(halves.late) == ["expand", "mul"]
    assert halves.weights == []


def test_views_and_constants_do_not_cross():
    def plain(x, w):
        turned = ops.reshape(w, shape=(2, 3))
        return x + ops.expand(turned, shape=x.type.shape, axes=(0,)) + 1.0

    halves = cut(plain, "f32[4, 2, 3]", "f32[6]", weights=[1])
    assert halves.early is None
    assert halves.weights == [0]


def test_what_is_larger_than_its_weights_does_not_cross():
    def outer(x, w, v):
        shape = x.type.shape
        table = ops.expand(w, shape=shape, axes=(1,)) * ops.expand(v, shape=shape, axes=(0,))
        return x + table

    halves = cut(outer, "f32[40, 40]", "f32[40]", "f32[40]", weights=[1, 2])
    assert halves.early is None
    assert halves.weights == [0, 1]


def test_masks_of_no_weight_stay():
    def masked(x):
        shape = x.type.shape
        i, j = [ops.iota(shape, axis, parse_type("i64[]").dtype) for axis in (0, 1)]
        return ops.select(ops.le(j, i), x, ops.neg(x))

    assert cut(masked, "f32[8, 8]", weights=[]).early is None


def test_a_result_may_follow_from_weights_alone():
    halves = cut(lambda x, w: (x, ops.exp(w), w), "f32[2]", "f32[3]", weights=[1])
    assert names(halves.early) == ["exp"]
    assert halves.weights == [0]


def test_the_order_of_weights_among_the_operands_is_free():
    halves = cut(
        lambda w, x, v: (x * w + ops.tanh(v), v), "f32[3]", "f32[3]", "f32[3]", weights=[0, 2]
    )
    assert halves.weights == [0, 1]


def test_effects_stay_in_each_call():
    def checked(x, w):
        scale = ops.exp(w)
        ops.assert_op(ops.le(ops.reduce_sum(w, axes=(0,)), ops.full(1e9, w.type.dtype)), text="no")
        return x * scale

    halves = cut(checked, "f32[3]", "f32[3]", weights=[1])
    assert "assert" in names(halves.late) and "exp" in names(halves.early)


WIDE = ["f32[{rows}, 640]", "{dtype}[300, 640]", "f32[300]"]


def quantised(x, w, s):
    wide = ops.cast(w, dtype=F32) * ops.expand(s, shape=w.type.shape, axes=(1,))
    return ops.dot(x, wide, contract=((1,), (1,)))


def halves_of(function, rows, dtype):
    types = [text.format(rows=rows, dtype=dtype) for text in WIDE]
    return hoist(trace(function, *map(parse_type, types)), [1, 2])


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_product_of_few_rows_widens_its_weight_where_it_reads_it(rows, target):
    for dtype in ("i8", "bf16"):
        halves = halves_of(quantised, rows, dtype)
        assert halves.early is None and halves.weights == [0, 1]
        kinds = [report.kind for report in prepare(halves.late, target).reports]
        assert kinds == ["map, dot"]


def test_a_weight_is_widened_once_where_arithmetic_takes_the_time_or_others_read_it():
    def read_twice(x, w, s):
        wide = ops.cast(w, dtype=F32)
        return ops.dot(x, wide, contract=((1,), (1,))), ops.reduce_sum(wide, axes=(0,))

    def dear(x, w, s):
        wide = ops.tanh(ops.cast(w, dtype=F32))
        return ops.dot(x, wide, contract=((1,), (1,)))

    for function, rows, dtype in (
        (quantised, 5, "i8"),
        (quantised, 1, "f32"),
        (quantised, 1, "f16"),
        (read_twice, 1, "i8"),
        (dear, 1, "i8"),
    ):
        assert halves_of(function, rows, dtype).early is not None, (function, rows, dtype)
