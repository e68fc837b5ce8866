"""Views of parts: expand, narrow, select, diagonal, windows; and the parts of complex numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import index as as_int
from typing import Any

from ..frontends.function import Call, composed, function, tensors
from ..frontends.record import Cell, cell_class, recorder
from ..ir import ops
from ..ir.dims import AnyDim, Dim
from ..ir.dtype import DType
from ..ir.errors import ShapeError, UnsupportedError
from ..ir.graph import Node, Value
from ..ir.types import TensorType
from .movement import bracketed, given_or, permuted
from .promote import axis_of
from .sizes import at_most

# --- expansion -----------------------------------------------------------------------------------


def expanded(x: Value, sizes: Sequence[Any]) -> Value:
    """torch's expand: -1 keeps a size, axes of size 1 and new leading axes are repeated."""
    shape, extra = x.type.shape, len(sizes) - len(x.type.shape)
    if extra < 0:
        raise RuntimeError(
            f"expand(torch.{tensor_name(x.type.dtype)}{{{bracketed(shape)}}}, "
            f"size={bracketed(sizes)}): the number of sizes provided ({len(sizes)}) must be "
            f"greater or equal to the number of dimensions in the tensor ({len(shape)})"
        )
    wanted = list(sizes)
    for i, n in enumerate(sizes):
        have = shape[i - extra] if i >= extra else 1
        if n == -1:
            if i < extra:
                raise RuntimeError(
                    f"The expanded size of the tensor (-1) isn't allowed in a leading, "
                    f"non-existing dimension {i}"
                )
            wanted[i] = have
        elif have not in (1, n):
            raise ShapeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({have}) at "
                f"non-singleton dimension {i}.  Target sizes: {bracketed(sizes)}.  Tensor sizes: "
                f"{bracketed(shape)}"
            )
    return ops.broadcast_to(x, tuple(wanted))


_TENSOR_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16",
    "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "uint8": "Byte",
    "bool": "Bool", "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def scalar_name(dtype: DType) -> str:
    """torch's name of an element type in errors: Float, Long, ..."""
    return _TENSOR_NAMES.get(dtype.torch_name, dtype.torch_name)


def tensor_name(dtype: DType) -> str:
    return scalar_name(dtype) + "Tensor"


@function(view=True)
def expand(input, *args, size=None, implicit=False):
    """A larger size by repeating axes of size 1 without copying; -1 keeps a size."""
    return expanded(input, given_or(args, size))


@function(view=True)
def broadcast_to(input, *args, size=None):
    """expand to a size."""
    return expanded(input, given_or(args, size))


@composed
def expand_as(input, other):
    """expand(other.size())."""
    return expand(input, tuple(other.shape))


# --- parts ---------------------------------------------------------------------------------------


def sliced(x: Value, axis: int, start: AnyDim, stop: AnyDim, step: int = 1) -> Value:
    """The elements from start to stop along one axis."""
    shape = x.type.shape
    if start == 0 and stop == shape[axis] and step == 1:
        return x
    low = tuple([start if i == axis else 0 for i in range(len(shape))])
    high = tuple([stop if i == axis else n for i, n in enumerate(shape)])
    steps = tuple([step if i == axis else 1 for i in range(len(shape))])
    return ops.slice_(x, start=low, stop=high, step=steps)


def without_axis(x: Value, axis: int) -> Value:
    """The value without an axis of size 1."""
    shape = x.type.shape
    return ops.reshape(x, shape=(*shape[:axis], *shape[axis + 1 :]))


def selected(x: Value, axis: int, place: AnyDim) -> Value:
    """One place along an axis, which goes away."""
    return without_axis(sliced(x, axis, place, place + 1), axis)


@function(view=True, register=False)
def select_recorded(input, dim, index):
    shape = input.type.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis = axis_of(dim, len(shape))
    place = place_of(index, shape[axis])
    if place is None:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {bracketed(shape)} at "
            f"dimension {axis}"
        )
    return selected(input, axis, place)


def place_of(index: Any, n: AnyDim) -> AnyDim | None:
    """An index that may count from the end, as a place in [0, n); None where it is outside."""
    place = index if isinstance(index, Dim) else as_int(index)
    if isinstance(place, int) and place < 0:
        place = n + place
    return place if at_most(0, place) and at_most(place + 1, n) else None


def _narrowed(x: Value, dim: int, start: int, length: int) -> Value:
    shape = x.type.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if isinstance(length, int) and length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    axis = axis_of(dim, len(shape))
    n = shape[axis]
    begin = n + start if isinstance(start, int) and start < 0 else start
    if not (at_most(0, begin) and at_most(begin, n)):
        raise IndexError(
            f"start out of range (expected to be in range of [{-n}, {n}], but got {start})"
        )
    if not at_most(begin + length, n):
        raise RuntimeError(f"start ({begin}) + length ({length}) exceeds dimension size ({n}).")
    return sliced(x, axis, begin, begin + length)


@function(view=True, register=False)
def narrow_recorded(input, dim, start, length):
    return _narrowed(input, dim, start, length)


@function
def narrow_copy(input, dim, start, length):
    """A copy of `narrow`."""
    return _narrowed(input, dim, start, length)


