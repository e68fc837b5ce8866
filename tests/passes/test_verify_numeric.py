"""verify = "numeric": a wrong rule in any pass is caught, named, and traced to a node and a line.

Each test plants one: it replaces a piece of the compiler by a wrong one.
"""

import dataclasses
import importlib
import sys

import numpy as np
import pytest

import graphc
from graphc.backends import base
from graphc.backends.llvm import assemble
from graphc.backends.llvm.contract.emitter import Emitter
from graphc.backends.llvm.emit import combine
from graphc.frontends import execute
from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.build import trace as trace_graph
from graphc.ir.errors import VerifyError
from graphc.ir.graph import Graph
from graphc.ir.op import OPS
from graphc.ir.types import parse_type
from graphc.passes import clean as clean_module
from graphc.passes import expand, pipeline
from graphc.passes.clean import table_of
from graphc.passes.fuse import pull
from graphc.passes.memory import ArenaPlan, Place, plan_memory
from graphc.passes.rewrite import Rule

conv = importlib.import_module("graphc.backends.llvm.contract.conv")  # the package has a function
LINE = "net.py:7 in forward"


def graph_of(function, *types):
    """The graph of a function of values, one line for every node."""
    with Builder() as b:
        params = [b.param(parse_type(text), f"x{k}") for k, text in enumerate(types)]
        b.loc = "net.py:1 in forward"
        results = function(b, *params)
        return b.graph(results if isinstance(results, list) else [results])


def caught(graph):
    """What the verification says of a graph; at most eight lines."""
    with pytest.raises(VerifyError) as error:
        base.build(graph, verify="numeric")
    text = str(error.value)
    assert len(text.splitlines()) <= 8
    return text


def on_line(b, function):
    """The value that a function builds, on LINE."""
    outer, b.loc = b.loc, LINE
    made = function()
    b.loc = outer
    return made


def assert_names(text, *parts):
    for part in parts:
        assert part in text, text


# --- passes over graphs --------------------------------------------------------------------------


def ratio(b, x, y):
    return ops.exp(on_line(b, lambda: x / y))


def test_an_algebra_rule(monkeypatch):
    wrong = table_of([Rule(lambda x, y: x / y, lambda x, y: x - y)])
    monkeypatch.setattr(pipeline, "final_table", lambda: wrong)
    text = caught(graph_of(ratio, "f32[8]", "f32[8]"))
    assert_names(text, "the pass clean (exact) changed result 0", "(div)", LINE)


def test_a_movement_rule(monkeypatch):
    wrong = table_of([Rule(lambda x, p: ops.flip(x, axes=p), lambda x, p: x)])
    monkeypatch.setattr(pipeline, "final_table", lambda: wrong)

    def backward(b, x):
        return ops.exp(on_line(b, lambda: ops.flip(x, axes=(1,))))

    text = caught(graph_of(backward, "f32[3, 5]"))
    assert_names(text, "the pass clean", "(flip)", LINE)


def test_a_fold(monkeypatch):
    evaluate = clean_module._evaluate

    def off_by_one(op, arrays, attrs):
        return evaluate(op, arrays, attrs) + 1

    monkeypatch.setattr(clean_module, "_evaluate", off_by_one)

    def constants(b, x):
        two = ops.full(2.0, x.type.dtype, (4,))
        return x * on_line(b, lambda: two + two)

    text = caught(graph_of(constants, "f32[4]"))
    assert_names(text, "the pass clean", "(add)", LINE)


def test_an_expansion(monkeypatch):
    def sixth(node):
        return trace_graph(lambda x: OPS["min"](x, x * 0.0), *[v.type for v in node.inputs])

    monkeypatch.setattr(expand, "expansion", sixth)

    def rectified(b, x):
        return ops.exp(on_line(b, lambda: OPS["relu"](x)))

    text = caught(graph_of(rectified, "f32[9]"))
    assert_names(text, "the pass expand", "(relu)", LINE)


# --- derivatives ---------------------------------------------------------------------------------


