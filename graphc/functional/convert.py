"""Between tensors and Python or numpy: item, tolist, numpy, to; what a tensor says of itself."""

from __future__ import annotations

import sys
import weakref
from functools import cache
from typing import Any

import numpy as np

from ..device import name_of
from ..frontends import modes, views
from ..frontends.detached import Detached, LeafRef
from ..frontends.execute import array_of, buffer_of
from ..frontends.locate import user_line
from ..frontends.record import Cell, is_traced, looked_at, value_of
from ..frontends.symbolic import concrete_type
from ..ir import dtype as dtypes
from ..ir.dtype import DType
from ..ir.errors import ShapeError
from ..ir.types import TensorType
from ..tensor import Export, Storage, Tensor, adopt, blank
from .create import cast_to


def item(self: Tensor) -> Any:
    """The only element as a Python number."""
    if self.numel() != 1:
        raise ShapeError(
            f"a Tensor with {self.numel()} elements cannot be converted to Scalar",
            at=user_line(),
            hint=f"It is {self._type.text}; tolist() gives all elements.",
        )
    found = self._array().reshape(-1)[0]
    return found.item() if self.dtype.kind in "biuc" or self.dtype.itemsize > 2 else float(found)


def tolist(self: Tensor) -> Any:
    """Nested lists of Python numbers."""
    array = self._array()
    if array.dtype.kind == "V" or (self.dtype.kind == "f" and self.dtype.itemsize < 4):
        array = array.astype(np.float32)
    return array.tolist()


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The tensor's memory as a numpy array: what one writes, the other sees."""
    if self.requires_grad and not force:
        raise RuntimeError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )
    if self._type.device == "meta":
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    if self.dtype in (dtypes.BF16, dtypes.F8E4M3, dtypes.F8E5M2):
        raise TypeError(f"Got unsupported ScalarType {self.dtype.torch_name.capitalize()}")
    if force:
        return np.array(self._array())
    return exported(self)


def exported(self: Tensor) -> np.ndarray:
    """A numpy array on the storage's own memory; the storage counts as exported while it lives."""
    storage = self._storage
    exported = storage.exported()
    buffer = looked_at(storage.cell)
    if not exported and is_traced(storage.cell):  # a trace cannot follow what numpy writes
        copied = np.array(self._array())
        copied.flags.writeable = False
        return copied
    if not exported:
        # A leaf has a cell of its own on this memory.
        others = storage.leaf is not None or _references(storage) > _references_of_one()
        if others or storage.cell.requires_grad:
            buffer = buffer_of(array_of(buffer, storage.cell.type))
        storage.show(buffer)  # (a new cell even on the same memory, which numpy may write from now)
        export = Export(buffer, storage.cell.type)
        storage.export = weakref.ref(export)
    else:
        export = storage.export()  # type: ignore[misc]
        if not isinstance(export, Export):  # memory that came from numpy
            array = buffer.array(self.dtype.numpy, storage.cell.type.shape)
            return _shown(array, self)
    array = np.asarray(export).view(self.dtype.numpy).reshape(storage.cell.type.shape)
    return _shown(array, self)


def _references(storage: Storage) -> int:
    """How many hold the storage's cell: another storage, a saved value, or a tape that has yet to
    read the memory."""
    cell = storage.cell
    return sys.getrefcount(cell)


@cache
def _references_of_one() -> int:
    """What `_references` counts where only the storage holds its cell, on this interpreter."""
    return _references(Storage(Cell(TensorType(dtypes.F32, ()), None, False)))


def _shown(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    found = views.numpy_view(array, tensor._chain)
    assert found is not None
    return found


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor in another element type, on another device, or as another tensor is."""
    dtype, where, copy = _to_arguments(args, kwargs)
    dtype = dtype or self.dtype
    place = self._type.device if where is None else name_of(where)
    if dtype is self.dtype and place == self._type.device:
        return self.clone() if copy else self
    return cast_to(self, dtype, place)


def _to_arguments(args: tuple, kwargs: dict) -> tuple[DType | None, Any, bool]:
    dtype, where, copy = kwargs.get("dtype"), kwargs.get("device"), kwargs.get("copy", False)
    rest = list(args)
    if "other" in kwargs:
        rest.insert(0, kwargs["other"])
    if rest and isinstance(rest[0], Tensor):
        return rest[0].dtype, rest[0].device, bool(rest[2]) if len(rest) > 2 else copy
    if rest and isinstance(rest[0], DType):
        dtype = rest.pop(0)
    elif rest:
        where = rest.pop(0)
        if rest and isinstance(rest[0], DType):
            dtype = rest.pop(0)
    if len(rest) > 1:
        copy = bool(rest[1])
    return dtype, where, copy


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor in another element type."""
    names = {
        "f32": "Float", "f64": "Double", "f16": "Half", "bf16": "BFloat16", "i64": "Long",
        "i32": "Int", "i16": "Short", "i8": "Char", "u8": "Byte", "bool": "Bool",
        "c64": "ComplexFloat", "c128": "ComplexDouble",
    }  # fmt: skip
    if dtype is None:
        return f"torch.{names[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        word = dtype.rpartition(".")[2].removesuffix("Tensor")
        short = next((s for s, n in names.items() if n == word), None)
        if short is None:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = dtypes.dtype(short)
    return self.to(dtype)


CASTS = {
    "float": dtypes.F32, "double": dtypes.F64, "half": dtypes.F16, "bfloat16": dtypes.BF16,
    "long": dtypes.I64, "int": dtypes.I32, "short": dtypes.I16, "char": dtypes.I8,
    "byte": dtypes.U8, "bool": dtypes.BOOL, "cfloat": dtypes.C64, "cdouble": dtypes.C128,
}  # fmt: skip


def _cast(dtype: DType) -> Any:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return self if self.dtype is dtype else cast_to(self, dtype, self._type.device)

    return method


def numel(self: Tensor) -> int:
    """How many elements there are."""
    count = 1
    for n in self._type.shape:
        count *= n
    return count


def size(self: Tensor, dim: int | None = None) -> Any:
    """The sizes, or the one of a dim."""
    if dim is None:
        return self.shape
    shape = self._type.shape
    if not -len(shape) <= dim < len(shape):
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-max(len(shape), 1)}, "
            f"{max(len(shape), 1) - 1}], but got {dim})"
        )
    return shape[dim]


