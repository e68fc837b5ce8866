"""Operands of the wrong number, kind, dtype, shape or device, and wrong attributes, are refused
with the op's name."""

import pytest

from graphc.ir.build import trace
from graphc.ir.dtype import DTYPES
from graphc.ir.errors import DeviceError, DTypeError, GraphcError, ShapeError
from graphc.ir.graph import Attrs
from graphc.ir.op import OPS, Pointwise
from graphc.ir.types import TOKEN, TensorType

from .op_cases import all_cases, cases_of, mixed_of

NAMES = [name for name in OPS if cases_of(name)]
WITH_OPERANDS = [name for name in NAMES if OPS[name].operands]
OF_EACH_KIND = [DTYPES[n] for n in ("f32", "i64", "u8", "bool", "c64")]


def infer(case, types, attrs=None):
    return case.op.infer(Attrs.of(case.attrs if attrs is None else attrs), types)


@pytest.mark.parametrize("name", WITH_OPERANDS)
def test_kinds_that_the_schema_does_not_admit_are_refused(name):
    op, case = OPS[name], cases_of(name)[0]
    refused = 0
    for i, type in enumerate(case.types):
        _, kinds = op.operands[min(i, len(op.operands) - 1)]
        for kind in OF_EACH_KIND:
            if not kinds.admits(kind):
                types = [*case.types[:i], type.with_dtype(kind), *case.types[i + 1 :]]
                with pytest.raises(DTypeError, match=rf"^{op.name} is not defined for {kind.name}"):
                    infer(case, types)
                refused += 1
    assert refused or all(set("fiubc") == set(kinds.letters) for _, kinds in op.operands)


@pytest.mark.parametrize("name", WITH_OPERANDS)
def test_operands_that_are_no_tensors_are_refused(name):
    case = cases_of(name)[0]
    with pytest.raises(TypeError, match=rf"^{case.op.name}: .* must be a tensor, not token"):
        infer(case, [TOKEN, *case.types[1:]])


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_operands_is_checked(name):
    case = cases_of(name)[0]
    operands = case.op.operands
    if not (operands and operands[-1][1].variadic):
        with pytest.raises(TypeError, match=rf"^{case.op.name} takes {len(operands)} operands"):
            infer(case, [*case.types, *(case.types or [TensorType(DTYPES["f32"])])[:1]])
    if len(operands) > 1 or (operands and not operands[-1][1].variadic):
        with pytest.raises((TypeError, ShapeError), match=case.op.name):
            infer(case, case.types[: len(operands) - 2] if len(operands) > 1 else [])


@pytest.mark.parametrize("name", [n for n in NAMES if len(cases_of(n)[0].types) > 1])
def test_operands_share_a_device(name):
    case = cases_of(name)[0]
    far = TensorType(case.types[-1].dtype, case.types[-1].shape, "cuda:0")
    with pytest.raises(DeviceError, match=rf"cpu and cuda:0 in {case.op.name}\b"):
        infer(case, [*case.types[:-1], far])


@pytest.mark.parametrize("name", [n for n in NAMES if len(OPS[n].operands) > 1])
def test_pointwise_operands_share_shape_and_dtype(name):
    op, case = OPS[name], cases_of(name)[0]
    if not isinstance(op, Pointwise):
        return
    longer = case.types[0].with_shape((99,))
    with pytest.raises(ShapeError, match=rf"^{name}: shapes differ: "):
        infer(case, [longer, *case.types[1:]])
    place = mixed_of(op)
    admitted = [k for k in DTYPES.values() if op.operands[place][1].admits(k)]
    other = next(k for k in admitted if k is not case.types[place].dtype)
    with pytest.raises(DTypeError, match=rf"^{name}: dtypes differ: "):
        types = list(case.types)
        types[place] = types[place].with_dtype(other)
        infer(case, types)


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].attributes])
def test_attributes_are_checked(name):
    op, case = OPS[name], cases_of(name)[0]
    full = op.attrs_of(case.attrs)
    for key, kind in op.attributes:
        wrong = {**full, key: "no such thing" if not kind.check("no such thing") else 7}
        with pytest.raises(TypeError, match=rf"^{name}: {key} must be "):
            infer(case, case.types, wrong)
        with pytest.raises(TypeError, match=rf"^{name} needs the attribute '{key}'"):
            infer(case, case.types, {k: v for k, v in full.items() if k != key})
    with pytest.raises(TypeError, match=rf"^{name} takes no attribute 'colour'"):
        op.attrs_of({**case.attrs, "colour": 1})


def test_an_attribute_of_an_op_without_any_is_refused():
    with pytest.raises(TypeError, match="^exp takes no attribute 'axis'"):
        OPS["exp"].attrs_of({"axis": 1})


@pytest.mark.parametrize(
    "case", [c for c in all_cases() if not isinstance(c.op, Pointwise)], ids=repr
)
def test_a_missing_or_added_axis_is_an_error_of_graphc_or_a_type(case):
    """Nothing but graphc's errors comes out of inference, whatever the ranks."""
    for i, type in enumerate(case.types):
        for shape in (type.shape[1:], (*type.shape, 3), (2, *type.shape), ()):
            types = [*case.types[:i], type.with_shape(shape), *case.types[i + 1 :]]
            try:
                found = infer(case, types, case.op.attrs_of(case.attrs))
            except GraphcError as error:
                assert error.message
            else:
                graph = trace(lambda *xs: case.op(*xs, **case.attrs), *types)
                assert [v.type for v in graph.results] == found


@pytest.mark.parametrize(
    "name", [n for n in NAMES if {"axis", "axes"} & set(dict(OPS[n].attributes))]
)
@pytest.mark.parametrize("place", [9, -1])
def test_an_axis_that_is_not_there_is_a_shape_error(name, place):
    op, case = OPS[name], cases_of(name)[0]
    for key in {"axis", "axes"} & set(dict(op.attributes)):
        axis = place if isinstance(case.attrs[key], int) else (*case.attrs[key][1:], place)
        with pytest.raises(ShapeError):
            infer(case, case.types, op.attrs_of({**case.attrs, key: axis}))
