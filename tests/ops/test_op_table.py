"""Every op says what it is: a declaration without a hole."""

import pytest

from graphc.ir import composite, ops  # noqa: F401  (declares the ops)
from graphc.ir.op import OPS, Op
from graphc.ir.schema import Case, Special, Uniform
from graphc.passes.autodiff.forward import PUSH
from graphc.passes.autodiff.reverse import PULL

from .op_cases import CONTROL, cases_of

ELSEWHERE = {
    "print": "an effect: tests of the interpreter",
    "assert": "an effect: tests of the interpreter",
    "compact": "its size is a fresh symbol: test_op_meaning.py",
}


def has_derivative(op: Op) -> bool:
    """Whether both modes find a rule."""
    if op.composite or hasattr(op, "partials") or (op.linear is not None and _has(op, "transpose")):
        return True
    return _has(op, "pull") or (op in PULL and op in PUSH)


def _has(op: Op, facet: str) -> bool:
    return getattr(op, facet, None) is not None


@pytest.mark.parametrize("name", OPS)
def test_an_op_has_a_derivative_or_says_why_not(name):
    op = OPS[name]
    assert has_derivative(op) != bool(op.no_derivative)
    assert not op.flat or op.no_derivative


@pytest.mark.parametrize("name", OPS)
def test_an_op_maps_to_onnx_or_says_why_not(name):
    op = OPS[name]
    mapped = op.onnx is not None or _has(op, "to_onnx")
    assert mapped != bool(op.no_onnx)


@pytest.mark.parametrize("name", OPS)
def test_an_op_has_a_text_and_a_meaning(name):
    op = OPS[name]
    assert len(op.doc) > 8 and "." in op.doc
    if op.composite:
        assert _has(op, "expand")
    else:
        assert type(op).eval is not Op.eval or type(op).eval_node is not Op.eval_node


@pytest.mark.parametrize("name", OPS)
def test_an_op_has_samples(name):
    op = OPS[name]
    if name in ELSEWHERE or any(key.split()[0] == name for key in CONTROL):
        assert not op.samples
        return
    assert op.samples and cases_of(name)
    assert all(isinstance(s, (Uniform, Special, Case)) for s in op.samples)


def test_a_commutative_op_takes_two_operands_of_the_same_kind():
    for op in OPS.values():
        if op.commutative:
            (_, a), (_, b) = op.operands
            assert a == b
