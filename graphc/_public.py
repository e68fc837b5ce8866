"""Fills the namespace of `graphc` with torch's names, once, when the first of them is used."""

from __future__ import annotations

import math
from typing import Any

from . import amp, autograd, memory_layout, tensor
from .device import device
from .frontends import modes
from .frontends.function import FUNCTIONS
from .functional import (
    convert,
    create,
    install,
    legacy,
    numpy_memory,
    random,
    torch_names,
    window,
)
from .ir.dtype import DTYPES, DType
from .ir.dtype import promote as _promote
from .ir.errors import PUBLIC
from .tensor import Size, Tensor

_CREATE = """
tensor as_tensor frombuffer zeros ones empty full zeros_like ones_like empty_like full_like eye
arange linspace logspace scalar_tensor
""".split()
_RANDOM = """
Generator default_generator manual_seed seed initial_seed get_rng_state set_rng_state rand randn
randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson
""".split()
_AUTOGRAD = """
no_grad enable_grad set_grad_enabled inference_mode is_grad_enabled is_inference_mode_enabled
""".split()

_WINDOWS = "bartlett_window blackman_window hamming_window hann_window kaiser_window".split()


def load(names: dict[str, Any]) -> None:
    """Puts every public name into `names`."""
    if "Tensor" in names:
        return
    install.install()
    autograd.install()
    for name, function in FUNCTIONS.items():
        if not name.startswith("_"):
            names[name] = function
    for dtype in DTYPES.values():
        names[dtype.torch_name] = dtype
    names.update(
        float=DTYPES["f32"], double=DTYPES["f64"], half=DTYPES["f16"], long=DTYPES["i64"],
        int=DTYPES["i32"], short=DTYPES["i16"], bool=DTYPES["bool"], cfloat=DTYPES["c64"],
        cdouble=DTYPES["c128"], dtype=DType, device=device, Size=Size, strided=convert.strided,
        pi=math.pi, e=math.e, inf=math.inf, nan=math.nan, newaxis=None,
        from_numpy=numpy_memory.from_numpy_array, equal=convert.equal, allclose=convert.allclose,
        layout=memory_layout.layout, memory_format=memory_layout.memory_format,
        contiguous_format=memory_layout.contiguous_format,
        preserve_format=memory_layout.preserve_format,
        channels_last=memory_layout.channels_last, channels_last_3d=memory_layout.channels_last_3d,
    )  # fmt: skip
    names.update({error.__name__: error for error in PUBLIC})
    names.update(torch_names.names())
    names.update(
        autocast=amp.autocast, is_autocast_enabled=amp.is_autocast_enabled,
        get_autocast_dtype=amp.get_autocast_dtype,
    )  # fmt: skip
    names.update({name: getattr(window, name) for name in _WINDOWS})
    names.update({function.__name__: function for function in legacy.FUNCTIONS})
    for module, listed in ((create, _CREATE), (random, _RANDOM), (autograd, _AUTOGRAD)):
        names.update({name: getattr(module, name) for name in listed})
    own = (
        is_tensor, is_floating_point, is_complex, numel, result_type, promote_types, can_cast,
        get_default_dtype, set_default_dtype, set_default_device, get_default_device, typename,
        set_num_threads, get_num_threads, set_printoptions, set_flush_denormal, compile, save,
        load_, is_storage, as_torch, finfo, iinfo, get_num_interop_threads, set_num_interop_threads,
        from_dlpack, to_dlpack, vmap, use_deterministic_algorithms,
        are_deterministic_algorithms_enabled,
        set_float32_matmul_precision, get_float32_matmul_precision, manual_seed_all,
    )  # fmt: skip
    names.update({function.__name__.rstrip("_"): function for function in own})
    names["load"] = load_
    _name_in_place_functions(names)
    names["_tensor_module"] = tensor
    names["Tensor"] = Tensor  # last: it tells that everything is there


def _name_in_place_functions(names: dict[str, Any]) -> None:
    """torch.exp_(x) and so on, which write into x."""
    from .functional import noise

    for name in legacy.IN_PLACE:
        names[name] = getattr(Tensor, name)
    for name in ("celu_", "rrelu_", "selu_", "threshold_"):
        names[name] = getattr(noise, name)


def is_tensor(obj):
    """Whether it is a tensor."""
    return isinstance(obj, Tensor)


def is_storage(obj):
    """Whether it is a storage."""
    return isinstance(obj, tensor.Storage)


def is_floating_point(input):
    """Whether the element type is a floating point one."""
    return input.dtype.is_floating_point


def is_complex(input):
    """Whether the element type is complex."""
    return input.dtype.is_complex


