"""Older and rarer ways to make tensors, and what tensors answer about kinds graphc lacks."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..ir.dtype import DTYPES, DType
from ..tensor import Tensor
from . import create
from .split import _whole, as_strided


def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """The object as a tensor; on its own memory where that is possible and `copy` is not True."""
    if copy is False and not isinstance(obj, (Tensor, np.ndarray)):
        raise ValueError("can't alias arbitrary sequence into a tensor.")
    made = create.as_tensor(obj, dtype, device)
    if copy and (made is obj or isinstance(obj, np.ndarray)):
        made = made.detach().clone()
    if requires_grad:
        made = (made.detach() if made is obj else made).requires_grad_(True)
    return made


def empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=False,
                  requires_grad=False):  # fmt: skip
    """A tensor of sizes and strides whose contents do not matter."""
    count = 1 + sum([(n - 1) * s for n, s in zip(size, stride, strict=True)])
    count = 0 if 0 in tuple(size) else count
    made = as_strided(create.empty(count, dtype=dtype, device=device), size, stride)
    return made.requires_grad_(True) if requires_grad else made


def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None,
                   pin_memory=False, requires_grad=False):  # fmt: skip
    """A tensor whose dims lie in memory in the order physical_layout."""
    order = [int(i) for i in physical_layout]
    whole = create.empty([size[i] for i in order], dtype=dtype, device=device)
    made = whole.permute([order.index(i) for i, _ in enumerate(order)])
    return made.requires_grad_(True) if requires_grad else made


def range(start, end, step=1, *, out=None, dtype=None, layout=None, device=None,
          requires_grad=False, pin_memory=False):  # fmt: skip
    """start, start + step, ... up to and including end. Deprecated: arange leaves out the end."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is "
        "inconsistent with Python's range builtin. Instead, use torch.arange, which produces "
        "values in [start, end).",
        UserWarning,
        stacklevel=2,
    )
    count = math.floor((end - start) / step) + 1
    return create.arange(
        start, start + (count - 0.5) * step, step, out=out,
        dtype=dtype or create.modes.default_dtype(), device=device, requires_grad=requires_grad,
    )  # fmt: skip


# --- methods -------------------------------------------------------------------------------------


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Makes the tensor one of other sizes on its memory; new memory where that is too small."""
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    shape = create.sizes_of(sizes)
    count, held, offset = math.prod(shape), _whole(self).numel(), self.storage_offset()
    if offset + count > held:
        whole = as_strided(self, (held,), (1,), 0)
        filling = create.zeros(offset + count - held, dtype=self.dtype, device=self.device)
        from .join import cat

        return self.set_(as_strided(cat([whole, filling]), shape, _row_major(shape), offset))
    return self.set_(as_strided(self, shape, _row_major(shape), offset))


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    from ..frontends.views import row_major

    return row_major(shape)


def resize_as_(self: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """resize_ to the sizes of another tensor."""
    return resize_(self, tuple(the_template.shape))


def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """A tensor of this one's element type, of sizes or from data: the old form of new_tensor."""
    if not args:
        return self.new_empty((0,))
    if isinstance(args[0], int) and not isinstance(args[0], bool):
        return self.new_empty(args)
    if type(args[0]).__name__ == "Size":
        return self.new_empty(tuple(args[0]))
    return self.new_tensor(args[0])


