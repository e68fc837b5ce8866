"""Ops that make values from nothing: constants and `iota`."""

import numpy as np

from ..build import Builder
from ..data import Data
from ..dims import AnyDim, Dim
from ..dtype import I64, DType
from ..errors import ShapeError
from ..graph import Value
from ..op import OPS, Structural, as_dtype, constant_like, op
from ..schema import Case, DataAttr, DimAttr, Dims, DTypeAttr, IntAttr, NumberAttr, Onnx, Text
from ..types import TensorType


@op("full", device="cpu")
class full_op(Structural):
    """A tensor of one number."""

    value: NumberAttr
    dtype: DTypeAttr
    shape: Dims
    device: Text

    def result(value, dtype, shape, device):
        return TensorType(dtype, shape, device)

    def eval(value, dtype, shape, device):
        return np.full(shape, value, dtype.numpy)

    no_derivative = "has no operand"

    def to_onnx(g, node):
        return g.full(node.attrs["value"], node.outputs[0].type)

    samples = (Case(value=1.5, dtype="f32", shape=(2, 3)), Case(value=-0.0, dtype="f64", shape=()))


@op("const", device="cpu")
class const_op(Structural):
    """A tensor whose contents stand in the graph."""

    data: DataAttr
    device: Text

    def result(data, device):
        return TensorType(data.dtype, data.shape, device)

    def eval(data, device):
        return data.array

    no_derivative = "has no operand"

    def to_onnx(g, node):
        return g.constant(node.attrs["data"].array)

    samples = (Case(data=[[1.0, 2.0], [3.0, 4.0]]),)


@op("iota", device="cpu")
class iota_op(Structural):
    """0, 1, 2, ... along one axis, the same along the others."""

    shape: Dims
    axis: IntAttr
    dtype: DTypeAttr
    device: Text

    def result(shape, axis, dtype, device):
        if not 0 <= axis < len(shape):
            raise ShapeError(f"iota: a shape of {len(shape)} axes has no axis {axis}")
        return TensorType(dtype, shape, device)

    def eval(shape, axis, dtype, device):
        line = np.arange(shape[axis]).astype(dtype.numpy)
        place = [-1 if i == axis else 1 for i in range(len(shape))]
        return np.broadcast_to(line.reshape(place), shape)

    no_derivative = "has no operand"

    def to_onnx(g, node):
        return g.iota(node)

    onnx = Onnx("Range", 11)
    samples = (Case(shape=(4, 3), axis=0, dtype="i64"), Case(shape=(4, 3), axis=1, dtype="f32"))


@op("dim", device="cpu")
class dim_op(Structural):
    """A size as a number: i64 of any shape, the same everywhere."""

    size: DimAttr
    shape: Dims
    device: Text

    def result(size, shape, device):
        return TensorType(I64, shape, device)

    def eval(size, shape, device):
        return np.full(shape, size, np.int64)

    no_derivative = "has no operand"

    def to_onnx(g, node):
        return g.expand_to(g.dim(node.attrs["size"]), node.attrs["shape"])

    samples = (Case(size=3, shape=(2,)),)


def dim_value(size: AnyDim, shape: tuple = (), device: str = "cpu") -> Value:
    """A size as a computed number."""
    return dim_op(size=size, shape=tuple(shape), device=device)


def full(
    value: bool | int | float | complex | Dim,
    dtype: DType,
    shape: tuple = (),
    device: str = "cpu",
) -> Value:
    """A tensor of one number, which may be a size."""
    if isinstance(value, Dim):
        size = dim_value(value, shape, device)
        return size if dtype is I64 else OPS["cast"](size, dtype=dtype)
    return full_op(value=as_dtype(value, dtype), dtype=dtype, shape=tuple(shape), device=device)


def full_like(value: bool | int | float | complex | Dim, like: Value) -> Value:
    """A tensor of one number, of the type of `like`."""
    return constant_like(value, like)


def const(array: np.ndarray, device: str = "cpu") -> Value:
    """A tensor whose contents stand in the graph."""
    return const_op(data=Data(np.asarray(array)), device=device)


def iota(shape: tuple, axis: int, dtype: DType, device: str = "cpu") -> Value:
    return iota_op(shape=tuple(shape), axis=axis, dtype=dtype, device=device)


def current() -> Builder:
    return Builder.current()
