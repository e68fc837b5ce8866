"""`Tensor` and `Storage`: what the user holds.

A storage is a sequence of values: a write gives it a new cell and a new version. A tensor is a
storage and a chain of movement ops; one without a chain is the whole storage.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .frontends import memory_steps, modes, views
from .frontends.detached import Detached, LeafRef, attached
from .frontends.execute import NOTHING, array_of, buffer_of
from .frontends.function import FUNCTIONS, tensors
from .frontends.locate import user_line
from .frontends.origin import Origin
from .frontends.record import ENDS, Cell, cell_class, looked_at, recorder, value_of
from .frontends.saved import Written
from .frontends.steps import steps
from .frontends.symbolic import concrete_type
from .ir.dtype import DType, from_numpy
from .ir.errors import GraphcError
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

    __slots__ = (
        "__weakref__", "cell", "export", "history", "leaf", "leaf_cell", "shown", "unseen",
        "version",
    )  # fmt: skip

    def __init__(self, cell: Cell) -> None:
        self.cell, self.version = cell, 0
        self.unseen = 0  # how many of the writes went through `.data`, with versions of its own
        self.leaf: Any = None  # a weak reference to the tensor that is a leaf on this memory
        self.leaf_cell: Cell | None = None  # its cell, if it shows all: its views may outlive it
        self.export: Callable[[], Any] | None = None
        # Of exported memory: the value that the program last gave to it, where that has a
        # derivative, and a copy of what the memory held then.
        self.history: Cell | None = None
        self.shown: Cell | None = None

    def exported(self) -> bool:
        if self.export is None:
            return False
        if self.export() is None:
            if self.history is not None:
                self.cell = self._with_history()
                self.history = self.shown = None
            self.export = None
            self.version += 1  # what views remember may have been written from outside
            self.unseen += 1
            return False
        return True

    def read(self) -> Cell:
        """The present value. Where the memory is exported, a snapshot of what it holds now."""
        if self.export is None or not self.exported():
            return self.cell
        return self.snapshot(()) if self.history is None else self._with_history()

    def snapshot(self, chain: views.Chain) -> Cell:
        """A private copy of what a view of the exported memory shows now, without a history."""
        old = self.cell
        array = views.numpy_view(array_of(old.buffer, old.type), chain)
        assert array is not None
        made = old.beside(old.type.with_shape(array.shape), buffer_of(array))
        share_mark(made, old)
        return made

    def _with_history(self) -> Cell:
        """The value of exported memory, with its derivative: one cell until somebody writes."""
        assert self.history is not None and self.shown is not None
        if not _same_bytes(self.shown, self.cell):
            self.shown = self.snapshot(())
            self.history = memory_steps.grafted(self.shown, self.history)
            self.version += 1
            self.unseen += 1
        return self.history

    def show(self, buffer: Any) -> None:
        """The value is in memory that will be exported: its derivative is kept apart."""
        cell = self.cell
        if cell.requires_grad:
            self.history = self.shown = cell
        fresh = cell.beside(cell.type, buffer, cell.requires_grad)
        fresh.grad_fn, fresh.owner, fresh.hooks = cell.grad_fn, cell.owner, cell.hooks
        share_mark(fresh, cell)
        self.cell = fresh

    def keep_history(self, cell: Cell) -> None:
        """Makes `cell`, which has the present value, what the memory was computed as."""
        memory, self.cell = self.cell.buffer, cell
        if self.exported():
            self.show(memory)

    def bury_leaf(self) -> None:
        """The tensor that was a leaf is gone: its views lead to its cell."""
        own, cell, self.leaf, self.leaf_cell = self.leaf.detached, self.leaf_cell, None, None
        if cell is not None and own is not None:
            own.keep(cell, self)
        elif cell is not None:
            if self.cell.buffer is not cell.buffer and not self.exported():
                cell = memory_steps.grafted(self.cell, cell)
            self.keep_history(cell)

    def write(self, cell: Cell, writer: Cell | None) -> None:
        """Gives the storage a new value; exported memory is written through at once.

        writer: the cell that the function which writes gave; backwards that saved the old value
        learn of it. None: they shall not know.
        """
        if writer is not None:
            _mark(self.cell, writer)
            leaf = self.leaf() if self.leaf is not None else None
            if leaf is not None and leaf._cell is not None:
                _mark(leaf._cell, writer)
        if self.export is not None and self.exported():
            buffer = value_of(cell)
            source = array_of(buffer, cell.type)
            memory = self.cell.buffer
            array_of(memory, self.cell.type)[...] = source
            self.cell.written = None  # snapshots from now on show what was written
            if cell.requires_grad:
                self.cell = cell
                self.show(memory)
        else:
            rec = recorder()
            if not rec.eager:
                old = self.cell
                rec.written.setdefault(self, old if old.buffer is not None else None)
            if cell.inference is not self.cell.inference:
                cell.inference = self.cell.inference  # the memory stays what it was made as
            self.cell = cell
        self.version += 1


def share_mark(view: Cell, base: Cell) -> None:
    """A write to the memory of a view is one to that of its base."""
    if base.written is None:
        base.written = Written()
    view.written = base.written


def _mark(old: Cell, fresh: Cell) -> None:
    """The memory that shows `old` shows `fresh` from now on."""
    if old.written is None:
        old.written = Written()
    old.written.by = (id(fresh.tape), fresh.slot)


new = object.__new__


class Tensor:
    """A multi-dimensional array whose operations are recorded, and computed when looked at."""

    __slots__ = (
        "__dict__", "__weakref__", "_base", "_cell", "_chain", "_detached", "_grad", "_leaf",
        "_origin", "_seen", "_storage",
    )  # fmt: skip
    _storage: Storage
    _chain: views.Chain
    _cell: Cell | None  # of a view or a leaf: its own cell, for the storage's version _seen
    _base: Cell | None  # of a view of a leaf: the leaf's cell that _cell was made from
    _detached: Detached | None  # of `.detach()`, `.data`, and their views
    _origin: Origin | None  # of the results of split, of views made under no_grad, ...
    # Of an instance where these were asked for: hooks after a gradient was added, `retain_grad`.
    _post_accumulate: Mapping[int, Callable] = MappingProxyType({})
    _retain = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return blank(cls)

    def __init__(self, data: Any = (), **kwargs: Any) -> None:
        if getattr(self, "_storage", None) is None:
            from .functional.create import legacy_tensor

            made = legacy_tensor(data, **kwargs)
            adopt(self, made)

    @staticmethod
    def _make_subclass(cls: type, data: Tensor, require_grad: bool = False) -> Any:
        """A tensor of class `cls` on the storage of `data`, a leaf."""
        made = blank(cls)
        adopt(made, data.detach() if data.requires_grad else data)
        if require_grad:
            made.requires_grad_(True)
        return made

    # --- reading and writing -------------------------------------------------------------------

    def _read(self) -> Cell:
        """The cell of the tensor's present value."""
        storage, chain = self._storage, self._chain
        if self._leaf:
            if self._seen != storage.version or storage.export is not None:
                self._refresh_leaf()
            return self._cell  # type: ignore[return-value]
        if not chain:
            return storage.cell if storage.export is None else storage.read()
        if self._origin is not None and modes.grad_enabled():
            self._check_current(self._origin)
        return self._read_view()

    def _read_view(self) -> Cell:
        """The cell of a view, whatever was written since it was made."""
        storage, chain, known = self._storage, self._chain, self._cell
        if known is not None and known.requires_grad == ENDS and not self._hangs_on_a_graph():
            self._cell = None  # what it is a view of requires no grad any more
        if self._detached is not None and self._detached.has_history:
            return self._read_detached(self._detached)
        if storage.leaf is not None:
            leaf = storage.leaf()
            if leaf is None:
                storage.bury_leaf()
            elif leaf._leaf and chain[: len(leaf._chain)] == leaf._chain:
                return self._read_through(leaf)
        if storage.export is not None and storage.exported():
            if storage.history is None or views.detached(chain):
                return storage.snapshot(chain)
        cell = storage.read()
        if self._cell is None or self._seen != storage.version:
            self._cell, self._seen = self._replayed(cell, chain), storage.version
        return self._cell

    def _replayed(self, base: Cell, chain: views.Chain) -> Cell:
        """The view's cell for a value that its memory has now."""
        if self._origin is None or not self._origin.mode:
            made = memory_steps.replayed(base, chain)
        else:
            made = memory_steps.replayed_end(base, chain, self._origin.is_leaf)
        if made.inference is not base.inference:
            made.inference = base.inference
        share_mark(made, base)
        return made

    def _read_detached(self, detached: Detached) -> Cell:
        """The cell of a detached tensor, or a view of it, that was written with a history."""
        base, chain = detached.base(self._storage), attached(self._chain)
        if self._cell is None or self._base is not base:
            self._cell = self._replayed(base, chain) if chain else base
            self._seen, self._base = self._storage.version, base
        return self._cell

    def _read_through(self, leaf: Tensor) -> Cell:
        """The cell of a view of a leaf: its derivative leads to the leaf."""
        base, version = leaf._read(), self._storage.version
        if self._cell is None or self._seen != version or self._base is not base:
            self._cell = self._replayed(base, self._chain[len(leaf._chain) :])
            self._seen, self._base = version, base
        return self._cell

    def _refresh_leaf(self) -> None:
        """A leaf's own cell, on the storage's present memory; kept where that has not changed."""
        storage, old = self._storage, self._cell
        exported, storage_cell = storage.exported(), storage.cell
        if exported:
            plain = storage.snapshot(self._chain)
            if old is not None and self._seen == storage.version and _same_bytes(old, plain):
                return
        elif views.moves(self._chain):
            if old is not None and self._seen == storage.version:
                return
            if storage_cell.buffer is None:
                plain = memory_steps.replayed(storage_cell, self._chain)
            else:
                plain = storage.snapshot(self._chain)
                if old is not None and _same_bytes(old, plain):
                    self._seen = storage.version
                    return
        else:
            plain = storage_cell
            if old is not None and old.buffer is plain.buffer and plain.buffer is not None:
                self._seen = storage.version
                return
        buffer = value_of(plain)
        fresh = storage_cell.beside(plain.type, buffer, True)
        fresh.owner = weakref.ref(self)
        fresh.hooks = old.hooks if old is not None else None
        self._cell, self._seen = fresh, storage.version
        if not views.moves(self._chain):
            storage.leaf_cell = fresh

    def _write(self, value: Tensor) -> Tensor:
        """Replaces the elements by those of a tensor of the same type; the in-place primitive."""
        fresh, storage = value._read(), self._storage
        if value._type is not self._type:
            raise GraphcError(f"cannot write {value._type.text} into {self._type.text}")
        if modes.grad_enabled():
            if self._origin is not None and (fresh.requires_grad or self._hangs_on_a_graph()):
                raise WriteError(self._origin.refusal("is being"), at=user_line())
            if storage.leaf is not None or storage.cell.requires_grad:
                self._check_writable()
        refused = storage.cell.inference and not modes.inference() and not self._counts_alone()
        grad = modes.grad_enabled() and not refused
        old, hidden = storage.read(), not grad or views.detached(self._chain)
        own = self._detached
        if own is not None:
            keeps = grad and (fresh.requires_grad or own.has_history)
            base = own.base(storage) if keeps else None
        whole, writer = fresh, fresh
        if views.moves(self._chain):
            whole = writer = memory_steps.put(old, fresh, self._chain, hidden)
        elif fresh.requires_grad and (fresh.grad_fn is None or hidden):
            whole = memory_steps.plain(fresh, hidden)
        elif old.requires_grad and not fresh.requires_grad and not hidden:
            whole = writer = memory_steps.overwritten(old, fresh)
        if hidden and old.requires_grad:
            whole = memory_steps.grafted(whole, old)
        if refused:
            storage.write(whole, writer)  # as torch does, before it raises
            raise RuntimeError(
                "Inplace update to inference tensor outside InferenceMode is not allowed.You can "
                "make a clone to get a normal tensor before doing inplace update.See "
                "https://github.com/pytorch/rfcs/pull/17 for more details."
            )
        if own is None:
            storage.write(whole, writer)
            return self
        storage.write(whole, writer if own.versions is None else None)
        if own.versions is not None:
            own.versions[0] += 1
            storage.unseen += 1
        if base is not None:
            own.written(base, fresh, self._chain, storage)
        return self

    def _check_writable(self) -> None:
        storage = self._storage
        leaf = storage.leaf() if storage.leaf is not None else None
        is_one = leaf is not None and leaf._leaf
        if not is_one:  # its views are views of a leaf still
            cell = storage.cell
            is_one = cell.requires_grad and cell.grad_fn is None
        if is_one and (leaf is self or not views.detached(self._chain)):
            kind = "a leaf Variable" if leaf is self else "a view of a leaf Variable"
            raise WriteError(
                f"{kind} that requires grad is being used in an in-place operation.",
                at=user_line(),
                hint="Write to it within torch.no_grad(), or make a new tensor.",
            )

    def _overtaken(self, origin: Origin) -> bool:
        """Whether a view that has no derivative of its own was written since."""
        return origin.version != self._writes() and self._hangs_on_a_graph()

    def _check_current(self, origin: Origin) -> None:
        if self._overtaken(origin):
            what = "its base or another view of its base has been"
            raise WriteError(origin.refusal(what), at=user_line())

    def _hangs_on_a_graph(self) -> bool:
        """Whether the tensor that this is a view of requires grad."""
        storage, detached = self._storage, self._detached
        if detached is not None:
            if detached.has_history:
                return True
        elif storage.cell.requires_grad:
            return True
        leaf = storage.leaf() if storage.leaf is not None else None
        if leaf is None or not leaf._leaf or leaf._detached is not detached:
            return False
        return self._chain[: len(leaf._chain)] == leaf._chain

    def _counts_alone(self) -> bool:
        """Whether this is a `.data`, or of an inference tensor a `.detach()` made outside of the
        mode: these are written and counted apart from the memory's other tensors."""
        own, chain = self._detached, self._chain
        return own is not None and own.versions is not None and chain[-1].op is views.ops.detach

    def _writes(self) -> int:
        """How often this tensor was written, as torch counts it."""
        if self._detached is not None and self._detached.versions is not None:
            return self._detached.versions[0]
        return self._storage.version - self._storage.unseen

    def _write_out(self, value: Tensor, name: str = "") -> Tensor:
        """What `out=` of a function does: resizes where shapes differ, converts, and writes."""
        from .functional.promote import check_cast

        if modes.grad_enabled() and (value.requires_grad or self.requires_grad):
            prefix = f"{name}(): " if name else ""
            raise RuntimeError(
                f"{prefix}functions with out=... arguments don't support automatic "
                "differentiation, but one of the arguments requires grad."
            )
        check_cast(value.dtype, self.dtype)
        if tuple(value.shape) != tuple(self.shape):
            value = value.to(self.dtype) if value.dtype is not self.dtype else value.clone()
            self._storage, self._chain = value._storage, ()
            return self
        return self._write(value if value.dtype is self.dtype else value.to(self.dtype))

    def _array(self) -> np.ndarray:
        """The value as a numpy array over private memory: never to be handed out."""
        if self._chain and not self._leaf:
            array = self._part_in_memory()
            if array is not None:
                return array
        cell = self._read() if self._origin is None else self._read_view()
        return array_of(looked_at(cell), cell.type)

    def _part_in_memory(self) -> np.ndarray | None:
        """What a view shows of memory that is computed already, without recording it."""
        storage, rec = self._storage, recorder()
        cell = storage.cell
        if cell.buffer is None or storage.export is not None or not rec.eager or rec.outer:
            return None
        if self._cell is not None and self._cell.buffer is not None:
            return None
        array = views.numpy_view(array_of(cell.buffer, cell.type), self._chain)
        return None if array is None else np.ascontiguousarray(array).reshape(array.shape)

    # --- what it is ----------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._type.shape)

    @property
    def _type(self) -> TensorType:
        chain = self._chain
        if chain:
            return chain[-1].outputs[0].type
        cell = self._storage.cell
        return cell.type if cell.type.is_static else concrete_type(cell.type, cell.tape.sizes)

    @property
    def dtype(self) -> DType:
        return self._storage.cell.type.dtype

    @property
    def device(self) -> Any:
        from .device import device

        return device(self._storage.cell.type.device)

    @property
    def requires_grad(self) -> bool:
        if self._leaf:
            return True
        cell = self._read_view() if self._chain else self._storage.cell
        return bool(cell.requires_grad)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if self.requires_grad == requires_grad:
            return self
        storage = self._storage
        if self._leaf:
            self._leaf, self._cell, storage.leaf = False, None, None
            return self
        cell = self._read()
        if cell.requires_grad == ENDS:
            return self  # it does so because its base does
        if cell.requires_grad:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use "
                "var_no_grad = var.detach()."
            )
        if cell.inference and not modes.inference():
            raise RuntimeError(
                "Setting requires_grad=True on inference tensor outside InferenceMode is not "
                "allowed."
            )
        if cell.type.dtype.kind not in "fc":
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        self._leaf, self._cell, storage.leaf = True, None, LeafRef(self)
        self._refresh_leaf()
        return self

    @property
    def is_leaf(self) -> bool:
        if self._leaf or not self.requires_grad:
            return True
        if self._origin is None:
            return False
        self._check_current(self._origin)
        return self._read().grad_fn is None

    @property
    def grad(self) -> Any:
        """The gradient that `backward` added up, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"expected grad to be a Tensor, not {type(value).__name__}")
            if value._type.shape != self._type.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of "
                    f"size '{list(self.shape)}'. Please ensure that the gradient and the tensor "
                    "are the same size"
                )
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{value.dtype.torch_name}' to a "
                    f"tensor of dtype '{self.dtype.torch_name}'"
                )
        self._grad = value

    @property
    def grad_fn(self) -> Any:
        if self._leaf or not self.requires_grad:
            return None
        if self._origin is not None and self.is_leaf:
            return None
        cell = self._read()
        from .autograd import GradFn

        return GradFn(cell)

    def __hash__(self) -> int:
        return id(self)


class WriteError(GraphcError, RuntimeError):
    """An in-place write that autograd has no derivative for."""


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


def blank(cls: type) -> Any:
    """A tensor that has no storage yet."""
    made = new(cls)
    made._chain, made._seen, made._leaf = (), 0, False
    made._cell = made._base = made._grad = made._detached = made._origin = None
    return made


def adopt(tensor: Tensor, other: Tensor) -> None:
    """Makes a tensor show what another one shows, on the same storage."""
    tensor._storage, tensor._chain = other._storage, other._chain
    tensor._cell, tensor._seen, tensor._leaf = other._cell, other._seen, False
    tensor._detached, tensor._base, tensor._origin = other._detached, other._base, None


def wrap(cell: Cell, cls: type = Tensor) -> Any:
    """A tensor with a storage of its own."""
    if cls is Tensor:
        return steps.wrap(cell)
    made = blank(cls)
    made._storage = Storage(cell)
    return made


def _wrap(cell: Cell) -> Tensor:
    made = blank(Tensor)
    made._storage = Storage(cell)
    return made


steps.wrap = _wrap  # until compiled code does it


def _same_bytes(a: Cell, b: Cell) -> bool:
    x, y = (array_of(c.buffer, c.type).reshape(-1).view(np.uint8) for c in (a, b))
    return np.array_equal(x, y)


def from_buffer(buffer: Any, type: TensorType) -> Tensor:
    return wrap(cell_class()(type, buffer))


def from_array(array: np.ndarray, device: str = "cpu") -> Tensor:
    """A tensor with a copy of the array."""
    type = TensorType(from_numpy(array.dtype), array.shape, device)
    return wrap(cell_class()(type, NOTHING if device == "meta" else buffer_of(array)))


def method(name: str) -> Callable:
    """The torch function of a name as a method."""
    return FUNCTIONS[name]


tensors.cls, tensors.storage = Tensor, Storage
tensors.cell = staticmethod(Tensor._read)
tensors.wrap = staticmethod(wrap)