def a_step(n):
    """A training step whose sizes no other test has: what was recorded once is not made again."""
    graphc.manual_seed(0)
    w = graphc.randn(n, 3, requires_grad=True)
    loss = (graphc.randn(2, n) @ w).tanh().flip(1).cumsum(1).exp().sum()
    loss.item()  # a look: what backward needs is kept
    loss.backward()
    return w.grad.tolist()


def test_a_transpose(monkeypatch):
    monkeypatch.setattr(base.settings, "verify", "numeric")
    monkeypatch.setattr(OPS["flip"], "transpose", lambda ct, node, i: ct)
    with pytest.raises(VerifyError) as error:
        a_step(4)
    assert_names(
        str(error.value),
        "autodiff has a wrong derivative of flip by operand 0",
        "test_verify_numeric.py",
        ".flip(1)",
    )


def test_a_residual_that_is_dropped(monkeypatch):
    partition = execute.partition

    def forgetful(joint, n_inputs, n_results):
        forward, backward, kept = partition(joint, n_inputs, n_results)
        results = list(forward.results)
        lost = results[-1]
        with Builder(forward.params) as b:
            made = b.replay(forward, forward.params)
            zero = ops.full(0.0, lost.type.dtype, lost.type.shape)
            return b.graph([*made[:-1], zero]), backward, kept

    monkeypatch.setattr(base.settings, "verify", "numeric")
    monkeypatch.setattr(execute, "partition", forgetful)
    with pytest.raises(VerifyError) as error:
        a_step(5)
    assert_names(str(error.value), "the pass partition changed result", "backward half")


# --- kernels -------------------------------------------------------------------------------------


def test_a_wrong_index_in_a_fused_kernel(monkeypatch):
    def unmoved(self, group, node, index, guards):
        return self(group, node.inputs[0], index, guards)

    monkeypatch.setitem(pull.MOVEMENT, "flip", unmoved)

    def shifted(b, x, y):
        return ops.exp(on_line(b, lambda: ops.flip(x, axes=(0,)))) * y

    text = caught(graph_of(shifted, "f32[6, 5]", "f32[6, 5]"))
    assert_names(text, "the kernel map_", "instead of", "(flip)", LINE)


