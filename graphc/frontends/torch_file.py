"""Read and write the files of torch.save and torch.load without torch.

A torch file is a zip archive of a pickle ("data.pkl") and one record of raw bytes per storage
("data/0", ...). Reading executes nothing: the pickle is interpreted by torch_pickle.py, the archive
is checked by torch_archive.py, and tensors are made by the caller's functions from numpy arrays.
"""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from ..ir.dtype import BOOL, DType
from ..ir.errors import FormatError
from .torch_archive import PathOrFile, TorchArchive, open_archive
from .torch_file_writer import TensorRecord, TorchCall, TorchName, save_file
from .torch_pickle import WeightsUnpickler, allowed_names, shorten
from .torch_storage import TYPED_STORAGES, LoadedStorage, StorageType, dtypes_by_torch_name

__all__ = ["LoadedStorage", "TensorRecord", "TorchCall", "TorchName", "load_file", "save_file"]

MakeTensor = Callable[[Any, int, tuple[int, ...], tuple[int, ...], bool], Any]
MakeParameter = Callable[[Any, bool], Any]
MapLocation = str | Mapping[str, str] | Callable[[LoadedStorage, str], object] | None

_MAX_DIMS = 64
_MAX_NUMEL = 2**63 - 1
_MALFORMED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeError,
    ValueError,
)


def load_file(
    source: PathOrFile,
    *,
    make_tensor: MakeTensor,
    make_parameter: MakeParameter,
    map_location: MapLocation = None,
    weights_only: bool = True,
    allowed: Iterable[object] = frozenset(),
    names: Mapping[str, object] | None = None,
    place_storage: Callable[[np.ndarray, str], object] | None = None,
) -> Any:
    """The object in a torch file.

    source: a path or a seekable binary file.
    make_tensor(storage, offset, size, stride, requires_grad): makes a tensor; `storage` is a flat
        array of the tensor's dtype, the same object for all tensors that share it; offset and
        stride count elements and are checked to stay inside.
    make_parameter(tensor, requires_grad): makes a parameter of a tensor.
    map_location: a device name, a dict of device names, or a function of (storage, location), as
        torch.load takes it.
    weights_only: False runs the pickle as Python does, which can execute code from the file.
    allowed: classes and functions that the user declared safe (torch's add_safe_globals), or pairs
        (object, "module.name").
    names: what names in the file stand for, where the default is not wanted, such as
        {"torch.Size": Size, "torch.device": Device}. Defaults: tuple, str, the IR's dtypes.
    place_storage(array, device): puts a storage on a device other than the CPU; without it such
        files need map_location="cpu".

    A storage that was saved by itself comes as a `LoadedStorage`. Raises pickle.UnpicklingError
    for content that is not allowed, FormatError (a RuntimeError) for a malformed file, EOFError
    for a truncated one.
    """
    try:
        with open_archive(source) as archive:
            reader = _Reader(archive, make_tensor, make_parameter, map_location, place_storage)
            table = {**reader.names(), **(names or {})}
            data = archive.read("data.pkl").tobytes()
            if weights_only:
                return WeightsUnpickler(data, table, allowed, reader.load_storage).load()
            return _FullUnpickler(data, table, allowed, reader.load_storage).load()
    except _MALFORMED as error:
        if not weights_only and not isinstance(error, zipfile.BadZipFile):
            raise  # code that the file names may raise anything
        reason = shorten(f"{type(error).__name__}: {error}", 300)
        raise FormatError(f"the torch file is malformed ({reason})") from error


