"""torch.save and torch.load: objects with tensors in torch's file format; safetensors files too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from .device import device
from .frontends.locate import located
from .frontends.torch_file import (
    TensorRecord,
    TorchCall,
    TorchName,
    load_file,
    save_file,
)
from .ir.errors import GraphcError
from .tensor import ForeignBuffer, Size, Tensor, blank, wrap

PathOrFile = str | os.PathLike[str] | IO[bytes]

__all__ = [
    "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "load_safetensors",
    "safe_globals", "save", "save_safetensors",
]  # fmt: skip

# --- saving --------------------------------------------------------------------------------------


def save(obj: Any, f: PathOrFile, pickle_protocol: int = 2) -> None:
    """Writes an object with tensors to a path or a binary file, as torch.save does.

    Tensors that share memory share it in the file. torch reads what it knows (containers, tensors,
    parameters, dtypes, devices, sizes); a whole module is written under graphc's class names.
    """
    save_file(obj, f, describe_tensor=_Describer(), protocol=pickle_protocol)


class _Describer:
    """Says of each value in a saved object how torch's format holds it."""

    def __init__(self) -> None:
        self.kept: list[Any] = []  # storages, so that their ids stay theirs

    def __call__(self, value: Any) -> Any:
        from .nn.parameter import Parameter

        if type(value) in (Tensor, Parameter):
            return self.tensor(value, type(value) is Parameter)
        if isinstance(value, device):
            index = () if value.index is None else (value.index,)
            return TorchCall(TorchName("torch", "device"), (value.type, *index))
        if isinstance(value, Size):
            return TorchCall(TorchName("torch", "Size"), (tuple(value),))
        return None

    def tensor(self, tensor: Tensor, is_parameter: bool) -> TensorRecord:
        from .frontends import views
        from .frontends.execute import array_of
        from .frontends.record import value_of

        storage = tensor._storage
        cell = storage.cell
        if cell.type.device == "meta":
            raise RuntimeError("a tensor on the device meta has no data that could be saved")
        self.kept.append(storage)
        found = views.geometry(tensor._chain, cell.type.shape)
        assert found is not None
        offset, size, stride = found
        return TensorRecord(
            id(storage), array_of(value_of(cell), cell.type).reshape(-1), offset, size, stride,
            tensor.requires_grad, is_parameter,
        )  # fmt: skip


# --- loading -------------------------------------------------------------------------------------

_safe: dict[int, Any] = {}


def load(f: PathOrFile, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """The object in a file of torch or graphc.

    f             a path or a seekable binary file
    map_location  where tensors go: a device, a dict of devices, or a function of (storage, place)
    weights_only  False runs the file's pickle as Python does, which can execute code

    Raises pickle.UnpicklingError for content that is not allowed, FormatError (a RuntimeError) for
    a malformed file, EOFError for one that ends early.
    """
    makers = _Storages()
    try:
        return load_file(
            f, make_tensor=makers.tensor, make_parameter=_make_parameter,
            map_location=map_location, weights_only=weights_only, allowed=get_safe_globals(),
            names={"torch.Size": Size, "torch.device": device}, place_storage=_placed,
        )  # fmt: skip
    except GraphcError as error:
        raise located(error) from None


class _Placed:
    """A storage's elements, and the device other than "cpu" that they go to."""

    def __init__(self, array: np.ndarray, where: str) -> None:
        self.array, self.device = array, where


def _placed(array: np.ndarray, where: str) -> _Placed:
    found = device(where)
    if found.type == "cuda":
        raise RuntimeError(
            f"Attempting to deserialize object on device {where}, which is not available here.\n"
            "Use torch.load with map_location='cpu' to map the storages to the CPU."
        )
    return _Placed(array, str(found))


class _Storages:
    """The storages of one file: tensors on one array get one storage."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Any, Tensor]] = {}

    def tensor(
        self,
        storage: Any,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool,
    ) -> Tensor:
        from .frontends.views import row_major

        array = storage.array if isinstance(storage, _Placed) else storage
        whole = offset == 0 and stride == row_major(size) and np.prod(size) == array.size
        if id(array) not in self.made:
            shape = size if whole else array.shape
            self.made[id(array)] = storage, _from_memory(storage, shape)
        base = self.made[id(array)][1]
        same = whole and tuple(base.shape) == size
        made = _on_storage(base) if same else _strided(base, size, stride, offset)
        return made.requires_grad_(True) if requires_grad else made


def _from_memory(storage: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor on the whole of a file's storage."""
    from .frontends.record import Cell
    from .ir.dtype import from_numpy
    from .ir.types import TensorType

    if not isinstance(storage, _Placed):
        buffer: Any = ForeignBuffer(storage)
        return wrap(Cell(TensorType(from_numpy(storage.dtype), shape), buffer))
    from .functional.create import cast_to

    host = _from_memory(storage.array, shape)
    return cast_to(host, host.dtype, storage.device)


def _on_storage(base: Tensor) -> Tensor:
    made = blank(Tensor)
    made._storage = base._storage
    return made


def _strided(base: Tensor, size: tuple, stride: tuple, offset: int) -> Tensor:
    from .functional.split import as_strided

    return as_strided(base, size, stride, offset)


def _make_parameter(tensor: Tensor, requires_grad: bool) -> Any:
    from .nn.parameter import Parameter

    return Parameter(tensor, requires_grad)


# --- what may be loaded with weights_only --------------------------------------------------------


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Allows classes and functions, or pairs (object, "module.name"), in files of weights."""
    for entry in safe_globals:
        _safe[id(entry[0] if isinstance(entry, tuple) else entry)] = entry


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` allowed."""
    return list(_safe.values())


def clear_safe_globals() -> None:
    """Allows nothing beyond the default any more."""
    _safe.clear()


@contextmanager
def safe_globals(safe_globals: Iterable[Any]) -> Iterator[None]:
    """Allows them within."""
    before = dict(_safe)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _safe.clear()
        _safe.update(before)


# --- safetensors ---------------------------------------------------------------------------------


def save_safetensors(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes name -> tensor as a safetensors file (needs the package safetensors)."""
    from .frontends import safetensors_file

    arrays = {name: tensor._array() for name, tensor in tensors.items()}
    safetensors_file.save_file(arrays, path, metadata)


def load_safetensors(path: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file (needs the package safetensors)."""
    from .device import name_of
    from .frontends import safetensors_file
    from .tensor import from_array

    found = safetensors_file.load_file(path)
    return {name: from_array(array, name_of(device)) for name, array in found.items()}
