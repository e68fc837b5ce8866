"""Results over operands: who may, where the plan does it, and that the values are the same."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, load, prepare
from graphc.backends.llvm.contract.conv_direct import DirectKernel
from graphc.backends.llvm.contract.gemm_state import GemmState
from graphc.backends.llvm.layouts import choose_layouts
from graphc.backends.llvm.program_check import check_program
from graphc.backends.llvm.regions import chains_of, form_regions
from graphc.backends.llvm.target import get_target
from graphc.backends.llvm.verify import compile_verified
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.composite import relu
from graphc.ir.errors import VerifyError
from graphc.ir.types import parse_type
from graphc.passes.expand import expand_composites
from graphc.passes.hoist import hoist
from graphc.passes.in_place import overwritten
from graphc.passes.memory import plan_memory

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


def layers(x, w, v):
    """Residuals of products: the second is added over the first."""
    y = ops.tanh(product(x, w))
    return product(ops.add(product(ops.exp(y), v), y), w)


LAYERS = ("f32[300, 128]", "f32[128, 128]", "f32[128, 128]")


def test_a_residual_is_added_over_what_it_adds():
    graph = graph_of(layers, *LAYERS)
    compiler = prepare(graph)
    assert [value.node.op.name for value in placed(compiler)] == ["add"]
    assert compiler.reports[1].in_place == ("tanh",)
    random = np.random.default_rng(0)
    arrays = [random.random(p.type.shape, np.float32) / 8 for p in graph.params]
    alone = compile_graph(graph, apart=True)(*arrays)[0]
    assert load(compiler)(*arrays)[0].tobytes() == alone.tobytes()
    compile_verified(graph)


def residuals(x, *weights):
    """Residual blocks of convolutions: wide, narrow, wide; the first one's shortcut is one too."""
    one = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    wide, narrow, widen, shortcut = weights
    for number in range(3):
        y = relu(ops.conv(relu(ops.conv(x, wide, **one)), narrow, **one))
        y = ops.conv(y, widen, **one)
        x = relu(ops.add(y, x if number else ops.conv(x, shortcut, **one)))
    return ops.reduce_sum(x, axes=(2, 3))


def test_the_arena_of_residual_blocks():
    """Two wide values and what is narrow, at most: residuals are added in place, and a shortcut is
    not computed beside the convolution which makes a wide value narrow, but after it."""
    kernels = [f"f32[{size}, 1, 1]" for size in ("64, 64", "32, 64", "64, 32", "64, 64")]
    texts = ["f32[16, 64, 56, 56]", *kernels]
    graph = expand_composites(graph_of(residuals, *texts))
    weights = range(1, len(texts))
    laid = choose_layouts(graph, weights, target=get_target(), winograd=False)
    compiler = prepare(hoist(laid, weights).late)
    program, wide = compiler.program, 16 * 56 * 56 * 64 * 4
    assert program.arena.slots[0] <= 2.5 * wide + 4096
    in_place = [report.in_place for report in compiler.reports if report.in_place]
    assert [name for (name,) in in_place] == ["conv_last", "select"]
    check_program(program)
    together = form_regions(compiler.calls)
    assert len(program.regions) > len(together)
    lifetimes, _ = chains_of(together, program.table, set())
    assert plan_memory(lifetimes).slots[0] >= 3.5 * wide


def test_what_a_product_reads_elsewhere_keeps_its_memory():
    square = ["f32[48, 48]"] * 2
    assert given(lambda x, w: ops.add(product(x, w), x), *square) == []
    assert given(lambda x, w: ops.add(product(w, w), ops.permute(x, perm=(1, 0))), *square) == []
    assert given(lambda x, w: ops.add(product(w, w), x), *square) == [(0, 0)]


def momentum(x, w, p, m):
    """An optimizer's step on the sums of a gradient."""
    m = ops.add(ops.mul(m, ops.full_like(0.9, m)), product(x, w))
    return ops.sub(p, ops.mul(m, ops.full_like(0.1, m))), m


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("k", [50, 40_000])
def test_a_step_in_an_epilogue_over_what_it_replaces(k, target):
    types = (f"f32[33, {k}]", f"f32[{k}, 40]", "f32[33, 40]", "f32[33, 40]")
    made = compile_graph(graph_of(momentum, *types), target=target)
    # Sums of blocks of k come to lie in the first result.
    assert sorted(made.given) == [(0, 2), (1, 3)] or (k > 50 and len(made.given) == 1)
    random = np.random.default_rng(0)
    arrays = [random.random(p.type.shape, np.float32) for p in made._source.params]
    expected = made(*arrays)
    results = [np.empty_like(array) for array in expected]
    for result, param in made.given:
        results[result] = arrays[param]
    addresses = [[array.ctypes.data for array in some] for some in (arrays, results)]
    made.run_over(*addresses, [])
    for found, want in zip(results, expected):
        assert found.tobytes() == want.tobytes()


@pytest.mark.parametrize("claim", [GemmState, DirectKernel])
def test_a_kernel_that_claims_too_much_is_caught(claim, monkeypatch):
    """Sums that lie in the output before the epilogue reads what lay there."""
    every = property(lambda kernel: kernel.epilogue.over(out=True) if kernel.epilogue else ())
    monkeypatch.setattr(claim, "over", every)
    if claim is GemmState:
        graph = graph_of(lambda x, w, r: ops.add(product(x, w), r), *["f32[37, 37]"] * 3)
        monkeypatch.setattr(GemmState, "blocked", True)
    else:
        one = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
        types = ("f32[2, 20, 9, 7]", "f32[20, 20, 3, 3]", "f32[2, 20, 9, 7]")
        graph = graph_of(lambda x, w, r: ops.add(ops.conv(x, w, **one), r), *types)
    with pytest.raises(VerifyError, match="computes other values where it writes over a parameter"):
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
