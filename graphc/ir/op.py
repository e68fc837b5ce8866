"""`Op`: what one operation is, and how it is declared.

A declaration is a class whose functions take no `self`; `@op("name")` makes it the op object.

    @op("exp")
    class exp(Pointwise):
        "e to the x."
        x: Float | Complex                        # schema: operands, then attributes
        def eval(x): return np.exp(x)             # meaning: the reference of every backend
        def partials(x, out): return (out,)
        onnx = Onnx("Exp", since=13)
        cost = 8
        samples = (Uniform(-4, 4), Special("inf nan -0.0"))

Facets:
    eval(*arrays, **attrs)         meaning, in numpy
    result(*types, **attrs)        inference, where the family does not derive it
    partials(*inputs, out)         pointwise derivative for each input, None where there is none
    linear, transpose(ct, node, i) operands in which the op is linear, and its transpose: the plain
                                   one, sum(ct * y), without conjugation
    bilinear                       linear in each of these alone (dot), not in all together (select)
    pull(cts, node), push(tangents, node)     reverse and forward mode, where neither fits
    pull_takes_places              pull(cts, node, places): only these operands' cotangents are read
    no_derivative                  the reason, where it has none
    flat                           ... that derivatives are stopped on purpose
    surrogate                      its derivative is not that of its value, on purpose
    expand(*inputs, **attrs)       composites: the meaning in terms of other ops
    onnx | to_onnx, from_onnx      export and load;  no_onnx: the reason for none
    torch                          PyTorch's names
    samples                        what the generated tests run it on
    cost                           of one element, an addition being 1: when to compute it again
    pure, commutative, dear        effects; x op y = y op x; worth keeping rather than running twice
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .build import Builder
from .dims import Dim
from .dtype import BOOL, C64, C128, DType
from .errors import DeviceError, DTypeError, ShapeError
from .graph import NO_ATTRS, Attrs, Graph, Node, Value
from .schema import AttrKind, Kinds, Onnx, Torch
from .types import TensorType, Type

OPS: dict[str, Op] = {}


class Op:
    """Base of all ops. One object per op; compared by identity."""

    name: str
    doc: str
    operands: tuple[tuple[str, Kinds], ...] = ()
    attributes: tuple[tuple[str, AttrKind], ...] = ()
    defaults: dict[str, Any] = {}

    pure = True
    commutative = False
    dear = False
    linear: tuple[int, ...] | None = None
    bilinear = False
    no_derivative: str | None = None
    flat = False
    surrogate = False
    onnx: Onnx | None = None
    no_onnx: str | None = None
    torch: Torch | None = None
    samples: tuple = ()
    composite = False
    pull_takes_places = False
    vjp_forward: Op | None = None
    cost = 1

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        """Builds the node in the current builder; numbers beside values become constants."""
        builder = Builder.current()
        values = lift(inputs)
        made = builder.emit(self, values, self.attrs_of(attrs))
        return made[0] if len(made) == 1 else made

    def attrs_of(self, given: dict[str, Any]) -> Attrs:
        """Attributes in the order of the declaration, defaults filled in, so that texts agree."""
        if not self.attributes:
            if given:
                raise TypeError(f"{self.name} takes no attribute {next(iter(given))!r}")
            return NO_ATTRS
        ordered = {}
        for key, kind in self.attributes:
            if key in given:
                ordered[key] = given[key]
            elif key in self.defaults:
                ordered[key] = self.defaults[key]
            else:
                raise TypeError(f"{self.name} needs the attribute {key!r} ({kind.name})")
        if len(ordered) < len(given) or not all(key in ordered for key in given):
            extra = next(key for key in given if key not in ordered)
            raise TypeError(f"{self.name} takes no attribute {extra!r}")
        return Attrs.of(ordered)

    # --- inference ---------------------------------------------------------------------------

    def infer(self, attrs: Attrs, types: Sequence[Type], blocks: tuple[Graph, ...] = ()) -> list:
        """The types of the outputs; ShapeError, DTypeError or TypeError for wrong operands."""
        self.check(attrs, types)
        found = self.result(*types, **attrs)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def result(self, *types: Any, **attrs: Any) -> Any:
        raise TypeError(f"the op {self.name} declares no result")

    def check(self, attrs: Attrs, types: Sequence[Type]) -> None:
        """The schema: number and kinds of operands, one device, kinds of attributes."""
        operands = self.operands
        variadic = bool(operands) and operands[-1][1].variadic
        if len(types) != len(operands) and not (variadic and len(types) >= len(operands) - 1):
            raise TypeError(f"{self.name} takes {len(operands)} operands, not {len(types)}")
        device = None
        for i, type in enumerate(types):
            name, kinds = operands[min(i, len(operands) - 1)]
            if not isinstance(type, TensorType):
                raise TypeError(f"{self.name}: {name} must be a tensor, not {type.text}")
            if type.dtype.kind not in kinds.letters:
                raise DTypeError(f"{self.name} is not defined for {type.text}: {name} is {kinds}")
            if device is None:
                device = type.device
            elif type.device != device and self.name != "copy_to":
                raise DeviceError(
                    f"Expected all tensors to be on the same device, but found {device} "
                    f"and {type.device} in {self.name}",
                    hint="Move one of them with .to(device).",
                )
        if attrs is not NO_ATTRS or self.attributes:
            for key, kind in self.attributes:
                if key not in attrs:
                    raise TypeError(f"{self.name} needs the attribute {key!r} ({kind.name})")
                if not kind.check(attrs[key]):
                    raise TypeError(f"{self.name}: {key} must be {kind.name}, not {attrs[key]!r}")

    # --- meaning -----------------------------------------------------------------------------

    def eval(self, *arrays: Any, **attrs: Any) -> Any:
        raise TypeError(f"the op {self.name} declares no meaning")

    def eval_node(self, node: Node, arrays: Sequence[np.ndarray], attrs: dict) -> Sequence:
        """Evaluates a node; control flow overrides this to run its blocks."""
        found = self.eval(*arrays, **attrs)
        return found if isinstance(found, (tuple, list)) else (found,)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple:
        return OPS.__getitem__, (self.name,)


def op(name: str, **defaults: Any) -> Callable[[type], Any]:
    """Declares a class to be the op of that name; the class's name then means the op itself."""

    def declare(cls: type) -> Op:
        return _declare(cls, name, defaults)

    return declare