def whole_type(self: Tensor) -> Any:
    """The type of the tensor's whole storage."""
    cell = self._storage.cell
    return cell.type if cell.type.is_static else concrete_type(cell.type, cell.tape.sizes)


def _geometry(self: Tensor) -> views.Geometry:
    found = views.geometry(self._chain, whole_type(self).shape)
    assert found is not None
    return found


def stride(self: Tensor, dim: int | None = None) -> Any:
    """The distance in elements from one index to the next, for each dim."""
    found = _geometry(self)[2]
    return found if dim is None else found[dim]


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    _, shape, strides = _geometry(self)
    expected = 1
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and s != expected:
            return 0 in shape
        expected *= n
    return True


def data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    buffer = value_of(self._storage.cell)
    return buffer.address + _geometry(self)[0] * self.dtype.itemsize


def truth_value(self: Tensor) -> bool:
    if self.numel() != 1:
        word = "no values" if self.numel() == 0 else "more than one value"
        raise RuntimeError(f"Boolean value of Tensor with {word} is ambiguous")
    return bool(self.item())


def _length(self: Tensor) -> int:
    if not self._type.shape:
        raise TypeError("len() of a 0-d tensor")
    return self._type.shape[0]


def _iterate(self: Tensor) -> Any:
    if not self._type.shape:
        raise TypeError("iteration over a 0-d tensor")
    return iter(self.unbind(0))


def _contains(self: Tensor, element: Any) -> bool:
    return bool((self == element).any().item())


def _as_array(self: Tensor, dtype: Any = None, copy: Any = None) -> np.ndarray:
    array = numpy(self)
    return array if dtype is None else array.astype(dtype)


def _index(self: Tensor) -> int:
    if self.numel() != 1 or self.dtype.kind not in "iub":
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(self.item())


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if not self._type.shape else object.__format__(self, spec)


def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment."
        )
    if id(self) in memo:
        return memo[id(self)]
    from ..tensor import adopt

    before = modes.set_grad(False)
    try:
        copied = self.detach().clone()
    finally:
        modes.set_grad(before)
    made = blank(type(self))
    adopt(made, copied)
    if self.requires_grad:
        made.requires_grad_(True)
    if self.grad is not None:
        made.grad = _deepcopy(self.grad, memo)
    made.__dict__.update(self.__dict__)
    memo[id(self)] = made
    return made


def rebuild(cls: type, array: np.ndarray, requires_grad: bool, state: dict) -> Any:
    """What a pickled tensor is made of again."""
    from ..tensor import adopt, from_array

    made = blank(cls)
    adopt(made, from_array(array))
    made.__dict__.update(state)
    return made.requires_grad_(True) if requires_grad else made


def _reduce_ex(self: Tensor, protocol: int) -> tuple:
    array = np.array(self._array())
    return rebuild, (type(self), array, self.requires_grad, self.__dict__)


def _repr(self: Tensor) -> str:
    from ..printing import tensor_repr

    return tensor_repr(self)


PROPERTIES = {
    "ndim": lambda self: len(self._type.shape),
    "itemsize": lambda self: self.dtype.itemsize,
    "nbytes": lambda self: self.dtype.itemsize * numel(self),
    "is_cuda": lambda self: False,
    "is_cpu": lambda self: self._type.device.startswith("cpu"),
    "is_meta": lambda self: self._type.device == "meta",
    "is_sparse": lambda self: False,
    "is_quantized": lambda self: False,
    "data": lambda self: _data(self),
    "layout": lambda self: strided,
    "names": lambda self: (None,) * len(self._type.shape),
    "_version": lambda self: _version(self),
    "output_nr": lambda self: 0,
    "retains_grad": lambda self: self._retain,
}


class _Strided:
    def __repr__(self) -> str:
        return "torch.strided"


strided = _Strided()


