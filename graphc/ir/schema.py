"""What an op's declaration is written in: operand kinds, attribute kinds, ONNX mapping, samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .dtype import DType


@dataclass(frozen=True)
class Kinds:
    """The element types that an operand admits, as letters of `DType.kind`."""

    letters: str
    variadic: bool = False

    def __or__(self, other: Kinds) -> Kinds:
        return Kinds(self.letters + other.letters)

    def admits(self, dtype: DType) -> bool:
        return dtype.kind in self.letters

    def __str__(self) -> str:
        names = {"f": "float", "i": "int", "u": "unsigned", "b": "bool", "c": "complex"}
        return " or ".join(names[letter] for letter in self.letters)


Float, Int, Bool, Complex = Kinds("f"), Kinds("iu"), Kinds("b"), Kinds("c")
Real = Kinds("fiu")
Number = Kinds("fiuc")
Any_ = Kinds("fiubc")


def many(kinds: Kinds) -> Kinds:
    """Any number of operands of these kinds; only as the last operand."""
    return Kinds(kinds.letters, variadic=True)


@dataclass(frozen=True)
class AttrKind:
    """What an attribute holds; `check` says whether a value is one."""

    name: str
    check: Callable[[Any], bool]


def _is_dim(x: Any) -> bool:
    return (isinstance(x, int) and not isinstance(x, bool)) or x.__class__.__name__ == "Dim"


def _tuple_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, tuple) and all(map(check, x))


def _is_int(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


IntAttr = AttrKind("an int", _is_int)
DimAttr = AttrKind("a size", _is_dim)
Ints = AttrKind("a tuple of ints", _tuple_of(_is_int))
Dims = AttrKind("a tuple of sizes", _tuple_of(_is_dim))
IntPairs = AttrKind("a tuple of tuples of ints", _tuple_of(_tuple_of(_is_int)))
DimPairs = AttrKind("a tuple of pairs of sizes", _tuple_of(_tuple_of(_is_dim)))
Flag = AttrKind("True or False", lambda x: isinstance(x, bool))
Text = AttrKind("a string", lambda x: isinstance(x, str))
NumberAttr = AttrKind("a number", lambda x: isinstance(x, (bool, int, float, complex)))
DTypeAttr = AttrKind("an element type", lambda x: isinstance(x, DType))
DataAttr = AttrKind("constant data", lambda x: hasattr(x, "attr_text"))


def one_of(*words: str) -> AttrKind:
    return AttrKind("one of " + ", ".join(words), lambda x: x in words)


@dataclass(frozen=True)
class Onnx:
    """The ONNX op of the standard domain that means the same.

    `attrs` maps ONNX attribute names to the node's attributes where they are the same thing; where
    the mapping is more than that, the op declares `to_onnx` and `from_onnx`.
    """

    name: str
    since: int = 1
    attrs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Torch:
    """PyTorch's names of an op: `names` of functions in torch; whether methods and x.name_() exist.

    `signature` is the parameter list after `input`, where it has more than `out`.
    """

    names: tuple[str, ...]
    method: bool = True
    inplace: bool = True


def torch_name(*names: str, method: bool = True, inplace: bool = True) -> Torch:
    return Torch(names, method, inplace)


# --- samples: what the generated tests run an op on --------------------------------------------


@dataclass(frozen=True)
class Uniform:
    """Random numbers between lo and hi."""

    lo: float
    hi: float


@dataclass(frozen=True)
class Special:
    """Values that must come out right: a text of numbers, such as "inf nan -0.0"."""

    values: str

    def numbers(self) -> list[float]:
        return [float(word) for word in self.values.split()]


class Case:
    """Operand types as texts, and attributes. `index=n`: integer operands lie in [0, n)."""

    def __init__(self, *types: str, index: int | None = None, **attrs: Any) -> None:
        self.types, self.attrs, self.index = types, attrs, index

    def __repr__(self) -> str:
        attrs = "".join(f", {k}={v!r}" for k, v in self.attrs.items())
        return f"Case({', '.join(self.types)}{attrs})"
