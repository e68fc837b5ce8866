"""Types are interned, have one text each, and refuse what is none."""

import copy
import pickle

import numpy as np
import pytest

from graphc.ir.dims import symbol
from graphc.ir.dtype import DTYPES, F32, I64, dtype, from_numpy, promote
from graphc.ir.errors import DTypeError, FormatError
from graphc.ir.types import (
    TOKEN,
    ListType,
    OptionalType,
    ScalarType,
    TensorType,
    TokenType,
    parse_type,
)

TEXTS = [
    "f32[]", "i64[0]", "bf16[2, 3]", "bool[n, 2*m + 1]@cuda:1", "c128[-n + 4]", "token", "int",
    "float", "bool", "str", "List(f32[2])", "Optional(List(int))", "List(Optional(f32[n, 2]))",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_means_one_type(text):
    found = parse_type(text)
    assert found.text == str(found) == repr(found) == text
    assert parse_type(f" {text} ") is found
    assert pickle.loads(pickle.dumps(found)) is found


def test_types_are_interned():
    n = symbol("n")
    assert TensorType(F32, [2, n + 1]) is TensorType(F32, (2, 1 + n))
    assert TensorType(F32, (2,)) is not TensorType(F32, (2,), "cuda:0")
    assert ListType(ScalarType("int")) is parse_type("List(int)")
    assert OptionalType(TOKEN) is OptionalType(TokenType())
    assert TensorType(F32, (2, 3)).with_dtype(I64).with_shape(()) is parse_type("i64[]")
    assert parse_type("f32[2, 3]").rank == 2


@pytest.mark.parametrize("dim", [2.5, "n", None, np.float32(0.5)])
def test_a_dim_is_an_int_or_a_polynomial(dim):
    with pytest.raises(TypeError, match="a dim is an int or a Dim, not"):
        TensorType(F32, (dim,))


@pytest.mark.parametrize(
    "text",
    ["", "f32", "f33[2]", "f32[2", "f32 2]", "f32[2]cuda", "f32[-1]", "f32[2,,3]", "List(",
     "List(x)", "Optional(f32)", "token[2]", "f32[[2]]", "int[3]"],
)  # fmt: skip
def test_malformed_texts_are_refused(text):
    with pytest.raises((FormatError, DTypeError)) as caught:
        parse_type(text)
    assert len(str(caught.value).splitlines()) <= 8


def test_scalar_types_have_four_kinds():
    with pytest.raises(FormatError, match="no scalar type is called 'complex'"):
        ScalarType("complex")


@pytest.mark.parametrize("name", DTYPES)
def test_element_types(name):
    kind = dtype(name)
    assert kind is DTYPES[name] and kind.name == name
    assert str(kind) == repr(kind) == f"torch.{kind.torch_name}"
    assert kind.numpy.itemsize == kind.itemsize == kind.bits // 8
    assert from_numpy(kind.numpy) is kind
    for copied in (copy.copy(kind), copy.deepcopy(kind), pickle.loads(pickle.dumps(kind))):
        assert copied is kind
    assert kind.is_floating_point == (kind.kind == "f")
    assert kind.is_signed == (kind.kind in "fic")


def test_no_element_type():
    with pytest.raises(DTypeError, match="no element type is called 'f7'; there are f64, f32"):
        dtype("f7")
    with pytest.raises(TypeError, match=r"can't convert np.ndarray of type U1\. The supported"):
        from_numpy("U1")


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
def test_promotion_is_symmetric_and_holds_both(a, b):
    x, y = DTYPES[a], DTYPES[b]
    try:
        found = promote(x, y)
    except DTypeError as error:
        assert "Promotion for" in str(error)
        with pytest.raises(DTypeError):
            promote(y, x)
        return
    assert promote(y, x) is found
    assert promote(found, x) is found and promote(found, y) is found
    assert "biufc".index(found.kind.replace("u", "i")) >= "biufc".index(x.kind.replace("u", "i"))
