"""Creation: tensors from data, constants, ranges."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import name_of
from ..frontends import modes
from ..frontends.function import function
from ..frontends.record import Number
from ..ir import ops
from ..ir.dtype import BOOL, C128, I64, DType, from_numpy
from ..ir.graph import Value
from ..ir.op import as_dtype
from ..tensor import Tensor, from_array
from .numpy_memory import from_numpy_array
from .promote import broadcast, number_dtype, to_dtype


def _finish(tensor: Tensor, requires_grad: bool) -> Tensor:
    return tensor.requires_grad_(True) if requires_grad else tensor


# --- from data ---------------------------------------------------------------------------------


def _data_array(data: Any, dtype: DType | None) -> np.ndarray:
    """A numpy array of nested lists, numbers, arrays or tensors, in torch's element type."""
    if isinstance(data, Tensor):
        array = data._array()
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        from_numpy(array.dtype)
    else:
        array = _from_python(data, exact=dtype is not None)
    if dtype is not None and array.dtype != dtype.numpy:
        array = _converted(array, dtype)
    return array


def _from_python(data: Any, exact: bool) -> np.ndarray:
    """Nested lists in torch's element type for them; `exact`: in one that loses nothing."""
    kinds: set[type] = set()
    plain = _plain(data, kinds)
    try:
        array = np.array(plain)
    except ValueError:
        raise ValueError(_ragged(plain)) from None
    if array.dtype == object:
        raise TypeError(f"cannot make a tensor of {type(data).__name__}")
    if not kinds:
        return array if exact else array.astype(modes.default_dtype().numpy)
    widest = next((k for k in (builtins.complex, float, int, bool) if k in kinds), None)
    if widest is None:  # numpy scalars
        return array
    if widest is int and array.dtype.kind == "u":
        raise RuntimeError("Overflow when unpacking long long")
    return array if exact else array.astype(number_dtype(widest).numpy)


_PYTHON = {"b": bool, "i": int, "u": int, "c": builtins.complex}


def _plain(data: Any, kinds: set[type]) -> Any:
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return [_plain(item, kinds) for item in data]
    if isinstance(data, Tensor):
        array = data._array()
        kinds.add(_PYTHON.get(data.dtype.kind, float))
        return array.tolist()
    if isinstance(data, np.ndarray):
        kinds.add(_PYTHON.get(data.dtype.kind, float))
        return data.tolist()
    for kind in (bool, int, float, builtins.complex):
        if isinstance(data, kind):
            kinds.add(kind)
            return data
    if isinstance(data, np.generic):
        return _plain(data.item(), kinds)
    raise TypeError(
        f"new(): invalid data type '{type(data).__name__}'"
        if isinstance(data, str)
        else f"must be real number, not {type(data).__name__}"
    )


def _ragged(data: Any, depth: int = 0) -> str:
    """torch's message for nested lists whose lengths differ."""
    want = len(data[0]) if data and isinstance(data[0], list) else None
    for i, item in enumerate(data):
        have = len(item) if isinstance(item, list) else None
        if want is not None and have is None:
            return f"expected sequence of length {want} at dim {depth + 1} (got a number)"
        if want is not None and have != want:
            return f"expected sequence of length {want} at dim {depth + 1} (got {have})"
        if isinstance(item, list) and item and isinstance(item[0], list):
            deeper = _ragged(item, depth + 1)
            if deeper:
                return deeper
        del i
    return "" if depth else "the nested lists do not have the same lengths"


