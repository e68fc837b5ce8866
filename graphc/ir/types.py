"""The closed family of types: tensors, scalars, lists, optionals and the token of effects.

Types are interned by their text: equal types are one object, so they compare by `is` and hash by
identity. Strides are no part of a type.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from .dims import AnyDim, Dim, parse_dim
from .dtype import DType, dtype
from .errors import FormatError


class Type:
    """Base of all types; `text` is what the text form prints."""

    __slots__ = ("__weakref__", "text")
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __reduce__(self) -> tuple:
        return parse_type, (self.text,)


class TensorType(Type):
    """dtype, shape (ints or symbolic dims) and device of a tensor."""

    __slots__ = ("device", "dtype", "is_static", "shape")
    dtype: DType
    shape: tuple[AnyDim, ...]
    device: str
    is_static: bool  # no symbolic dim
    _all: dict[tuple, TensorType] = {}

    def __new__(cls, dtype: DType, shape: Iterable[AnyDim] = (), device: str = "cpu") -> TensorType:
        key = (dtype, tuple(shape), device)
        found = cls._all.get(key)
        if found is None:
            for d in key[1]:
                if d.__class__ is not int and d.__class__ is not Dim:
                    raise TypeError(f"a dim is an int or a Dim, not {d!r} ({type(d).__name__})")
            found = object.__new__(cls)
            found.dtype, found.shape, found.device = key
            found.is_static = all([d.__class__ is int for d in key[1]])
            place = "" if device == "cpu" else f"@{device}"
            found.text = f"{dtype.name}[{', '.join(map(str, key[1]))}]{place}"
            found = cls._all.setdefault(key, found)
        return found

    @property
    def rank(self) -> int:
        return len(self.shape)

    def with_shape(self, shape: Iterable[AnyDim]) -> TensorType:
        return TensorType(self.dtype, shape, self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape, self.device)


class _Simple(Type):
    __slots__ = ()
    _interned: dict[str, _Simple] = {}

    @classmethod
    def _intern(cls, text: str, **fields: object) -> Any:
        found = _Simple._interned.get(text)
        if found is None:
            found = object.__new__(cls)
            found.text = text
            for key, value in fields.items():
                object.__setattr__(found, key, value)
            found = _Simple._interned.setdefault(text, found)
        return found


class ScalarType(_Simple):
    """A host number or string: int, float, bool or str."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, kind: str) -> ScalarType:
        if kind not in ("int", "float", "bool", "str"):
            raise FormatError(f"no scalar type is called {kind!r}")
        return cls._intern(kind, kind=kind)


class ListType(_Simple):
    """A host list of unknown length."""

    __slots__ = ("element",)
    element: Type

    def __new__(cls, element: Type) -> ListType:
        return cls._intern(f"List({element.text})", element=element)


class OptionalType(_Simple):
    """A value or None."""

    __slots__ = ("element",)
    element: Type

    def __new__(cls, element: Type) -> OptionalType:
        return cls._intern(f"Optional({element.text})", element=element)


class TokenType(_Simple):
    """The order of effects."""

    __slots__ = ()

    def __new__(cls) -> TokenType:
        return cls._intern("token")


TOKEN = TokenType()


@lru_cache(maxsize=65536)
def parse_type(text: str) -> Type:
    """The type of a text such as `f32[n, 64]`, `List(i64[])` or `int`; FormatError otherwise."""
    text = text.strip()
    if text == "token":
        return TOKEN
    if text in ("int", "float", "bool", "str"):
        return ScalarType(text)
    for prefix, wrap in (("List(", ListType), ("Optional(", OptionalType)):
        if text.startswith(prefix) and text.endswith(")"):
            return wrap(parse_type(text[len(prefix) : -1]))
    head, bracket, rest = text.partition("[")
    body, close, place = rest.partition("]")
    if not bracket or not close or (place and not place.startswith("@")):
        raise FormatError(f"cannot read the type {text!r}", hint="A tensor type is f32[2, 3].")
    shape = [parse_dim(part) for part in body.split(",")] if body.strip() else []
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise FormatError(f"a size is negative in the type {text!r}")
    return TensorType(dtype(head.strip()), shape, place[1:] or "cpu")
