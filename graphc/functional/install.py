"""Puts torch's methods and operators on `Tensor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..frontends import predict
from ..frontends.function import FUNCTIONS, Function
from ..ir.dtype import BOOL
from ..ir.op import OPS
from ..tensor import Tensor
from . import (  # noqa: F401
    convert,
    distance,
    embed,
    index,
    join,
    legacy,
    linalg,
    lookup,
    movement,
    numeric,
    order,
    padding,
    parts,
    pointwise,
    random,
    rearrange,
    reduce,
    search,
    split,
    statistics,
)
from .create import cast_to
from .pointwise import ALIASES
from .promote import check_cast

# Functions of torch that are no methods of Tensor.
NOT_METHODS = {
    "cast_to", "complex", "polar", "einsum", "tensordot", "cat", "concat", "concatenate", "stack",
    "hstack", "vstack", "dstack", "column_stack", "row_stack", "meshgrid", "cartesian_prod",
    "block_diag", "broadcast_tensors", "pad", "embedding", "one_hot", "rsub", "var_mean",
    "std_mean", "where", "bucketize", "searchsorted", "isin", "combinations", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "tril_indices", "triu_indices", "unravel_index", "vander",
    "view_as_real", "view_as_complex", "atleast_1d", "atleast_2d", "atleast_3d", "constant_pad_nd",
}  # fmt: skip

# Functions with a variant that writes its result into the first operand, besides the ops whose
# declarations say so.
INPLACE = """
add addbmm addcdiv addcmul addmm addmv addr arctan2 atan2 baddbmm bitwise_and bitwise_left_shift
bitwise_or bitwise_right_shift bitwise_xor clamp clamp_max clamp_min clip conj_physical copysign
cumprod cumsum deg2rad div divide eq float_power floor_divide fmod frac gcd ge greater greater_equal
gt hypot index_add index_copy index_fill index_put index_reduce lcm ldexp le lerp less less_equal
log10 logical_and logical_not logical_or logical_xor logit lt masked_fill masked_scatter mul
multiply nan_to_num ne nextafter not_equal pow put rad2deg reciprocal remainder renorm round scatter
scatter_add scatter_reduce sgn sinc square sub subtract tril triu true_divide xlogy
""".split()


def _in_place(function: Callable) -> Callable:
    """x.f_(...): x becomes f(x, ...), in x's element type and shape."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = function(self, *args, **kwargs)
        if made._type is not self._type:
            if made._type.shape != self._type.shape:
                raise RuntimeError(
                    f"output with shape {list(self.shape)} doesn't match the broadcast shape "
                    f"{list(made.shape)}"
                )
            if made.dtype is not self.dtype:
                if made.dtype is not BOOL:
                    check_cast(made.dtype, self.dtype)
                made = cast_to(made, self.dtype, self._type.device)
        return self._write(made)

    method.__wrapped__ = function  # for help() and inspect.signature
    return method


def _reflected(function: Callable) -> Callable:
    def method(self: Tensor, other: Any) -> Any:
        return function(other, self)

    return method


def _operator(function: Any, predicted: bool = False) -> Callable:
    """An operator returns NotImplemented for what is neither a tensor nor a number."""
    of_two = predict.of_two(function) if predicted else function

    def method(self: Tensor, other: Any) -> Any:
        kind = other.__class__
        if kind is Tensor or kind is float or kind is int:
            return of_two(self, other)
        if not isinstance(other, (Tensor, int, float, complex)):
            other = _as_operand(other)
            if other is NotImplemented:
                return other
        return function(self, other)

    return method


def _as_operand(other: Any) -> Any:
    import numpy as np

    if isinstance(other, np.generic):
        return other.item()
    if isinstance(other, np.ndarray):
        from .create import as_tensor

        return as_tensor(other)
    return NotImplemented


OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
    "matmul": "matmul",
}  # fmt: skip
COMPARISONS = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
UNARY = {"neg": "neg", "abs": "abs", "invert": "bitwise_not", "pos": "positive"}


def install() -> None:
    """Attaches everything that registered itself in FUNCTIONS."""
    for alias, name in ALIASES.items():
        FUNCTIONS.setdefault(alias, FUNCTIONS[name])
    for name, function in FUNCTIONS.items():
        if name not in NOT_METHODS and name not in Tensor.__dict__:
            setattr(Tensor, name, _method(function))
    of_ops = [n for op in OPS.values() if op.torch and op.torch.inplace for n in op.torch.names]
    for name in (*INPLACE, *of_ops):
        if name in FUNCTIONS and name + "_" not in Tensor.__dict__:
            method = _in_place(FUNCTIONS[name])
            method.__name__ = method.__qualname__ = name + "_"
            setattr(Tensor, name + "_", method)
    for symbol, name in OPERATORS.items():
        function = FUNCTIONS[name]
        setattr(Tensor, f"__{symbol}__", _operator(function, predicted=True))
        setattr(Tensor, f"__r{symbol}__", _operator(_reflected(function)))
        setattr(Tensor, f"__i{symbol}__", _operator(_in_place(function)))
    for symbol, name in COMPARISONS.items():
        setattr(Tensor, f"__{symbol}__", _operator(FUNCTIONS[name]))
    for symbol, name in UNARY.items():
        setattr(Tensor, f"__{symbol}__", predict.of_one(FUNCTIONS[name]))
    convert.install(Tensor)
    random.install(Tensor)
    for module in (index, legacy, lookup, movement, parts, split):
        for name, method in getattr(module, "METHODS", {}).items():
            setattr(Tensor, name, method)


def _method(function: Function) -> Callable:
    code = function.body.__code__
    if type(function) is Function and code.co_argcount + code.co_kwonlyargcount == 1:
        return _method_of_one(function)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return _named_as(function, method)


def _method_of_one(function: Function) -> Callable:
    """A function of nothing but a tensor takes predicted steps, as operators do."""
    of_one = predict.of_one(function)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs) if args or kwargs else of_one(self)

    return _named_as(function, method)


def _named_as(function: Function, method: Callable) -> Callable:
    method.__name__ = method.__qualname__ = function.name
    method.__doc__ = function.__doc__
    method.__wrapped__ = function
    return method
