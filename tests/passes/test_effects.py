"""Effects within blocks: never dropped, never run twice, through cleaning, derivatives and cuts."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.diff import same
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.autodiff import grad, jvp, vjp
from graphc.passes.batch import vmap
from graphc.passes.clean import clean
from graphc.passes.partition import partition
from graphc.passes.roll import roll

from .derivative_cases import block, full, total


def noisy_scan(x, w):
    def step(c, w):
        c = ops.tanh(c * w)
        ops.print_op(c, text="step")
        return c

    return total(ops.scan(block(step, "f64[2]", "f64[2]"), [x], [], [w], 3)[0])


def noisy_branch(x, w):
    def then(x, w):
        ops.print_op(x, text="branch")
        return ops.sin(x) * w

    other = block(lambda x, w: x, "f64[2]", "f64[2]")
    going = ops.lt(total(x), full(1e9, total(x)))
    return total(ops.cond(going, block(then, "f64[2]", "f64[2]"), other, x, w)[0])


def noisy_while(x, w):
    def step(x, w):
        ops.print_op(x, text="again")
        return [x * 2.0, w]

    types = ["f64[2]", "f64[2]"]
    going = block(lambda x, w: ops.lt(total(x * x), full(100.0, total(x))), *types)
    return total(ops.while_loop(going, block(step, *types), x, w)[0] * w)


FUNCTIONS = {"scan": noisy_scan, "branch": noisy_branch, "while": noisy_while}
ARRAYS = [np.array([0.5, 1.0]), np.array([2.0, -1.0])]


def graph_of(name):
    return trace(FUNCTIONS[name], parse_type("f64[2]"), parse_type("f64[2]"))


def printed(capsys, graph, *arrays):
    evaluate(graph, *(arrays or ARRAYS))
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_effects_run_once_through_every_pass(name, capsys):
    graph = graph_of(name)
    expected = printed(capsys, graph)
    assert expected
    for made in (clean(graph), roll(graph), grad(graph), clean(grad(graph))):
        assert printed(capsys, made) == expected
    assert printed(capsys, clean(jvp(graph)), *ARRAYS, *ARRAYS) == expected
    joint = clean(vjp(graph))
    forward, backward, kept = partition(joint, 2, 1)
    outs = evaluate(forward, *ARRAYS)
    assert capsys.readouterr().out == expected
    evaluate(backward, *ARRAYS, *outs[1:], 1.0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_effect_stays_where_no_result_is_read(name, capsys):
    graph = graph_of(name)
    expected = printed(capsys, graph)
    unread = trace(
        lambda x, w: [FUNCTIONS[name](x, w), x][1], parse_type("f64[2]"), parse_type("f64[2]")
    )
    assert printed(capsys, clean(unread)) == expected
    quiet = trace(lambda x, w: x, parse_type("f64[2]"), parse_type("f64[2]"))
    assert not same(unread, quiet)


def test_a_branch_with_effects_for_each_example_is_refused():
    with pytest.raises(UnsupportedError, match="branches have effects"):
        vmap(graph_of("branch"), [0], 3)