def _data(self: Tensor) -> Tensor:
    """The tensor without its history. Writes to it are not counted as writes to the tensor."""
    made = self.detach()
    if not (self._storage.cell.inference and modes.inference()):
        made._detached = Detached(versions=[0])
    return made


def _version(self: Tensor) -> int:
    if self._storage.cell.inference and not self._counts_alone():
        raise RuntimeError("Inference tensors do not track version counter.")
    return self._writes()


def _set_data(self: Tensor, value: Tensor) -> None:
    """x.data = y: x shows y's memory from now on, and stays a leaf."""
    leaf, old = self._leaf, self._cell
    adopt(self, value.detach())
    if leaf:
        self._leaf, self._detached = True, None
        self._cell, self._seen, self._storage.leaf = old, -1, LeafRef(self)


def install(cls: type) -> None:
    """Puts these on Tensor."""
    simple = {
        "item": item, "tolist": tolist, "numpy": numpy, "to": to, "type": type_, "numel": numel,
        "nelement": numel, "size": size, "stride": stride, "is_contiguous": is_contiguous,
        "data_ptr": data_ptr, "__bool__": truth_value, "__len__": _length, "__iter__": _iterate,
        "__contains__": _contains, "__array__": _as_array, "__index__": _index,
        "__format__": _format, "__deepcopy__": _deepcopy, "__reduce_ex__": _reduce_ex,
        "__repr__": _repr,
    }  # fmt: skip
    for name, function in simple.items():
        setattr(cls, name, function)
    for name, dtype in CASTS.items():
        setattr(cls, name, _cast(dtype))
    for name, getter in PROPERTIES.items():
        setter = _set_data if name == "data" else None
        setattr(cls, name, property(getter, setter))
    methods: dict[str, Any] = {
        "dim": lambda self: len(self._type.shape),
        "ndimension": lambda self: len(self._type.shape),
        "element_size": lambda self: self.dtype.itemsize,
        "storage_offset": lambda self: _geometry(self)[0],
        "is_floating_point": lambda self: self.dtype.is_floating_point,
        "is_complex": lambda self: self.dtype.is_complex,
        "is_signed": lambda self: self.dtype.is_signed,
        "is_nonzero": lambda self: bool(self),
        "is_pinned": lambda self, device=None: False,
        "is_shared": lambda self: False,
        "is_inference": lambda self: self._storage.cell.inference,
        "is_set_to": lambda self, other: self._storage is other._storage,
        "is_same_size": lambda self, other: self._type.shape == other._type.shape,
        "get_device": lambda self: -1,
        "__float__": lambda self: float(self.item()),
        "__int__": lambda self: int(self.item()),
        "__complex__": lambda self: complex(self.item()),
        "__copy__": lambda self: self.detach().requires_grad_(self.requires_grad),
        "cpu": lambda self, memory_format=None: self.to("cpu"),
        "cuda": lambda self, device=None, non_blocking=False: self.to("cuda"),
        "type_as": lambda self, other: self.to(other.dtype),
        "pin_memory": lambda self, device=None: self,
        "copy_": copy_,
        "fill_": fill_,
        "zero_": lambda self: fill_(self, 0),
        "set_": set_,
        "equal": equal,
        "allclose": allclose,
        "detach_": detach_,
    }
    for name, function in methods.items():
        setattr(cls, name, function)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same size and elements."""
    if input._type.shape != other._type.shape:
        return False
    return bool((input == other).all().item())


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements are close."""
    return bool(input.isclose(other, rtol, atol, equal_nan).all().item())


def copy_(self: Tensor, other: Any, non_blocking: bool = False) -> Tensor:
    """Copies the elements of another tensor into this one, converted and broadcast."""
    from .create import as_tensor

    source = other if isinstance(other, Tensor) else as_tensor(other)
    if source._type.shape != self._type.shape:
        source = source.expand(self.shape)
    return self._write(cast_to(source, self.dtype, self._type.device).clone())


def fill_(self: Tensor, value: Any) -> Tensor:
    """Sets every element to a number."""
    from .create import full

    if isinstance(value, Tensor):
        return copy_(self, value)
    target = self
    if self._chain:  # equal elements may share memory: each place is written once
        for axis, (n, stride) in enumerate(zip(*_geometry(self)[1:], strict=True)):
            if n > 1 and stride == 0:
                target = target.narrow(axis, 0, 1)
    target._write(full(target.shape, value, dtype=self.dtype, device=self.device))
    return self


def set_(self: Tensor, source: Tensor) -> Tensor:
    """Makes this tensor show the memory of another one."""
    adopt(self, source)
    return self


def detach_(self: Tensor) -> Tensor:
    """Detaches this tensor from what it was computed from."""
    if self._chain and self._chain[-1].op is not views.ops.detach:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    if not self.requires_grad:
        return self
    storage, cell = self._storage, self._read()
    leaf = self._leaf
    detached = self.detach()  # on the same memory: views of it still show what is written
    if leaf:
        storage.leaf = None
        if not views.moves(self._chain):  # views of the leaf lead to it as before
            if self._detached is not None:
                self._detached.keep(cell, storage)
            else:
                storage.keep_history(cell)
    adopt(self, detached)
    return self