def _converted(array: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype.kind in "iu" and array.dtype.kind not in "iub":
        with np.errstate(invalid="ignore"):
            return np.trunc(array.astype(np.float64)).astype(np.int64).astype(dtype.numpy)
    if dtype is BOOL:
        return array != 0
    with np.errstate(over="ignore"):
        return array.astype(dtype.numpy)


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A new tensor with a copy of the data."""
    if device is None and isinstance(data, Tensor):
        device = data.device
    made = from_array(_data_array(data, dtype), name_of(device))
    return _finish(made, requires_grad)


def legacy_tensor(data: Any = (), *sizes: int, device: Any = None) -> Tensor:
    """torch.Tensor(2, 3) and torch.Tensor([1., 2.]): in the default element type."""
    if isinstance(data, int) and not isinstance(data, bool):
        return empty(data, *sizes, device=device)
    if isinstance(data, Tensor):
        return data.detach()
    return tensor(data, dtype=modes.default_dtype(), device=device)


def as_tensor(data, dtype=None, device=None):
    """The data as a tensor; without a copy where that is possible."""
    if isinstance(data, Tensor):
        same = (dtype is None or dtype is data.dtype) and (
            device is None or name_of(device) == name_of(data.device)
        )
        return data if same else data.to(device or data.device, dtype or data.dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == dtype.numpy):
        if data.flags.writeable:
            return from_numpy_array(data)
    return tensor(data, dtype=dtype, device=device)


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A tensor on the memory of an object with the buffer protocol."""
    array = np.frombuffer(buffer, dtype.numpy, count, offset)
    return _finish(from_numpy_array(array), requires_grad)


# --- constants ---------------------------------------------------------------------------------


def sizes_of(size: Sequence[Any]) -> tuple[int, ...]:
    """The sizes of zeros(2, 3), zeros((2, 3)) and zeros(torch.Size([2, 3]))."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    found = tuple([int(n) for n in size])
    for n in found:
        if n < 0:
            raise RuntimeError(
                f"Trying to create tensor with negative dimension {n}: {list(found)}"
            )
    return found


@function(register=False, sizes=(2,))
def _full(value, dtype, shape, device):
    if isinstance(value, Number):
        number = to_dtype(value, dtype)
        if device != "cpu":
            number = ops.copy_to(number, device=device)
        return ops.broadcast_to(number, shape)
    return ops.full(value, dtype, shape, device)


def _filled(value: Any, size: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    dtype = dtype or modes.default_dtype()
    return _finish(_full(value, dtype, sizes_of(size), name_of(device)), requires_grad)


def _size_argument(size: tuple, keyword: Any) -> tuple:
    return size if keyword is None else (keyword,)


def zeros(*size, out=None, dtype=None, layout=None, device=None, requires_grad=False,
          pin_memory=False, names=None):  # fmt: skip
    """A tensor of zeros."""
    made = _filled(
        0, size, dtype or (out.dtype if out is not None else None), device, requires_grad
    )
    return made if out is None else out._write_out(made)


def ones(*size, out=None, dtype=None, layout=None, device=None, requires_grad=False,
         pin_memory=False, names=None):  # fmt: skip
    """A tensor of ones."""
    made = _filled(
        1, size, dtype or (out.dtype if out is not None else None), device, requires_grad
    )
    return made if out is None else out._write_out(made)


def empty(*size, out=None, dtype=None, layout=None, device=None, requires_grad=False,
          pin_memory=False, memory_format=None):  # fmt: skip
    """A tensor whose contents do not matter: zeros, so that programs repeat."""
    return _filled(0, size, dtype, device, requires_grad)


def full(size, fill_value, *, out=None, dtype=None, layout=None, device=None, pin_memory=False,
         requires_grad=False):  # fmt: skip
    """A tensor of one number."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    made = _filled(
        fill_value, (size,), dtype or number_dtype(type(fill_value)), device, requires_grad
    )
    return made if out is None else out._write_out(made)


def _like(input: Tensor, dtype: Any, device: Any) -> tuple[DType, Any]:
    return dtype or input.dtype, device if device is not None else input.device


def zeros_like(input, *, dtype=None, layout=None, device=None, pin_memory=False,
               requires_grad=False, memory_format=None):  # fmt: skip
    """Zeros of the shape and type of another tensor."""
    dtype, device = _like(input, dtype, device)
    return _filled(0, (input.shape,), dtype, device, requires_grad)


def ones_like(input, *, dtype=None, layout=None, device=None, pin_memory=False,
              requires_grad=False, memory_format=None):  # fmt: skip
    """Ones of the shape and type of another tensor."""
    dtype, device = _like(input, dtype, device)
    return _filled(1, (input.shape,), dtype, device, requires_grad)


def empty_like(input, *, dtype=None, layout=None, device=None, pin_memory=False,
               requires_grad=False, memory_format=None):  # fmt: skip
    """A tensor of the shape and type of another one, whose contents do not matter."""
    dtype, device = _like(input, dtype, device)
    return _filled(0, (input.shape,), dtype, device, requires_grad)


def full_like(input, fill_value, *, dtype=None, layout=None, device=None, pin_memory=False,
              requires_grad=False, memory_format=None):  # fmt: skip
    """One number in the shape and type of another tensor."""
    dtype, device = _like(input, dtype, device)
    return _filled(fill_value, (input.shape,), dtype, device, requires_grad)


