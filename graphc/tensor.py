"""`Tensor` and `Storage`: what the user holds.

A storage is a sequence of values: a write gives it a new cell and a new version. A tensor is a
storage and a chain of movement ops; one without a chain is the whole storage.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .frontends import modes, views
from .frontends.execute import array_of, buffer_of
from .frontends.function import FUNCTIONS, Function, _restore, tensors
from .frontends.record import Cell, State, recorder, value_of
from .ir.dtype import DType, from_numpy
from .ir.errors import GraphcError, ShapeError
from .ir.graph import Value
from .ir.types import TensorType


class Export:
    """Memory that numpy can see. It lives as long as some array shows it."""

    __slots__ = ("__array_interface__", "__weakref__", "buffer")

    def __init__(self, buffer: Any, type: TensorType) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "version": 3,
            "typestr": type.dtype.numpy.str if type.dtype.numpy.kind != "V" else "<V2",
            "shape": type.shape,
            "data": (buffer.address, False),
        }


class ForeignBuffer:
    """Memory that belongs to a numpy array."""

    __slots__ = ("__weakref__", "_owner", "address", "nbytes")

    def __init__(self, array: np.ndarray) -> None:
        self._owner = array
        self.address, self.nbytes = array.ctypes.data, array.nbytes

    def array(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        return self._owner.reshape(-1).view(dtype).reshape(shape)


class Storage:
    """The memory behind tensors: its present value, and how often it was written.

    `export` is None, or a function that says whether somebody outside can see the memory.
    """

    __slots__ = ("__weakref__", "cell", "export", "version")

    def __init__(self, cell: Cell) -> None:
        self.cell, self.version = cell, 0
        self.export: Callable[[], Any] | None = None

    def exported(self) -> bool:
        if self.export is None:
            return False
        if self.export() is None:
            self.export = None
            return False
        return True

    def read(self) -> Cell:
        """The present value. Where the memory is exported, a snapshot of what it holds now."""
        if self.export is None or not self.exported():
            return self.cell
        return self.snapshot(())

    def snapshot(self, chain: views.Chain) -> Cell:
        """A private copy of what a view of the exported memory shows now."""
        old = self.cell
        array = views.numpy_view(array_of(old.buffer, old.type), chain)
        assert array is not None
        cell = Cell(old.type.with_shape(array.shape), buffer_of(array), old.requires_grad)
        cell.grad_fn, cell.hooks, cell.owner = old.grad_fn, old.hooks, old.owner
        return cell

    def write(self, cell: Cell) -> None:
        """Gives the storage a new value; exported memory is written through at once."""
        if self.exported():
            source = array_of(value_of(cell), cell.type)
            array_of(self.cell.buffer, self.cell.type)[...] = source
            if cell.requires_grad:
                fresh = Cell(cell.type, self.cell.buffer, True)
                fresh.grad_fn = cell.grad_fn
                self.cell = fresh
        else:
            self.cell = cell
        self.version += 1


class TensorBase:
    """Slots of a tensor; `Tensor` adds the methods."""

    __slots__ = ("__weakref__", "_cell", "_chain", "_grad", "_storage", "_seen")
    _storage: Storage
    _chain: views.Chain
    _cell: Cell | None
    _seen: int
    _grad: Any


new = object.__new__


class Tensor(TensorBase):
    """A multi-dimensional array whose operations are recorded, and computed when looked at."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return new(cls)

    def __init__(self, data: Any = (), **kwargs: Any) -> None:
        if getattr(self, "_storage", None) is None:
            from .functional.create import legacy_tensor

            made = legacy_tensor(data, **kwargs)
            adopt(self, made)

    @staticmethod
    def _make_subclass(cls: type, data: Tensor, require_grad: bool = False) -> Any:
        """A tensor of class `cls` on the storage of `data`, a leaf."""
        made = new(cls)
        adopt(made, data.detach())
        if require_grad:
            made.requires_grad_(True)
        return made

    # --- reading and writing -------------------------------------------------------------------

    def _read(self) -> Cell:
        """The cell of the tensor's present value."""
        storage, chain = self._storage, self._chain
        if not chain:
            return storage.read()
        if storage.export is not None and storage.exported():
            return storage.snapshot(chain)
        if self._cell is None or self._seen != storage.version:
            self._cell, self._seen = _replay(storage.cell, chain), storage.version
        return self._cell

    def _write(self, value: Tensor) -> Tensor:
        """Replaces the elements by those of a tensor of the same type; the in-place primitive."""
        old, fresh = self._read(), value._read()
        if fresh.type is not old.type:
            raise GraphcError(f"cannot write {fresh.type.text} into {old.type.text}")
        self._check_writable(old)
        storage = self._storage
        whole = _put(storage.cell, fresh, self._chain) if self._chain else _own(fresh, value)
        base = storage.cell
        if base.requires_grad and base.grad_fn is None:
            if not modes.grad_enabled() or views.detached(self._chain):
                whole = _leaf_again(whole, base)
        storage.write(whole)
        return self

    def _check_writable(self, old: Cell) -> None:
        if modes.grad_enabled() and self._storage.cell.requires_grad:
            if self._storage.cell.grad_fn is None and not views.detached(self._chain):
                kind = "a view of a leaf Variable" if self._chain else "a leaf Variable"
                raise LeafError(
                    f"{kind} that requires grad is being used in an in-place operation."
                )

    def _write_out(self, value: Tensor) -> Tensor:
        """What `out=` does: resizes where shapes differ, converts, and writes."""
        if tuple(value.shape) != tuple(self.shape):
            value = value.to(self.dtype) if value.dtype is not self.dtype else value.clone()
            self._storage, self._chain = value._storage, ()
            return self
        return self._write(value if value.dtype is self.dtype else value.to(self.dtype))

    def _array(self) -> np.ndarray:
        """The value as a numpy array over private memory: never to be handed out."""
        cell = self._read()
        return array_of(value_of(cell), cell.type)

    # --- what it is ----------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._type.shape)

    @property
    def _type(self) -> TensorType:
        chain = self._chain
        return chain[-1].outputs[0].type if chain else self._storage.cell.type

    @property
    def dtype(self) -> DType:
        return self._storage.cell.type.dtype

    @property
    def device(self) -> Any:
        from .device import device

        return device(self._storage.cell.type.device)

    @property
    def requires_grad(self) -> bool:
        if self._chain:
            return self._read().requires_grad
        return self._storage.cell.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        cell = self._read()
        if cell.requires_grad == requires_grad:
            return self
        if cell.grad_fn is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables."
                + (
                    ""
                    if requires_grad
                    else " If you want to use a computed variable in a "
                    "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            )
        if requires_grad and cell.type.dtype.kind not in "fc":
            raise RuntimeError(
                "only Tensors of floating point and complex dtype can require gradients"
            )
        value_of(cell)
        fresh = Cell(cell.type, cell.buffer, requires_grad)
        fresh.owner = weakref.ref(self)
        if self._chain:
            self._cell, self._seen = fresh, self._storage.version
        else:
            self._storage.cell = fresh
        return self

    @property
    def is_leaf(self) -> bool:
        cell = self._read()
        return not cell.requires_grad or cell.grad_fn is None

    @property
    def grad(self) -> Any:
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"expected grad to be a Tensor, not {type(value).__name__}")
            if value._type.shape != self._type.shape:
                raise RuntimeError(
                    f"assigned grad has data of a different size: {list(value.shape)} for a "
                    f"tensor of {list(self.shape)}"
                )
        self._grad = value

    @property
    def grad_fn(self) -> Any:
        cell = self._read()
        if not cell.requires_grad or cell.grad_fn is None:
            return None
        from .autograd import GradFn

        return GradFn(cell)

    def __hash__(self) -> int:
        return id(self)