class _Reader:
    """Makes storages and tensors for one file."""

    def __init__(
        self,
        archive: TorchArchive,
        make_tensor: MakeTensor,
        make_parameter: MakeParameter,
        map_location: MapLocation,
        place_storage: Callable[[np.ndarray, str], object] | None,
    ) -> None:
        self.archive = archive
        self.make_tensor = make_tensor
        self.make_parameter = make_parameter
        self.map_location = map_location
        self.place_storage = place_storage
        self.storages: dict[str, LoadedStorage] = {}
        self.variants: dict[tuple[int, DType | None, bool, bool], LoadedStorage] = {}
        self.is_swapped = self.byte_order() != sys.byteorder

    def byte_order(self) -> str:
        if self.archive.size("byteorder") is None:
            return "little"
        order = self.archive.read("byteorder").tobytes()
        if order not in (b"little", b"big"):
            raise FormatError(f"the file's byte order is {shorten(order)}, not little or big")
        return order.decode()

    # -- storages

    def load_storage(self, identity: tuple) -> LoadedStorage:
        """The storage of a persistent id ("storage", type, key, location, number of elements)."""
        _, storage_type, key, location, numel = identity
        key, location = _text(key), _text(location)
        if not isinstance(storage_type, StorageType) or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError("a storage without a known type, key or size")
        if key not in self.storages:
            array = self.read_elements(key, storage_type, numel)
            storage = LoadedStorage(array, storage_type.dtype, numel, location)
            storage.data = self.placed(storage)
            self.storages[key] = storage
        found = self.storages[key]
        if found.dtype is not storage_type.dtype or found.numel < numel:
            raise FormatError(f"storage {shorten(key)} is declared twice, differently")
        return found

    def read_elements(self, key: str, storage_type: StorageType, numel: int) -> np.ndarray:
        needed = numel * storage_type.numpy.itemsize
        size = self.archive.size(f"data/{key}")
        if size is not None and size < needed:
            raise FormatError(
                f"storage {shorten(key)} is declared with {needed} bytes, the file has {size}"
            )
        return self.elements(self.archive.read(f"data/{key}")[:needed], storage_type.dtype)

    def elements(self, record: np.ndarray, dtype: DType | None) -> np.ndarray:
        """The bytes as elements of `dtype`, in this machine's order."""
        if dtype is None:
            return record
        if dtype is BOOL:
            np.not_equal(record, 0, out=record.view(np.bool_))  # a bool has only two values
        elif self.is_swapped:
            # A complex number is two floats, each swapped by itself.
            width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
            record.view(f"u{width}").byteswap(inplace=True)
        return record.view(dtype.numpy)

    def placed(self, storage: LoadedStorage) -> object:
        target: object = self.map_location
        if callable(target):
            target = target(storage, storage.location)
            if isinstance(target, LoadedStorage):
                return target.data
        elif isinstance(target, Mapping):
            target = target.get(storage.location, storage.location)
        device = storage.location if target is None else str(target)
        if device == "cpu":
            return storage.data
        if self.place_storage is None:
            raise RuntimeError(
                f"Attempting to deserialize object on device {shorten(device)}, which is not "
                "available here.\nUse torch.load with map_location='cpu' to map the storages to "
                "the CPU."
            )
        assert isinstance(storage.data, np.ndarray)
        return self.place_storage(storage.data, device)

    def variant(self, storage: Any, dtype: DType | None, conj: bool, neg: bool) -> LoadedStorage:
        """The storage seen as elements of another dtype, or a conjugated or negated copy of it;
        made once, so that the tensors on it go on sharing."""
        if not isinstance(storage, LoadedStorage):
            raise pickle.UnpicklingError("a tensor without a storage")
        if dtype is storage.dtype and not conj and not neg:
            return storage
        identity = (id(storage), dtype, conj, neg)
        if identity not in self.variants:
            data: Any = storage.data
            if not isinstance(data, np.ndarray):
                raise FormatError("only tensors on the CPU can be reinterpreted", hint=_ON_CPU)
            if dtype is not storage.dtype:
                if storage.dtype is not None or len(data) % dtype.itemsize:
                    raise FormatError(f"a storage that holds no {dtype!r}")
                data = self.elements(data, dtype)
            data = np.conj(data) if conj else data
            data = np.negative(data) if neg else data
            self.variants[identity] = LoadedStorage(data, dtype, len(data), storage.location)
        return self.variants[identity]

    # -- what the pickle calls

    def rebuild_tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Any:
        dtype = storage.dtype if isinstance(storage, LoadedStorage) else None
        return self.tensor(storage, offset, size, stride, requires_grad, dtype, metadata)

    def rebuild_tensor_v3(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any,
        hooks: Any,
        dtype: Any,
        metadata: Any = None,
    ) -> Any:
        element = dtype
        if not isinstance(dtype, DType | tuple | list | dict | set):  # the caller's own dtypes
            element = dtypes_by_torch_name().get(str(dtype).removeprefix("torch."))
        if not isinstance(element, DType):
            raise FormatError(f"tensors of dtype {shorten(dtype)} are not supported")
        return self.tensor(storage, offset, size, stride, requires_grad, element, metadata)

    def tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any,
        dtype: DType | None,
        metadata: Any,
    ) -> Any:
        flags = metadata if isinstance(metadata, dict) else {}
        conj, neg = bool(flags.get("conj")), bool(flags.get("neg"))
        storage = self.variant(storage, dtype, conj, neg)
        size, stride = _integers(size, "size"), _integers(stride, "stride")
        _check_inside(storage.numel, offset, size, stride)
        return self.make_tensor(storage.data, offset, size, stride, bool(requires_grad))

    def rebuild_parameter(self, data: Any, requires_grad: Any, hooks: Any = None) -> Any:
        return self.make_parameter(data, bool(requires_grad))

    def rebuild_parameter_with_state(
        self, data: Any, requires_grad: Any, hooks: Any, state: Any
    ) -> Any:
        return _with_attributes(self.make_parameter(data, bool(requires_grad)), state)

    def rebuild_from_type(self, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
        """A tensor with Python attributes; subclasses other than Parameter are not made."""
        rebuilds = (self.rebuild_tensor, self.rebuild_tensor_v3, self.rebuild_parameter)
        if function not in rebuilds or not isinstance(kind, _TensorClass):
            raise pickle.UnpicklingError("a tensor of a subclass that is not known")
        return _with_attributes(function(*arguments), state)

    def names(self) -> dict[str, object]:
        storages: dict[str, object] = {
            f"torch.{name}": StorageType(name, dtype) for name, dtype in TYPED_STORAGES.items()
        }
        untyped = StorageType("UntypedStorage", None)
        return {
            **{f"torch.{name}": dtype for name, dtype in dtypes_by_torch_name().items()},
            **storages,
            "torch.storage.UntypedStorage": untyped,
            "torch.UntypedStorage": untyped,
            "torch.Tensor": _TensorClass("Tensor"),
            "torch._tensor.Tensor": _TensorClass("Tensor"),
            "torch.nn.parameter.Parameter": _TensorClass("Parameter"),
            "torch.Size": _size,
            "torch.device": _device,
            "torch.serialization._get_layout": _layout,
            "torch._utils._rebuild_tensor": self.rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": self.rebuild_tensor,
            "torch._utils._rebuild_tensor_v3": self.rebuild_tensor_v3,
            "torch._utils._rebuild_parameter": self.rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": self.rebuild_parameter_with_state,
            "torch._tensor._rebuild_from_type_v2": self.rebuild_from_type,
            **{f"torch._utils.{name}": _unsupported(name) for name in _UNSUPPORTED},
        }


_ON_CPU = "Load the file with map_location='cpu'."
_UNSUPPORTED = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_qtensor": "quantized",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_wrapper_subclass": "wrapped",
}