def numel(input):
    """How many elements there are."""
    return input.numel()


def result_type(tensor, other):
    """The element type that arithmetic of the two has."""
    from .functional import promote
    from .ir.graph import Value

    operands = [Value(x._type) if isinstance(x, Tensor) else x for x in (tensor, other)]
    return promote.result_type(*operands)


def promote_types(type1, type2):
    """The smallest element type that holds both."""
    return _promote(type1, type2)


def can_cast(from_, to):
    """Whether a result of one element type may be stored in another."""
    from .functional import promote

    return promote.can_cast(from_, to)


def get_default_dtype():
    """The element type of new floating-point tensors."""
    return modes.default_dtype()


def set_default_dtype(d):
    """Sets the element type of new floating-point tensors."""
    if d.kind != "f":
        raise TypeError("only floating-point types are supported as the default type")
    modes.set_default_dtype(d)


def set_default_device(device):
    """Sets the device of new tensors."""
    from .device import name_of

    modes.set_default_device(name_of(device) if device is not None else "cpu")


def get_default_device():
    """The device of new tensors."""
    return device(modes.default_device())


def typename(obj):
    """The full name of an object's type."""
    if isinstance(obj, Tensor):
        return obj.type()
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def set_num_threads(num):
    """How many threads a computation may use."""
    from .backends.llvm import pool

    if not isinstance(num, int) or num < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    pool.set_num_threads(num)


def get_num_threads():
    """How many threads a computation may use."""
    from .backends.llvm import pool

    return pool.get_num_threads()


def set_num_interop_threads(num):
    """Accepted; graphc has no inter-op threads."""


def get_num_interop_threads():
    """1: graphc has no inter-op threads."""
    return 1


def set_flush_denormal(mode):
    """Whether denormal numbers count as 0; returns whether the processor can."""
    from .backends.llvm import float_control

    float_control.set_flush_denormal(mode)
    return True


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None,
                     sci_mode=None):  # fmt: skip
    """How tensors print."""
    from . import printing

    printing.set_printoptions(precision, threshold, edgeitems, linewidth, profile, sci_mode)


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Accepted: every algorithm of graphc is deterministic."""


def are_deterministic_algorithms_enabled():
    """True: every algorithm of graphc is deterministic."""
    return True


def set_float32_matmul_precision(precision):
    """Accepted: products of float32 are computed in float32."""


def get_float32_matmul_precision():
    """ "highest": products of float32 are computed in float32."""
    return "highest"


def manual_seed_all(seed):
    """Seeds the generators of all devices."""
    random.manual_seed(seed)


def compile(model=None, **options):
    """A compiled version of a function or module; see `graphc.jit.compile`."""
    from .jit import compile as compile_model

    return compile_model(model, **options)


def save(obj, f, pickle_module=None, pickle_protocol=2, _use_new_zipfile_serialization=True,
         _disable_byteorder_record=False):  # fmt: skip
    """Writes an object with tensors to a file that torch can read."""
    from .serialization import save as write

    write(obj, f, pickle_protocol)


def load_(
    f, map_location=None, pickle_module=None, *, weights_only=True, mmap=None, **pickle_load_args
):
    """Reads a file that torch or graphc wrote; runs no code from it unless weights_only=False."""
    from .serialization import load as read

    return read(f, map_location, weights_only=weights_only)


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """`func` over a dim of its tensors; see `graphc.func.vmap`."""
    from .func import vmap as mapped

    return mapped(func, in_dims, out_dims, randomness, chunk_size=chunk_size)


def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor on the memory of another library's tensor; see `graphc.utils.dlpack`."""
    from .utils import dlpack

    return dlpack.from_dlpack(ext_tensor, device=device, copy=copy)


def to_dlpack(tensor):
    """A DLPack capsule on a tensor's memory."""
    from .utils import dlpack

    return dlpack.to_dlpack(tensor)


def as_torch():
    """Makes `import torch` mean graphc from now on."""
    from .frontends.as_torch import install as put

    put()


class finfo:
    """The limits of a floating-point element type."""

    def __init__(self, dtype=None):
        import ml_dtypes

        dtype = modes.default_dtype() if dtype is None else dtype
        info = ml_dtypes.finfo(dtype.to_real().numpy)
        self.bits, self.dtype = dtype.to_real().bits, dtype.torch_name
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)


class iinfo:
    """The limits of an integer element type."""

    def __init__(self, dtype):
        import numpy as np

        info = np.iinfo(dtype.numpy)
        self.bits, self.max, self.min = dtype.bits, int(info.max), int(info.min)
        self.dtype = dtype.torch_name