@pytest.mark.parametrize("size", ["21", "n"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_tail(monkeypatch, off, size):
    """One lane too many writes behind the buffer; one too few leaves nan."""
    right = combine.lanes_below

    def wrong(p, remaining, first=0):
        return right(p, remaining, first - off)

    monkeypatch.setattr(combine, "lanes_below", wrong)

    def doubled(b, x):
        return on_line(b, lambda: x + x)

    text = caught(graph_of(doubled, f"f32[3, {size}]"))
    assert_names(text, "writes beside" if off > 0 else "computes nan", "(add)", LINE)


def image(b, x, w):
    def convolution():
        return OPS["conv"](x, w, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)

    return OPS["relu"](on_line(b, convolution))


IMAGE = ("f32[2, 5, 9, 11]", "f32[9, 5, 3, 3]")


@pytest.fixture
def fresh_convolutions():
    """Kernels of convolutions are written once a process: what is planted must not stay."""
    from graphc.backends.llvm import products

    for cached in (conv._plain, products._convolution):
        cached.cache_clear()
    yield
    for cached in (conv._plain, products._convolution):
        cached.cache_clear()


def test_a_wrong_halo(monkeypatch, fresh_convolutions):
    forward = conv.forward

    def moved(problem):
        found = forward(problem)
        depth, rows, columns = found.border
        return dataclasses.replace(found, border=(depth, rows, columns - 1))

    monkeypatch.setattr(conv, "forward", moved)
    text = caught(graph_of(image, *IMAGE))
    assert_names(text, "the kernel conv", "(conv)", LINE)


def test_a_wrong_overlap(monkeypatch, fresh_convolutions):
    """The last square of a transpose begins one element too early, and the last one is left."""
    minimum = Emitter.minimum

    def early(self, a, b):
        caller = sys._getframe(1).f_code
        in_squares = caller.co_name == "one" and caller.co_filename.endswith("packing.py")
        return minimum(self, a, self.sub(b, 1) if in_squares else b)

    monkeypatch.setattr(Emitter, "minimum", early)
    text = caught(graph_of(image, *IMAGE))
    assert_names(text, "the kernel conv", "(conv)", LINE)


# --- memory --------------------------------------------------------------------------------------


def chain(b, x):
    def everywhere(v):
        return ops.expand(v, shape=x.type.shape, axes=(0,))

    first = everywhere(on_line(b, lambda: ops.reduce_sum(x, axes=(0,))))
    second = everywhere(ops.reduce_max(x * first, axes=(0,)))
    return ops.reduce_sum(x * first + x * second, axes=(1,))


def test_two_live_buffers_in_one_place(monkeypatch):
    def crowded(lifetimes):
        plan = plan_memory(lifetimes)
        return ArenaPlan(plan.slots, dict.fromkeys(plan.places, Place(0, 0)))

    monkeypatch.setattr(assemble, "plan_memory", crowded)
    graph = graph_of(chain, "f32[40, 24]")
    assert_names(caught(graph), "the memory plan puts", "still in use", LINE)
    with pytest.raises(VerifyError, match="the memory plan"):
        base.build(graph, verify="structure")


def test_a_result_of_another_buffer(monkeypatch):
    """Right kernels, a wrong program."""
    whole = assemble.Compiler._program

    def swapped(self):
        program = whole(self)
        first, second = self.graph.results[:2]
        table = dict(program.table)
        table[first], table[second] = table[second], table[first]
        program.table = table
        return program

    monkeypatch.setattr(assemble.Compiler, "_program", swapped)

    def two(b, x):
        return [ops.reduce_sum(x, axes=(0,)), ops.reduce_max(x, axes=(0,))]

    assert_names(caught(graph_of(two, "f32[8, 6]")), "the program as a whole", "instead of")


# --- what is right -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["6", "n"])
def test_what_is_right_is_passed(size, caplog):
    def softmax_of_products(b, x, w, i):
        y = OPS["softmax"](ops.dot(x, w, contract=((1,), (0,))), axis=1)
        return [ops.gather(y, i, axis=0), ops.cumulative(y, axis=0, mode="sum", reverse=False)]

    graph = graph_of(softmax_of_products, f"f32[{size}, 7]", "f32[7, 19]", "i64[3]")
    executable = base.build(graph, verify="numeric")
    x, w = np.ones((6, 7), np.float32), np.ones((7, 19), np.float32)
    rows, sums = executable(x, w, np.array([0, 5, 1]))
    assert rows.shape == (3, 19) and np.allclose(sums[-1], 6 / 19)
    assert not caplog.records


def test_loops_and_complex_numbers_are_verified(caplog):
    body = trace_graph(lambda h, x: [h * x + h, h], parse_type("f32[4]"), parse_type("f32[4]"))

    def looped(b, h, xs, z):
        last, rows = ops.scan(body, [h], [xs], [], 5)
        return [last, rows, z * z]

    base.build(graph_of(looped, "f32[4]", "f32[5, 4]", "c64[3]"), verify="numeric")
    assert not caplog.records


def test_config_and_compile_reach_it(monkeypatch):
    def unmoved(self, group, node, index, guards):
        return self(group, node.inputs[0], index, guards)

    monkeypatch.setitem(pull.MOVEMENT, "flip", unmoved)
    flipped = graphc.compile(lambda x: x.flip(0) + 1, verify="numeric")
    with pytest.raises(VerifyError, match=r"x\.flip\(0\)"):
        flipped(graphc.arange(7.0))
    with graphc.config.patch(verify="numeric"), pytest.raises(VerifyError):
        (graphc.arange(9.0).flip(0) * 3).tolist()


def test_where_it_does_not_run_it_says_so(caplog):
    graph = graph_of(lambda b, x, i: ops.gather(x, i * 100 + 7, axis=0), "f32[2]", "i64[3]")
    base.build(graph, verify="numeric")
    assert "verification of kernels did not run" in caplog.text


def test_graphs_keep_their_type():
    assert isinstance(base.core_graph(graph_of(ratio, "f32[2]", "f32[2]")), Graph)