class LeafError(GraphcError, RuntimeError):
    """An in-place write to a leaf that requires grad."""


class Size(tuple):
    """The sizes of a tensor; prints as torch.Size([2, 3])."""

    __slots__ = ()

    def numel(self) -> int:
        count = 1
        for n in self:
            count *= n
        return count

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __mul__(self, times: Any) -> Size:
        return Size(tuple.__mul__(self, times))

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found


def adopt(tensor: Tensor, other: Tensor) -> None:
    """Makes a tensor show what another one shows, on the same storage."""
    tensor._storage, tensor._chain = other._storage, other._chain
    tensor._cell, tensor._seen = other._cell, other._seen


def wrap(cell: Cell, cls: type = Tensor) -> Any:
    """A tensor with a storage of its own."""
    made = new(cls)
    made._storage, made._chain, made._cell, made._seen = Storage(cell), (), None, 0
    return made


def wrap_view(
    owner: Tensor, state: State, made: list[Cell], extra: Any, strict: bool = False
) -> Any:
    """The results of a view function: on the owner's storage where they only move its elements."""
    structure, chains = extra
    storage = owner._storage
    parts = []
    for cell, chain in zip(made, chains, strict=True):
        if chain is None or not _viewable(owner, chain):
            if strict:
                raise ShapeError(
                    "view size is not compatible with input tensor's size and stride (at least one "
                    "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
                )
            parts.append(wrap(cell))
            continue
        part = new(Tensor)
        part._storage, part._chain = storage, owner._chain + chain
        part._cell, part._seen = cell, storage.version
        parts.append(part)
    return _restore(structure, iter(parts))