def new_tensor(self: Tensor, data, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A tensor with a copy of data, of this one's element type and on its device."""
    return create.tensor(
        data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad
    )


def new_full(self: Tensor, size, fill_value, *, dtype=None, layout=None, device=None,
             pin_memory=False, requires_grad=False):  # fmt: skip
    """A tensor of one number, of this one's element type and on its device."""
    return create.full(
        size, fill_value, dtype=dtype or self.dtype, device=device or self.device,
        requires_grad=requires_grad,
    )  # fmt: skip


def _new_of(name: str) -> Any:
    def method(self: Tensor, *args, size=None, dtype=None, layout=None, device=None,
               pin_memory=False, requires_grad=False):  # fmt: skip
        sizes = args if size is None else (size,)
        return getattr(create, name)(
            *sizes, dtype=dtype or self.dtype, device=device or self.device,
            requires_grad=requires_grad,
        )  # fmt: skip

    method.__name__ = method.__qualname__ = f"new_{name}"
    method.__doc__ = f"`{name}` of this tensor's element type, on its device."
    return method


def new_empty_strided(self: Tensor, size, stride, dtype=None, layout=None, device=None,
                      pin_memory=False, requires_grad=False):  # fmt: skip
    """empty_strided of this tensor's element type."""
    return empty_strided(
        size, stride, dtype=dtype or self.dtype, device=device or self.device,
        requires_grad=requires_grad,
    )  # fmt: skip


def to_dense(self: Tensor, dtype: Any = None, *, masked_grad: bool = True) -> Tensor:
    """The tensor itself: graphc's tensors are dense."""
    return self if dtype is None else self.to(dtype)


def is_nonzero(input):
    """Whether the only element is not 0."""
    return bool(input)


def is_same_size(input, other):
    """Whether two tensors have the same sizes."""
    return input.shape == other.shape


def is_signed(input):
    """Whether the element type has negative numbers."""
    return input.dtype.is_signed


def is_conj(input):
    """False: graphc conjugates at once."""
    return False


def is_distributed(input):
    """False: graphc's tensors lie on one device."""
    return False


def get_device(input):
    """The number of the CUDA device, -1 for the CPU."""
    return input.get_device()


def detach_(input):
    """Detaches the tensor from what it was computed from."""
    return input.detach_()


def fill_(input, value):
    """Sets every element to a number."""
    return input.fill_(value)


def zero_(input):
    """Sets every element to 0."""
    return input.zero_()


def set_default_tensor_type(t):
    """Sets the element type of new floating-point tensors: "torch.DoubleTensor" or a dtype."""
    from ..frontends import modes

    kinds = {"Float": "f32", "Double": "f64", "Half": "f16", "BFloat16": "bf16"}
    word = str(t).rpartition(".")[2].removesuffix("Tensor")
    dtype = t if isinstance(t, DType) else DTYPES.get(kinds.get(word, ""))
    if dtype is None or dtype.kind != "f":
        raise TypeError(f"invalid type object: {t}; only floating-point types are supported")
    modes.set_default_dtype(dtype)


def dlpack(self: Tensor, *, stream: Any = -1, max_version: Any = None, dl_device: Any = None,
           copy: bool | None = None) -> Any:  # fmt: skip
    """A DLPack capsule on the tensor's memory."""
    from ..utils.dlpack import tensor_dlpack

    return tensor_dlpack(self, copy=copy)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """The kind and number of the tensor's device, as DLPack has them."""
    from ..utils.dlpack import tensor_dlpack_device

    return tensor_dlpack_device(self)


FUNCTIONS = (
    asarray, empty_strided, empty_permuted, range, is_nonzero, is_same_size, is_signed, is_conj,
    is_distributed, get_device, detach_, fill_, zero_, set_default_tensor_type,
)  # fmt: skip
METHODS = {
    "new_tensor": new_tensor, "new_full": new_full,
    **{f"new_{name}": _new_of(name) for name in ("empty", "ones", "zeros")},
    "resize_": resize_, "resize_as_": resize_as_, "new": new, "to_dense": to_dense,
    "new_empty_strided": new_empty_strided, "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "is_conj": is_conj, "is_distributed": is_distributed,
    "is_sparse_csr": property(lambda self: False), "is_mkldnn": property(lambda self: False),
    "is_nested": property(lambda self: False),
}  # fmt: skip

# Functions of torch's namespace that write into their first argument, as the methods do.
IN_PLACE = """
abs_ acos_ acosh_ addmv_ asin_ asinh_ atan_ atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ cos_
cosh_ deg2rad_ erf_ erfc_ exp_ exp2_ expm1_ fix_ floor_ frac_ index_put_ ldexp_ log_
log10_ log1p_ log2_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ resize_as_ round_
rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ trunc_ xlogy_
""".split()
