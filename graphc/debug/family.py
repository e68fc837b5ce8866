"""Families of ops, as pictures colour them.

An op's family is the file that declares it: one file a family. Only `unary` and `binary`, both
pointwise, and the kinds of composites are told apart further.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.op import Op


@dataclass(frozen=True, slots=True)
class Family:
    """Colours: of the box, of its border, and the ANSI colour that comes nearest."""

    name: str
    fill: str
    stroke: str
    ansi: int


PRODUCT = Family("products", "#ffe8cc", "#e8590c", 208)
REDUCE = Family("reductions", "#d3f9d8", "#2b8a3e", 35)
POINTWISE = Family("pointwise", "#dbe9ff", "#3b6fd4", 69)
MOVEMENT = Family("movement", "#eef0f3", "#868e96", 245)
INDEX = Family("indexing", "#e9dfff", "#7048e8", 99)
NORMALIZE = Family("normalisation", "#c9f2ee", "#0c8599", 37)
CONTROL = Family("control flow", "#ffdeeb", "#c2255c", 168)
EFFECT = Family("effects", "#ffe3e3", "#c92a2a", 160)
CONSTANT = Family("constants", "#fff6d1", "#b8860b", 178)
INPUT = Family("inputs", "#ffffff", "#343a40", 250)
RESULT = Family("results", "#343a40", "#343a40", 250)

_BY_FILE = {
    "contract": PRODUCT,
    "attention": PRODUCT,
    "reduce": REDUCE,
    "unary": POINTWISE,
    "binary": POINTWISE,
    "special": POINTWISE,
    "activation": POINTWISE,
    "movement": MOVEMENT,
    "index": INDEX,
    "normalize": NORMALIZE,
    "control": CONTROL,
    "effect": EFFECT,
    "constant": CONSTANT,
}


def family_of(op: Op) -> Family:
    """The family of an op, by the file of its declaration; what reduces is a reduction."""
    file = type(op).__module__.rpartition(".")[2]
    found = _BY_FILE.get(file)
    if found is not None:
        return found
    return EFFECT if not op.pure else POINTWISE
