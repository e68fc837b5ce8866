"""Results over operands: who may, where the plan does it, and that the values are the same."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, load, prepare
from graphc.backends.llvm.program_check import check_program
from graphc.backends.llvm.verify import compile_verified
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.errors import VerifyError
from graphc.ir.types import parse_type
from graphc.passes.in_place import overwritten

TYPE = "f32[40, 70]"
LEVELS = ["host", "avx2", "x86-64"]


def graph_of(function, *types):
    return trace(function, *map(parse_type, types))


def given(function, *types, **options):
    return sorted(compile_graph(graph_of(function, *types), **options).given)


def moments(p, m, v, g):
    """An update in the manner of Adam: three results of four operands in one kernel."""
    m = ops.add(ops.mul(m, ops.full_like(0.9, m)), g)
    v = ops.add(ops.mul(v, v), ops.mul(g, g))
    p = ops.sub(p, ops.div(m, ops.add(ops.sqrt(v), ops.full_like(1.0, v))))
    return p, m, v


@pytest.mark.parametrize("target", LEVELS)
def test_an_update_over_what_it_replaces(target):
    for shape in ("f32[1, 1]", "f32[40, 70]", "f32[3, 7]", "f32[1025, 33]", "f64[19, 5]"):
        made = compile_graph(graph_of(moments, *[shape] * 4), target=target)
        assert sorted(made.given) == [(0, 0), (1, 1), (2, 2)]
        random, kind = np.random.default_rng(0), parse_type(shape)
        arrays = [random.random(kind.shape).astype(kind.dtype.numpy) for _ in range(4)]
        expected = made(*arrays)
        outputs, written = [0] * 3, []
        for result, param in made.given:
            outputs[result] = arrays[param].ctypes.data
        made.run_over([array.ctypes.data for array in arrays], outputs, written)
        assert written
        for result, param in made.given:
            assert arrays[param].tobytes() == expected[result].tobytes()


def test_what_may_not():
    def transposed(x):
        return ops.add(x, ops.permute(x, perm=(1, 0)))

    assert given(transposed, "f32[40, 40]") == []
    assert given(lambda x: ops.flip(x, axes=(0,)), TYPE) == []
    assert given(lambda x: ops.cast(x, dtype=parse_type("f64[]").dtype), TYPE) == []
    assert given(lambda x: (ops.neg(x), x), TYPE) == []  # x is a result too
    assert given(lambda x: (ops.neg(x), ops.reduce_sum(x, axes=(0,))), TYPE) == []  # no map
    assert given(lambda x, i: ops.gather(x, i, axis=0), "f32[8]", "i64[8]") == []


def product(x, w):
    return ops.dot(x, w, batch=((), ()), contract=((1,), (0,)))


def test_an_operand_that_is_read_later_keeps_its_memory():
    made = compile_graph(graph_of(lambda x, w: product(ops.exp(x), x), *["f32[48, 48]"] * 2))
    assert not made.given


def several(x, w):
    """Maps that need a sum over all of a product: too many elements for one kernel."""
    for _ in range(3):
        x = product(x, w)
        total = ops.reduce_sum(x, axes=(0, 1))
        x = ops.div(ops.exp(x), ops.expand(total, shape=x.type.shape, axes=(0, 1)))
    return x


def placed(compiler):
    places = compiler.program.arena.places
    return {
        result: operand
        for region in compiler.program.regions
        for call in region
        for result, operand in call.over
        if result in places and operand in places and places[result] == places[operand]
    }


@pytest.mark.parametrize("shape", ["f32[300, 128]", "f32[n, 128]"])
def test_the_arena_holds_fewer_buffers(shape):
    graph = graph_of(several, shape, "f32[128, 128]")
    compiler = prepare(graph)
    shared = placed(compiler)
    assert shared
    check_program(compiler.program)
    x = np.random.default_rng(0).random((300, 128), np.float32)
    w = np.random.default_rng(1).random((128, 128), np.float32) / 64
    alone = compile_graph(graph, apart=True)(x, w)[0]
    assert load(compiler)(x, w)[0].tobytes() == alone.tobytes()
    compile_verified(graph)


def test_the_plan_is_checked():
    compiler = prepare(graph_of(several, "f32[300, 128]", "f32[128, 128]"))
    shared = placed(compiler)
    for region in compiler.program.regions:
        for call in region:
            call.over = ()
    with pytest.raises(VerifyError, match="which is still in use"):
        check_program(compiler.program)
    assert shared


class Step:
    def __init__(self, reads, writes, over=()):
        self.reads, self.writes, self.over = frozenset(reads), frozenset(writes), tuple(over)


def test_each_operand_gives_its_memory_once_and_last():
    both = Step("ab", "xy", [("x", "a"), ("x", "b"), ("y", "a")])
    assert overwritten([[both]], "ab", "xy") == {"y": "a", "x": "b"}
    assert overwritten([[both]], "a", "xy") == {"x": "a"}
    assert overwritten([[both], [Step("a", "z")]], "ab", "xy") == {"x": "b"}
    assert overwritten([[both, Step("a", "z")]], "ab", "xy") == {"x": "b"}
    assert overwritten([[both]], "ab", "") == {}
