"""Views: another shape, another order of axes, a part. They share the storage where torch's do."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import AnyDim, product
from ..ir.dtype import DType
from ..ir.errors import ShapeError, UnsupportedError
from ..ir.graph import Value
from ..tensor import adopt
from .promote import axis_of
from .sizes import same


def ints_of(given: Sequence[Any]) -> tuple[Any, ...]:
    """The sizes or dims of f(x, 2, 3), f(x, (2, 3)) and f(x, [2, 3])."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = given[0]
    return tuple(
        [n if n.__class__ is int or not hasattr(n, "__index__") else as_int(n) for n in given]
    )


def given_or(dims: tuple, keyword: Any) -> tuple[Any, ...]:
    """A variadic argument, or the same by its keyword."""
    return ints_of(dims if keyword is None else (keyword,))


def bracketed(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


# --- shapes --------------------------------------------------------------------------------------


def resolve_shape(x: Value, shape: Sequence[Any]) -> tuple[AnyDim, ...]:
    """A shape with its -1 replaced; torch's errors where it does not fit."""
    old = x.type.shape
    inferred = [i for i, n in enumerate(shape) if n == -1]
    if len(inferred) > 1:
        raise RuntimeError("only one dimension can be inferred")
    for i, n in enumerate(shape):
        if isinstance(n, int) and n < -1:
            raise RuntimeError(
                f"invalid shape dimension {n} at index {i} of shape {bracketed(shape)}"
            )
    count = product(old)
    if not inferred:
        if product(shape) != count:
            raise _invalid(shape, count)
        return tuple(shape)
    rest = product([n for n in shape if n != -1])
    if rest == 0:
        if count == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {bracketed(shape)} because the "
                f"unspecified dimension size -1 can be any value and is ambiguous"
            )
        raise _invalid(shape, count)
    if isinstance(count, int) and isinstance(rest, int) and count % rest:
        raise _invalid(shape, count)
    return tuple([count // rest if n == -1 else n for n in shape])


def _invalid(shape: Sequence[Any], count: AnyDim) -> ShapeError:
    return ShapeError(f"shape '{bracketed(shape)}' is invalid for input of size {count}")


def reshaped(x: Value, shape: Sequence[Any]) -> Value:
    return ops.reshape(x, shape=tuple(shape)) if tuple(shape) != x.type.shape else x


@function(view=True)
def reshape(input, *args, shape=None):
    """The same elements in row-major order, in another shape; one size may be -1."""
    return reshaped(input, resolve_shape(input, given_or(args, shape)))


@function(view="strict", register=False)
def _view(input, *args, size=None):
    return reshaped(input, resolve_shape(input, given_or(args, size)))


@composed
def view(input, *args, size=None, dtype=None):
    """Another shape over the same memory, or the same memory read as another element type."""
    if args and isinstance(args[0], DType):
        dtype = args[0]
    if dtype is not None:
        return _viewed_as(input, dtype)
    return _view(input, *args) if size is None else _view(input, size)


def _viewed_as(input: Any, dtype: DType) -> Any:
    if dtype is input.dtype:
        return _view(input, tuple(input.shape))
    raise UnsupportedError(
        f"view of {input.dtype!r} as {dtype!r}: memory is not read as another element type",
        hint="Use .to(dtype) to convert the values.",
    )


@composed
def view_as(input, other):
    """view(other.size())."""
    return _view(input, tuple(other.shape))


@composed
def reshape_as(input, other):
    """reshape(other.size())."""
    return reshape(input, tuple(other.shape))


@function(view=True)
def flatten(input, start_dim=0, end_dim=-1):
    """The axes from start_dim to end_dim as one."""
    shape = input.type.shape
    first, last = axis_of(start_dim, len(shape)), axis_of(end_dim, len(shape))
    if not shape:
        return reshaped(input, (1,))
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    middle = product(shape[first : last + 1])
    return reshaped(input, (*shape[:first], middle, *shape[last + 1 :]))


@function(view=True)
def ravel(input):
    """All axes as one."""
    return reshaped(input, (product(input.type.shape),))


@function(view=True)
def unflatten(input, dim, sizes):
    """One axis as several."""
    shape = input.type.shape
    axis, sizes = axis_of(dim, len(shape)), ints_of((sizes,))
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    inferred = [n for n in sizes if n == -1]
    if len(inferred) > 1:
        raise RuntimeError("unflatten got an unexpected error:\nonly one dimension can be inferred")
    rest = product([n for n in sizes if n != -1])
    whole = shape[axis]
    if inferred and rest != 0 and not (isinstance(whole, int) and whole % rest):
        sizes = tuple([whole // rest if n == -1 else n for n in sizes])
    if product(sizes) != whole:
        raise RuntimeError(
            f"unflatten: Provided sizes {bracketed(sizes)} don't multiply up to the size of dim "
            f"{axis} ({whole}) in the input tensor"
        )
    return reshaped(input, (*shape[:axis], *sizes, *shape[axis + 1 :]))


@function(view=True)
def unsqueeze(input, dim):
    """A new axis of size 1 at `dim`."""
    shape = input.type.shape
    axis = axis_of(dim, len(shape) + 1)
    return ops.reshape(input, shape=(*shape[:axis], 1, *shape[axis:]))


@function(view=True)
def squeeze(input, *dims, dim=None):
    """Without the axes of size 1: all of them, or those in `dim`."""
    shape = input.type.shape
    if not dims and dim is None:
        return reshaped(input, [n for n in shape if not same(n, 1)])
    axes = distinct_axes(given_or(dims, dim), len(shape))
    return reshaped(input, [n for i, n in enumerate(shape) if i not in axes or not same(n, 1)])


def distinct_axes(dims: Sequence[int], rank: int) -> list[int]:
    """Dims as axes, in their order; an error where one comes twice."""
    axes = []
    for dim in dims:
        axis = axis_of(dim, rank)
        if axis in axes:
            raise RuntimeError(f"dim {axis} appears multiple times in the list of dims")
        axes.append(axis)
    return axes


# --- order of axes -------------------------------------------------------------------------------


def permuted(x: Value, order: Sequence[int]) -> Value:
    order = tuple(order)
    return x if order == tuple(range(len(order))) else ops.permute(x, perm=order)


@function(view=True)
def permute(input, *args, dims=None):
    """The axes in the order `dims`."""
    wanted, rank = given_or(args, dims), len(input.type.shape)
    if len(wanted) != rank:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the "
            f"length of the desired ordering of dimensions i.e. input.dim() = {rank} is not equal "
            f"to len(dims) = {len(wanted)}"
        )
    order = [axis_of(d, rank) for d in wanted]
    if len(set(order)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permuted(input, order)


def swapped(x: Value, a: int, b: int) -> Value:
    """Two axes exchanged."""
    order = list(range(len(x.type.shape)))
    if order:
        order[a], order[b] = order[b], order[a]
    return permuted(x, order)


@function(view=True)
def transpose(input, dim0, dim1):
    """Two axes exchanged."""
    rank = len(input.type.shape)
    return swapped(input, axis_of(dim0, rank), axis_of(dim1, rank))


@function(view=True)
def swapaxes(input, axis0, axis1):
    """Two axes exchanged, by numpy's name."""
    rank = len(input.type.shape)
    return swapped(input, axis_of(axis0, rank), axis_of(axis1, rank))


@function(view=True)
def swapdims(input, dim0, dim1):
    """Two axes exchanged."""
    rank = len(input.type.shape)
    return swapped(input, axis_of(dim0, rank), axis_of(dim1, rank))


@function(view=True)
def t(input):
    """The transpose of a matrix; vectors and scalars stay as they are."""
    rank = len(input.type.shape)
    if rank > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return swapped(input, 0, rank - 1)


@function(view=True)
def adjoint(input):
    """The last two axes exchanged, and complex numbers conjugated."""
    rank = len(input.type.shape)
    if rank < 2:
        raise RuntimeError(
            f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {rank}-D "
            "tensor."
        )
    return conjugated(swapped(input, rank - 2, rank - 1))


def conjugated(x: Value) -> Value:
    return ops.complex_(ops.real(x), -ops.imag(x)) if x.type.dtype.kind == "c" else x


@function(view=True, register=False)
def matrix_transpose(input):
    """`mT`."""
    rank = len(input.type.shape)
    if rank < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {rank}-D tensor."
        )
    return swapped(input, rank - 2, rank - 1)


@function(view=True, register=False)
def reversed_axes(input):
    """`T`: the axes in reverse order."""
    return permuted(input, range(len(input.type.shape))[::-1])


@function(view=True, register=False)
def hermitian(input):
    """`H`: the conjugate transpose of a matrix."""
    rank = len(input.type.shape)
    if rank not in (0, 2):
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {rank}-D tensor."
        )
    return conjugated(swapped(input, 0, rank - 1))


def _moved(input: Value, source: Any, destination: Any, name: str) -> Value:
    rank = len(input.type.shape)
    given = [ints_of((d,)) for d in (source, destination)]
    if len(given[0]) != len(given[1]):
        raise RuntimeError(
            f"{name}: Invalid source or destination dims: source ({bracketed(given[0])} dims) "
            f"should contain the same number of dims as destination ({bracketed(given[1])} dims)"
        )
    found = []
    for role, dims in zip(("source", "destination"), given, strict=True):
        axes = [axis_of(d, rank) for d in dims]
        if len(set(axes)) != len(axes):
            raise RuntimeError(f"{name}: repeated dim in `{role}` ({bracketed(dims)})")
        found.append(axes)
    if not rank:
        return input
    moves = dict(zip(found[1], found[0], strict=True))
    others = iter([i for i in range(rank) if i not in found[0]])
    return permuted(input, [moves[i] if i in moves else next(others) for i in range(rank)])


@function(view=True)
def movedim(input, source, destination):
    """Axes moved to other places, the others in their order."""
    return _moved(input, source, destination, "movedim")


@function(view=True)
def moveaxis(input, source, destination):
    """Axes moved to other places, by numpy's name."""
    return _moved(input, source, destination, "movedim")


def into_view(view: Any) -> Any:
    """x.f_(...): the tensor itself becomes the view of its storage."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        adopt(self, view(self, *args, **kwargs))
        return self

    method.__wrapped__ = view  # type: ignore[attr-defined]  # for help() and inspect.signature
    return method


METHODS = {
    "T": property(reversed_axes),
    "mT": property(matrix_transpose),
    "H": property(hermitian),
    "mH": property(adjoint),
    "squeeze_": into_view(squeeze),
    "unsqueeze_": into_view(unsqueeze),
    "transpose_": into_view(transpose),
    "swapaxes_": into_view(swapaxes),
    "swapdims_": into_view(swapdims),
    "t_": into_view(t),
}
