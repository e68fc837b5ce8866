"""Every rule is proved on every dtype; the classical rules that are wrong stay refuted."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.diff import structural_hash
from graphc.ir.dtype import DTYPES
from graphc.ir.op import OPS
from graphc.ir.types import TensorType
from graphc.passes.rewrite import Rule, compile_rules, settle
from graphc.passes.rule_check import CHECKED, NotAdmitted, arguments_of, compare, failures
from graphc.passes.rules import NO_DETACH, RULES

ALL = [*RULES, *NO_DETACH]


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_rule_holds_bit_for_bit(rule):
    assert failures(rule) == {}


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_matcher_fires_on_the_rules_own_left_side(rule):
    table = compile_rules([rule])
    fired = 0
    for dtype in ("f32", "i32", "bool", "c64"):
        for arguments in arguments_of(rule, DTYPES[dtype]):
            try:
                if compare(rule, arguments) is None:
                    continue
            except NotAdmitted:
                continue
            assert left_side(rule, arguments, table) == right_side(rule, arguments)
            fired += 1
    assert fired


def values_in(builder, arguments):
    found = []
    for a in arguments:
        if hasattr(a, "number"):
            found.append(ops.full(a.number, a.dtype, a.shape))
        elif isinstance(a, tuple) and len(a) == 2 and isinstance(a[0], np.ndarray):
            found.append(builder.param(a[1]))
        else:
            found.append(a)
    return found


def left_side(rule, arguments, table):
    with Builder(simplify=table) as builder:
        return structural_hash(builder.graph([rule.left(*values_in(builder, arguments))]))


def right_side(rule, arguments):
    with Builder() as builder:
        values = values_in(builder, arguments)
        inputs = rule.left(*values).node.inputs
        return structural_hash(builder.graph(settle(rule.right(*values), inputs)))


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.commutative], ids=repr)
def test_ops_that_claim_to_commute_do(op):
    """Complex products are left out: numpy's use fma where the machine has it, and overflow then
    depends on the order."""
    rule = Rule(lambda x, y: op(x, y), lambda x, y: op(y, x))
    assert failures(rule, [d for d in CHECKED if d[0] != "c"]) == {}


# Classical rules, each refuted for floats (kept so that nobody adds them again).
o = ops
REFUTED = {
    "x + 0 = x": Rule(lambda x: x + 0.0, lambda x: x),
    "x * 0 = 0": Rule(lambda x: x * 0.0, lambda x: 0.0),
    "x - x = 0": Rule(lambda x: x - x, lambda x: 0.0),
    "x / x = 1": Rule(lambda x: x / x, lambda x: 1.0),
    "0 / x = 0": Rule(lambda x: 0.0 / x, lambda x: 0.0),
    "0 - x = -x": Rule(lambda x: 0.0 - x, lambda x: -x),
    "-(x - y) = y - x": Rule(lambda x, y: -(x - y), lambda x, y: y - x),
    "-(x + y) = -x - y": Rule(lambda x, y: -(x + y), lambda x, y: -x - y),
    "x / 3 = x * (1/3)": Rule(lambda x: x / 3.0, lambda x: x * (1 / 3)),
    "(x / y) * y = x": Rule(lambda x, y: x / y * y, lambda x, y: x),
    "x / y = x * (1/y)": Rule(lambda x, y: x / y, lambda x, y: x * (1.0 / y)),
    "1 / (1/x) = x": Rule(lambda x: 1.0 / (1.0 / x), lambda x: x),
    "(x + y) + z = x + (y + z)": Rule(lambda x, y, z: (x + y) + z, lambda x, y, z: x + (y + z)),
    "(x * y) * z = x * (y * z)": Rule(lambda x, y, z: (x * y) * z, lambda x, y, z: x * (y * z)),
    "(x + 1) - 1 = x": Rule(lambda x: (x + 1.0) - 1.0, lambda x: x),
    "x*y + x*z = x*(y + z)": Rule(lambda x, y, z: x * y + x * z, lambda x, y, z: x * (y + z)),
    "exp(log x) = x": Rule(lambda x: o.exp(o.log(x)), lambda x: x),
    "log(exp x) = x": Rule(lambda x: o.log(o.exp(x)), lambda x: x),
    "exp(x) * exp(y) = exp(x + y)": Rule(
        lambda x, y: o.exp(x) * o.exp(y), lambda x, y: o.exp(x + y)
    ),
    "sqrt(x * x) = abs(x)": Rule(lambda x: o.sqrt(x * x), lambda x: o.abs_(x)),
    "sqrt(x) * sqrt(x) = x": Rule(lambda x: o.sqrt(x) * o.sqrt(x), lambda x: x),
    "pow(x, 0.5) = sqrt(x)": Rule(lambda x: o.pow_(x, 0.5), lambda x: o.sqrt(x)),
    "sum over no axes = x": Rule(lambda x: o.reduce_sum(x, axes=()), lambda x: x),
    "(x * .5) * 3 = x * 1.5": Rule(lambda x: x * 0.5 * 3.0, lambda x: x * 1.5),
    "max(x, y) = select(y < x, x, y)": Rule(
        lambda x, y: o.max_(x, y), lambda x, y: o.select(o.lt(y, x), x, y)
    ),
    "max(x, min(x, y)) = x": Rule(lambda x, y: o.max_(x, o.min_(x, y)), lambda x, y: x),
    "sign(x) * abs(x) = x": Rule(lambda x: o.sign(x) * o.abs_(x), lambda x: x),
    "not(x < y) = y <= x": Rule(lambda x, y: o.not_(o.lt(x, y)), lambda x, y: o.le(y, x)),
    "x == x = true": Rule(lambda x: o.eq(x, x), lambda x: True),
    "x < y = 0 < y - x": Rule(lambda x, y: o.lt(x, y), lambda x, y: o.lt(0.0 * x, y - x)),
    "x * y / y = x": Rule(lambda x, y: x * y / y, lambda x, y: x),
    "(x * 2) / 2 = x": Rule(lambda x: x * 2.0 / 2.0, lambda x: x),
}


@pytest.mark.parametrize("name", REFUTED)
def test_refuted_rule_stays_refuted(name):
    witness = failures(REFUTED[name], ("f32",))
    assert set(witness) == {"f32"}, name
    assert "became" in witness["f32"]


def test_a_rule_that_ran_on_no_dtype_fails():
    nowhere = Rule(lambda x: x + 1.0, lambda x: x, when=lambda x: False)
    assert "no dtype" in failures(nowhere)["none"]


def test_the_check_sees_a_wrong_type():
    wrong = Rule(lambda x: ops.lt(x, x), lambda x: x, when=lambda x: x.type.dtype is DTYPES["f32"])
    assert failures(wrong)["f32"].startswith("bool[")


def test_mirror_images_of_commuting_ops_match():
    table = compile_rules([Rule(lambda x, y: x + -y, lambda x, y: x - y)])
    with Builder(simplify=table) as b:
        x, y = b.param(TensorType(DTYPES["f32"], (2,))), b.param(TensorType(DTYPES["f32"], (2,)))
        assert ops.add(ops.neg(y), x).node.op is ops.sub


def test_one_is_not_true():
    table = compile_rules([Rule(lambda c: ops.select(c, True, False), lambda c: c)])
    with Builder(simplify=table) as b:
        c, x = b.param(TensorType(DTYPES["bool"], (2,))), b.param(TensorType(DTYPES["f32"], (2,)))
        chosen = ops.select(c, ops.full_like(1.0, x), ops.full_like(0.0, x))
        assert chosen.type is x.type
        assert ops.select(c, ops.full_like(True, c), ops.full_like(False, c)) is c


def test_numbers_match_with_the_sign_of_zero():
    table = compile_rules([Rule(lambda x: x + -0.0, lambda x: x)])
    with Builder(simplify=table) as b:
        x = b.param(TensorType(DTYPES["f32"], (2,)))
        assert x + -0.0 is x
        assert x + 0.0 is not x