def diagonal_of(x: Value, offset: int, dim1: int, dim2: int) -> Value:
    """The diagonals of the matrices in two axes, as the last axis: always a view."""
    rank = len(x.type.shape)
    a, b = axis_of(dim1, rank), axis_of(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    x = permuted(x, [*[i for i in range(rank) if i not in (a, b)], a, b])
    *lead, n, m = x.type.shape
    if isinstance(n, int) and isinstance(m, int):
        length = max(min(n, m - offset) if offset >= 0 else min(n + offset, m), 0)
    elif n == m and offset == 0:
        length = n
    else:
        raise UnsupportedError(f"diagonal of a matrix of symbolic size {n} x {m}")
    if length == 0:
        return sliced(ops.reshape(x, shape=(*lead, n * m)), rank - 2, 0, 0)
    first = offset if offset >= 0 else -offset * m
    flat = ops.reshape(x, shape=(*lead, n * m))
    return sliced(flat, rank - 2, first, first + (length - 1) * (m + 1) + 1, m + 1)


@function(view=True)
def diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonals of the matrices in dim1 and dim2, as the last axis."""
    return diagonal_of(input, offset, dim1, dim2)


@function(view=True)
def unfold(input, dimension, size, step):
    """Windows of `size` along an axis, `step` apart; their places are a new last axis."""
    shape = input.type.shape
    x = input if shape else ops.reshape(input, shape=(1,))
    axis, n = axis_of(dimension, len(shape)), x.type.shape[axis_of(dimension, len(shape))]
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if not at_most(size, n):
        raise RuntimeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if not shape:
        return ops.reshape(sliced(x, 0, 0, size), shape=(size,))
    rank = len(shape)
    moved = permuted(x, [*[i for i in range(rank) if i != axis], axis])
    windows = ops.window(moved, sizes=(size,), strides=(step,), dilations=(1,))
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return permuted(windows, [*order, rank])


@function(view=True, register=False)
def _detached(input):
    return ops.detach(input)


@composed
def detach(input):
    """The same values on the same storage, through which no derivative passes."""
    if input._origin is None:
        cell = _computed(input)
        return _detached(input) if cell is None else _beside(input, cell)
    read = [input._read_view()]  # also of what may not be read with a derivative any more
    return Call(_detached, (input,), {}, read).record()


def _computed(tensor: Any) -> Cell | None:
    """The cell of a tensor that is computed: a view with its elements needs no step."""
    if tensor._chain or tensor._leaf or tensor._storage.export is not None:
        return None
    cell, rec = tensor._storage.cell, recorder()
    there = cell.buffer is not None and rec.eager and rec.outer is None and cell.type.is_static
    return cell if there else None


def _beside(tensor: Any, cell: Cell) -> Any:
    """`_detached` of a computed tensor: its cell has the same buffer."""
    made = [cell_class()(cell.type, cell.buffer)]
    structure = None, [_detaching(cell.type)], {}
    return tensors.wrap_view(tensor, cell, made, structure, _detached)


@lru_cache
def _detaching(type: TensorType) -> tuple[Node, ...]:
    """The chain of a detached tensor."""
    node = Node(ops.detach, (Value(type),), [type])
    return (node,)


@function(view=True, register=False)
def alias(input):
    """The tensor itself as another object on the same storage."""
    return input


@function(view=True)
def sum_to_size(input, *size):
    """The sum over the axes that broadcasting to the input's shape would repeat."""
    sizes, shape = given_or(size, None), input.type.shape
    extra = len(shape) - len(sizes)
    fits = extra >= 0 and all([n in (1, m) for n, m in zip(sizes, shape[extra:])])
    if not fits:
        raise RuntimeError(
            f"size {{{bracketed(sizes)}}} is not expandable to size {{{bracketed(shape)}}}."
        )
    axes = [i for i, m in enumerate(shape) if i < extra or (sizes[i - extra] == 1 and m != 1)]
    if not axes:
        return input
    return ops.reshape(ops.reduce_sum(input, axes=tuple(axes)), shape=sizes)


# --- complex numbers -----------------------------------------------------------------------------


@function(view=True)
def real(input):
    """The real part; real tensors are their own. Of a complex tensor it is a copy."""
    return ops.real(input) if input.type.dtype.kind == "c" else input


@function
def imag(input):
    """The imaginary part of a complex tensor, as a copy."""
    if input.type.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return ops.imag(input)


@function
def view_as_real(input):
    """The real and imaginary parts along a new last axis, as a copy."""
    if input.type.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    shape = (*input.type.shape, 1)
    parts = [ops.reshape(part, shape=shape) for part in (ops.real(input), ops.imag(input))]
    return ops.concat(*parts, axis=len(shape) - 1)


@function
def view_as_complex(input):
    """Pairs along the last axis as complex numbers, as a copy."""
    shape = input.type.shape
    if input.type.dtype.kind != "f":
        raise RuntimeError(
            "view_as_complex is only supported for floating point tensors, but got a tensor of "
            f"scalar type: {scalar_name(input.type.dtype)}"
        )
    if not shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return ops.complex_(*[selected(input, len(shape) - 1, i) for i in (0, 1)])


@function(view=True)
def resolve_conj(input):
    """The tensor: conjugation is never left open."""
    return input


@function(view=True)
def resolve_neg(input):
    """The tensor: negation is never left open."""
    return input


METHODS = {"real": property(real), "imag": property(imag)}