def _viewable(owner: Tensor, chain: views.Chain) -> bool:
    if all([node.op is not views.ops.reshape for node in chain]):
        return True
    return views.geometry(owner._chain + chain, owner._storage.cell.type.shape) is not None


def _record(
    name: str, static: Any, cells: list[Cell], build: Callable[..., Value], constant: bool = False
) -> Cell:
    """A step of the tensor layer's own, with one output; a constant one has no derivative."""
    rec = recorder()
    slots = [rec.slot_of(cell) for cell in cells]
    grad = not constant and modes.grad_enabled() and any([cell.requires_grad for cell in cells])
    stop = not grad and any([cell.requires_grad for cell in cells])

    def made(*values: Value) -> tuple:
        out = build(*values)
        if stop and out.type.dtype.kind in "fc":
            out = views.ops.detach(out)
        return (out,), (grad and out.type.dtype.kind in "fc",), None

    cell = rec.step((name, modes.word(), static, *slots), slots, made)[0]
    rec.cut_if_long()
    return cell


def _replay(cell: Cell, chain: views.Chain) -> Cell:
    made = _record("view", chain, [cell], lambda x: views.replay(x, chain), views.detached(chain))
    return made


def _put(base: Cell, fresh: Cell, chain: views.Chain) -> Cell:
    return _record("put", chain, [base, fresh], lambda x, y: views.put(x, y, chain))


def _own(fresh: Cell, value: Tensor) -> Cell:
    """The cell to write: a leaf that requires grad is copied, so that its gradient stays its own."""
    if fresh.requires_grad and (fresh.grad_fn is None or not modes.grad_enabled()):
        return _record("copy", None, [fresh], lambda x: views.ops.reshape(x, shape=x.type.shape))
    return fresh


def _leaf_again(cell: Cell, old: Cell) -> Cell:
    """The value of a leaf after a write without gradients: a leaf that requires grad, as before."""
    if cell.buffer is None:
        alone = _record("leaf", None, [cell], lambda x: views.ops.reshape(x, shape=x.type.shape))
    else:
        alone = Cell(cell.type, cell.buffer)
    alone.requires_grad, alone.grad_fn = True, None
    alone.owner, alone.hooks = old.owner, old.hooks
    return alone


def from_buffer(buffer: Any, type: TensorType) -> Tensor:
    return wrap(Cell(type, buffer))


def from_array(array: np.ndarray, device: str = "cpu") -> Tensor:
    """A tensor with a copy of the array."""
    type = TensorType(from_numpy(array.dtype), array.shape, device)
    return wrap(Cell(type, buffer_of(array)))


def method(name: str) -> Callable:
    """The torch function of a name as a method."""
    return FUNCTIONS[name]


def _cell_of(tensor: Tensor) -> Cell:
    cell = tensor._read()
    if cell.requires_grad and cell.grad_fn is None and cell.buffer is None:
        recorder().flush()  # a leaf that was just written: the trace that uses it begins with it
    return cell


tensors.cls = Tensor
tensors.cell = staticmethod(_cell_of)
tensors.wrap = staticmethod(wrap)
tensors.wrap_view = staticmethod(wrap_view)
assert Function is not None