def _declare(cls: type, name: str, defaults: dict[str, Any]) -> Op:
    if name in OPS:
        raise TypeError(f"the op {name} is declared twice")
    operands, attributes = [], []
    for key, kind in inspect.get_annotations(cls).items():
        if isinstance(kind, Kinds):
            operands.append((key, kind))
        elif isinstance(kind, AttrKind):
            attributes.append((key, kind))
    for key, facet in list(vars(cls).items()):
        if callable(facet) and not key.startswith("__") and not isinstance(facet, type):
            setattr(cls, key, staticmethod(facet))
    made = cls()
    made.name, made.doc = name, (cls.__doc__ or "").strip()
    if operands:
        made.operands = tuple(operands)
    if attributes:
        made.attributes = tuple(attributes)
    made.defaults = defaults
    OPS[name] = made
    return made


def lift(inputs: Sequence[Any]) -> tuple[Value, ...]:
    """Numbers beside a value become constants of that value's type: expansion is explicit."""
    for like in reversed(inputs):
        if isinstance(like, Value):
            break
    else:
        return tuple(inputs)
    return tuple([x if isinstance(x, Value) else constant_like(x, like) for x in inputs])


def constant_like(number: bool | int | float | complex, like: Value) -> Value:
    """A `full` of the type of `like`, or a size as a computed number of that type."""
    type = like.type
    if isinstance(number, Dim):
        value = OPS["dim"](size=number, shape=type.shape, device=type.device)
        return value if value.type.dtype is type.dtype else OPS["cast"](value, dtype=type.dtype)
    attrs = {"value": as_dtype(number, type.dtype), "dtype": type.dtype, "shape": type.shape}
    if type.device != "cpu":
        attrs["device"] = type.device
    full = OPS["full"]
    return Builder.current().emit(full, (), full.attrs_of(attrs))[0]


def as_dtype(number: Any, dtype: DType) -> bool | int | float | complex:
    """The Python number that a constant of that element type holds."""
    if dtype.kind == "f":
        return float(number)
    if dtype is BOOL:
        return bool(number)
    if dtype in (C64, C128):
        return complex(number)
    return int(number)


# --- families ------------------------------------------------------------------------------------


class Pointwise(Op):
    """Element by element; all operands have one shape and, unless the op says otherwise, dtype."""

    result_dtype: DType | None = None  # None: that of the last operand

    def result(self, *types: TensorType, **attrs: Any) -> TensorType:
        last = types[-1]
        for type in types[self.mixed :]:
            if type.dtype is not last.dtype:
                raise DTypeError(f"{self.name}: dtypes differ: {_texts(types)}")
        for type in types:
            if type.shape != last.shape:
                raise ShapeError(f"{self.name}: shapes differ: {_texts(types)}")
        return last.with_dtype(self.result_dtype) if self.result_dtype else last

    mixed = 0  # how many leading operands have a dtype of their own

    def scalar(self, emitter: Any, *args: Any, dtype: DType) -> Any:
        """The loop body: a named intrinsic that each backend expands."""
        return emitter.emit(self.name, list(args), dtype)


class Structural(Op):
    """Moves or reduces elements; `result` says the type of the output."""


def _texts(types: Sequence[Type]) -> str:
    return ", ".join(type.text for type in types)