@function(register=False, sizes=(0, 1))
def _eye(n, m, dtype, device):
    rows, columns = ops.iota((n, m), 0, I64, device), ops.iota((n, m), 1, I64, device)
    return ops.cast(ops.eq(rows, columns), dtype=dtype)


def eye(n, m=None, *, out=None, dtype=None, layout=None, device=None, pin_memory=False,
        requires_grad=False):  # fmt: skip
    """Ones on the diagonal, zeros elsewhere."""
    made = _eye(n, n if m is None else m, dtype or modes.default_dtype(), name_of(device))
    return _finish(made, requires_grad) if out is None else out._write_out(made)


# --- ranges ------------------------------------------------------------------------------------


@function(register=False, floats=False, sizes=(2,))
def _line(start, step, count, dtype, device):
    """start + step * i, computed in the accumulation type of the element type."""
    wide = dtype if dtype.kind in "iu" else (C128 if dtype.kind == "c" else _double())
    i = ops.iota((count,), 0, wide, device)
    x = ops.add(ops.full_like(start, i), ops.mul(ops.full_like(step, i), i))
    return ops.cast(x, dtype=dtype)


def _double() -> DType:
    from ..ir.dtype import F64

    return F64


def arange(start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None,
           requires_grad=False, pin_memory=False):  # fmt: skip
    """start, start + step, ... below end."""
    if end is None:
        start, end = 0, start
    start, end, step = [v.item() if isinstance(v, Tensor) else v for v in (start, end, step)]
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, end, step))
        dtype = I64 if whole else modes.default_dtype()
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (step > 0 and start > end) or (step < 0 and start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = math.ceil((end - start) / step)
    made = _line(start, step, count, dtype, name_of(device))
    return _finish(made, requires_grad) if out is None else out._write_out(made)


@function(register=False, floats=False)
def _linspace(start, end, steps, dtype, device):
    """torch's formula: forward from the start, backward from the end after the middle."""
    if steps == 1:
        return ops.full(as_dtype(start, dtype), dtype, (1,), device)
    work = dtype if dtype.kind in "fc" else _double()
    step = as_dtype((end - start) / (steps - 1), work) if steps > 1 else 0.0
    i = ops.iota((steps,), 0, work, device)
    back = ops.sub(ops.full_like(steps - 1, i), i)
    low = ops.add(ops.full_like(start, i), ops.mul(ops.full_like(step, i), i))
    high = ops.sub(ops.full_like(end, i), ops.mul(ops.full_like(step, i), back))
    return ops.cast(ops.select(ops.lt(i, ops.full_like(steps // 2, i)), low, high), dtype=dtype)


def linspace(start, end, steps, *, out=None, dtype=None, layout=None, device=None, pin_memory=False,
             requires_grad=False):  # fmt: skip
    """`steps` numbers from start to end, both included."""
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    made = _linspace(start, end, steps, dtype or modes.default_dtype(), name_of(device))
    return _finish(made, requires_grad) if out is None else out._write_out(made)


def logspace(start, end, steps, base=10.0, *, out=None, dtype=None, layout=None, device=None,
             pin_memory=False, requires_grad=False):  # fmt: skip
    """base to the powers of linspace(start, end, steps)."""
    from .pointwise import pow

    line = linspace(start, end, steps, dtype=dtype, device=device)
    made = pow(full((), float(base), dtype=line.dtype), line)
    return _finish(made, requires_grad) if out is None else out._write_out(made)


@function
def complex(real, imag):
    """A complex tensor of two parts."""
    return ops.complex_(*broadcast(real, imag))


@function
def polar(abs, angle):
    """A complex tensor of sizes and angles."""
    r, a = broadcast(abs, angle)
    return ops.complex_(ops.mul(r, ops.cos(a)), ops.mul(r, ops.sin(a)))


def scalar_tensor(s, *, dtype=None, layout=None, device=None, pin_memory=False,
                  requires_grad=False):  # fmt: skip
    """A 0-d tensor."""
    return _filled(s, ((),), dtype, device, requires_grad)


@function
def cast_to(input, dtype, device):
    """The input in another element type and on another device."""
    x: Value = input
    if x.type.device != device:
        if x.type.device == "meta":
            raise NotImplementedError(
                "Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() "
                "instead of torch.nn.Module.to() when moving module from meta to a different "
                "device."
            )
        x = ops.copy_to(x, device=device)
    return x if x.type.dtype is dtype else ops.cast(x, dtype=dtype)
