"""The fuzz finds what is wrong: planted errors are seen, named and made small."""

import contextlib
import io

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.types import parse_type

from . import compare
from .__main__ import main
from .bounds import Ranged, bounded_run, disagreement, exact
from .compare import check
from .minimise import fails_in, minimised, report
from .program import Program, program
from .steps import STEPS


def of(function, *arrays):
    types = [parse_type(f"{a.dtype.name.replace('float', 'f').replace('int', 'i')}{list(a.shape)}")
             for a in arrays]  # fmt: skip
    return Program(0, trace(function, *types), arrays, ())


def replaced(graph, old, new):
    """The graph with one op in the place of another: a wrong pass."""
    with Builder() as b:
        values = dict(zip(graph.params, [b.param(p.type) for p in graph.params], strict=True))
        for node in graph.nodes:
            op = OPS[new] if node.op.name == old else node.op
            made = b.emit(op, tuple(values[v] for v in node.inputs), node.attrs, node.blocks)
            values.update(zip(node.outputs, made, strict=True))
        return b.graph([values[v] for v in graph.results])


def wrong(old, new):
    def run(graph, arrays, sizes):
        return evaluate(replaced(graph, old, new), *arrays, sizes=sizes)

    return run


@pytest.mark.parametrize(("old", "new"), [("floor", "trunc"), ("max", "min"), ("lt", "le")])
def test_a_planted_error_is_found_and_made_small(old, new, monkeypatch):
    monkeypatch.setitem(compare.WAYS, "wrong", wrong(old, new))
    seeds = (s for s in range(2000) if old in program(s).count())
    for seed in seeds:
        found = check(program(seed), ("interpreter", "wrong"))
        assert "interpreter" not in found.failures
        if "result" in str(found.failures.get("wrong")):  # not a division by what is 0 now
            break
    small = minimised(program(seed), fails_in("wrong"))
    assert len(small.graph.nodes) <= 4 and old in small.count()
    text = report(small, "wrong", found.failures["wrong"])
    assert f"seed {seed}, wrong: result" in text and "graph @main(" in text and " = " in text


@pytest.mark.parametrize("off", [1, 30, 1e4])
def test_an_error_of_some_units_in_one_element_is_found(off):
    """The class of sin is 4 units; the bound of a short chain is not much more."""
    x = np.linspace(0.5, 1.5, 12, dtype=np.float32)
    made = of(lambda x: ops.sin(ops.sin(x)), x)
    (expected,) = bounded_run(made.graph, made.arrays)
    (found,) = evaluate(made.graph, x)
    assert not disagreement(found, expected)
    found[7] += off * np.spacing(found[7])
    assert bool(disagreement(found, expected)) == (off > 1)


def test_a_wrong_integer_and_a_wrong_zero_are_found():
    expected = exact(np.array([1, 2, 3]))
    assert "at (1,) it is np.int64(5), not np.int64(2)" in disagreement(
        np.array([1, 5, 3]), expected
    )
    zero = exact(np.array([0.0, -0.0]))
    assert not disagreement(np.array([0.0, -0.0]), zero)
    assert disagreement(np.array([0.0, 0.0]), zero)
    assert not disagreement(np.array([0.0, 0.0]), zero, bits=False)
    nan = Ranged(np.array([np.nan, np.inf]), np.ones(2))
    assert not disagreement(np.array([np.nan, np.inf]), nan)
    assert disagreement(np.array([1.0, np.inf]), nan) and disagreement(np.array([np.nan, 1.0]), nan)


def test_what_hangs_on_rounding_is_undetermined():
    x = np.array([0.1, 0.3], np.float32)
    made = of(lambda x: [ops.lt(ops.sin(x), ops.sin(x)), ops.floor(x * 10.0), ops.lt(x, x)], x)
    less, whole, plain = bounded_run(made.graph, made.arrays)
    assert np.isinf(less.error).all() and (plain.error == 0).all()
    assert (whole.error >= 1).any()


def test_the_bound_of_a_sum_grows_with_its_terms():
    x = np.ones(500, np.float32)
    (found,) = bounded_run(of(lambda x: ops.reduce_sum(x, axes=(0,)), x).graph, (x,))
    assert 0 < found.error < 1e-3 * 500


def test_programs_are_the_same_for_a_seed_and_differ_between_seeds():
    texts = [str(program(seed).graph) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(4 <= len(program(seed).steps) <= 16 for seed in range(30))


def test_every_op_has_a_step():
    assert set(STEPS) == set(OPS)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_makes_its_op(name):
    from .program import Maker, Skip

    for seed in range(40):
        maker = Maker(seed)
        with maker.builder:
            try:
                STEPS[name](maker)
            except Skip:
                continue
        if any(node.op.name == name for node in maker.builder.nodes):
            return
    pytest.fail(f"no {name} in 40 tries")


def test_the_command_prints_a_summary():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["--programs", "3", "--seed", "5"])
    assert status == 0
    assert "3 programs, " in out.getvalue() and "failures: 0" in out.getvalue()


def test_the_largest_of_zeros_has_either_sign_where_both_are_there():
    x = np.array([[-0.0, 0.0], [-0.0, -0.0], [0.0, 1.0]], np.float32)
    (found,) = bounded_run(of(lambda x: ops.reduce_max(x, axes=(1,)), x).graph, (x,))
    assert found.error.tolist() == [np.finfo(np.float64).tiny, 0, 0]
    assert not disagreement(np.array([-0.0, -0.0, 1.0], np.float32), found)
    assert disagreement(np.array([0.0, 0.0, 1.0], np.float32), found)