class _TensorClass:
    """A class of tensors as the pickle names it."""

    def __init__(self, name: str) -> None:
        self.name = name


def _unsupported(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any) -> NoReturn:
        raise FormatError(f"the file holds a {_UNSUPPORTED[name]} tensor, which cannot be loaded")

    return refuse


def _size(dims: Any = ()) -> tuple[int, ...]:
    return _integers(dims, "size")


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or not (index is None or type(index) is int):
        raise pickle.UnpicklingError("a device without a name")
    return kind if index is None else f"{kind}:{index}"


def _layout(name: Any) -> str:
    if type(name) is not str:
        raise pickle.UnpicklingError("a layout without a name")
    return name


def _text(value: Any) -> str:
    """Strings of files written by Python 2 are bytes."""
    if isinstance(value, bytes):
        value = value.decode("ascii")
    if type(value) is not str:
        raise pickle.UnpicklingError("a storage whose key or location is not a string")
    return value


def _integers(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > _MAX_DIMS:
        raise FormatError(f"a tensor's {what} is not a tuple of at most {_MAX_DIMS} integers")
    if not all(type(value) is int and 0 <= value <= _MAX_NUMEL for value in values):
        raise FormatError(f"a tensor's {what} holds a value that is not a dimension")
    return tuple(values)


def _check_inside(numel: int, offset: Any, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """FormatError unless every element of the view lies in its storage."""
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise FormatError("a tensor whose offset, size and stride do not fit each other")
    elements = 1
    for dim in size:
        elements *= dim
    last = offset + sum((dim - 1) * step for dim, step in zip(size, stride))
    outside = last >= numel if elements else offset > numel
    if elements > _MAX_NUMEL or outside:
        raise FormatError(
            f"a tensor of size {list(size)}, stride {list(stride)} and offset {offset} does not "
            f"fit its storage of {numel} elements"
        )


def _with_attributes(tensor: Any, state: Any) -> Any:
    """Put Python attributes, (dict, slots) or dict, into the tensor's `__dict__`."""
    if isinstance(state, tuple) and len(state) == 2 and not state[1]:
        state = state[0]
    if not state:
        return tensor
    if not isinstance(state, dict) or not hasattr(tensor, "__dict__"):
        raise pickle.UnpicklingError("a tensor with a state that is not a dict of attributes")
    tensor.__dict__.update(state)
    return tensor


class _FullUnpickler(pickle.Unpickler):
    """weights_only=False: Python's own unpickler, with torch's names for tensors and storages.

    Other names below "torch" are looked for below this package, since it has torch's API.
    """

    def __init__(
        self,
        data: bytes,
        names: Mapping[str, object],
        allowed: Iterable[object],
        load_storage: Callable[[tuple], object],
    ) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.names = {**names, **allowed_names(allowed)}
        self.load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        known = self.names.get(f"{module}.{name}")
        if known is not None:
            return known
        if module.split(".")[0] == "torch":
            return _own_counterpart(module, name)
        return super().find_class(module, name)

    def persistent_load(self, identity: Any) -> object:
        if type(identity) is not tuple or len(identity) != 5:
            raise pickle.UnpicklingError("an external reference that is not a storage")
        return self.load_storage(identity)


def _own_counterpart(module: str, name: str) -> Any:
    """torch.nn.modules.linear.Linear -> this package's Linear: the same path, or the nearest
    enclosing package that has the name (nn.modules, nn)."""
    package = __name__.split(".")[0]
    parts = [package, *module.split(".")[1:]]
    while parts:
        path = ".".join(parts)
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not path.startswith(error.name):
                raise
        else:
            if hasattr(found, name):
                return getattr(found, name)
        parts.pop()
    raise pickle.UnpicklingError(
        f"the file names {shorten(module)}.{shorten(name)}, which {package} does not have"
    )
