"""PyTorch's type promotion and broadcasting, as explicit casts and expands.

Operands are `Value`s, Python numbers, and `Number`s (Python floats that became operands).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..frontends import modes
from ..frontends.record import Number
from ..ir import ops
from ..ir.dtype import BOOL, C64, C128, F32, F64, I64, DType, promote
from ..ir.errors import DTypeError
from ..ir.graph import Value
from ..ir.op import as_dtype

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def kind_of_number(x: Any) -> type:
    return x.kind if isinstance(x, Number) else x.__class__


def number_dtype(kind: type) -> DType:
    """The element type that a Python number has on its own."""
    if kind is bool:
        return BOOL
    if kind is int:
        return I64
    default = modes.default_dtype()
    if kind is float:
        return default
    return {F32: C64, F64: C128}.get(default, C64)


def is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float, complex, Number))


def result_type(*operands: Any) -> DType:
    """The common element type: tensors with axes first, then 0-d tensors, then numbers."""
    axes: DType | None = None
    zero: DType | None = None
    number: DType | None = None
    for x in operands:
        if isinstance(x, Value):
            dtype = x.type.dtype
            if x.type.shape:
                axes = dtype if axes is None else promote(axes, dtype)
            else:
                zero = dtype if zero is None else promote(zero, dtype)
        else:
            dtype = number_dtype(kind_of_number(x))
            number = dtype if number is None else promote(number, dtype)
    found = _combine(axes, _combine(zero, number))
    assert found is not None
    return found


def _combine(higher: DType | None, lower: DType | None) -> DType | None:
    if higher is None or lower is None:
        return lower if higher is None else higher
    if higher.kind == "c":
        return higher
    if higher.kind == "f":
        return higher.to_complex() if lower.kind == "c" else higher
    if higher is BOOL or lower.kind in "fc":
        return promote(higher, lower)
    return higher


def to_dtype(x: Any, dtype: DType, like: Value | None = None) -> Value:
    """An operand in an element type; a number becomes a 0-d constant on the device of `like`."""
    if isinstance(x, Number):
        x = x.value
        if like is not None and like.type.device != x.type.device:
            x = ops.copy_to(x, device=like.type.device)
    if isinstance(x, Value):
        return x if x.type.dtype is dtype else ops.cast(x, dtype=dtype)
    device = like.type.device if like is not None else "cpu"
    return ops.full(as_dtype(x, dtype), dtype, (), device)


def broadcast(*values: Value) -> list[Value]:
    """Values of one shape, as numpy broadcasts."""
    first = values[0].type.shape
    if all([v.type.shape == first for v in values]):
        return list(values)
    shape = ops.broadcast_shapes(*[v.type.shape for v in values])
    return [ops.broadcast_to(v, shape) for v in values]


def operands(*given: Any, dtype: DType | None = None) -> list[Value]:
    """Operands promoted to one element type and broadcast to one shape."""
    if dtype is None:
        dtype = result_type(*given)
    like = next((x for x in given if isinstance(x, Value)), None)
    return broadcast(*[to_dtype(x, dtype, like) for x in given])


def floating(x: Value) -> Value:
    """x, with integers and bool in the default floating-point type."""
    return x if x.type.dtype.kind in "fc" else ops.cast(x, dtype=modes.default_dtype())


def floating_type(dtype: DType) -> DType:
    return dtype if dtype.kind in "fc" else modes.default_dtype()


def category(dtype: DType) -> int:
    """0 bool, 1 integer, 2 floating point, 3 complex."""
    return _CATEGORY[dtype.kind]


def can_cast(source: DType, target: DType) -> bool:
    """Whether an in-place result of type `source` may be stored in `target`."""
    return category(source) <= category(target) or (category(source) == 0 and category(target) == 0)


def check_cast(source: DType, target: DType) -> None:
    if not can_cast(source, target):
        names = {"b": "Bool", "u": "Byte", "i": "Long", "f": "Float", "c": "ComplexFloat"}
        raise DTypeError(
            f"result type {names[source.kind]} can't be cast to the desired output type "
            f"{names[target.kind]}"
        )


def axis_of(dim: int, rank: int) -> int:
    """A dim that may count from the end; IndexError outside."""
    span = max(rank, 1)
    if not -span <= dim < span:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], "
            f"but got {dim})"
        )
    return dim % span


def axes_of(dim: Any, rank: int) -> tuple[int, ...]:
    """Dims as sorted axes; None and () mean all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = [axis_of(d, rank) for d in dims]
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"dim {dims} appears multiple times in the list of dims")
    return tuple(sorted(axes)) if rank else ()


def keep(value: Value, axes: Sequence[int], rank: int, keepdim: bool) -> Value:
    """Puts axes of size 1 back where a reduction dropped them."""
    if not keepdim or not rank:
        return value
    sizes = iter(value.type.shape)
    shape = tuple([1 if i in axes else next(sizes) for i in range(rank)])
    return ops.reshape(value, shape=shape)
