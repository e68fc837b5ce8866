"""Compiles pointwise ops, one loop each, and calls them on numpy arrays."""

import ctypes
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.target import TARGETS, Target, runs_here
from graphc.backends.llvm.vmath import VectorEmitter, memory_element
from graphc.ir.dtype import dtype

LEVELS = [target for target in TARGETS.values() if runs_here(target)]


class Signature(NamedTuple):
    """An op on operands of some dtypes, by their names."""

    op: str
    operands: tuple[str, ...]
    result: str


def same(op: str, name: str, operands: int = 1) -> Signature:
    """The signature of an op whose operands and result share a dtype."""
    return Signature(op, (name,) * operands, name)


def _loop(
    emitter: VectorEmitter, name: str, signature: Signature, constants: Mapping[int, float]
) -> str:
    """A function that applies the op to arrays whose length is a multiple of the width.

    constants  operands, by their place, that are not loaded but stand in the text
    """
    emitter.lines.clear()
    values = []
    for k, operand in enumerate(map(dtype, signature.operands)):
        if k in constants:
            values.append(emitter.const(constants[k], operand))
            continue
        pointer, loaded = emitter.fresh(), emitter.fresh()
        kind = emitter.memory_type(operand)
        emitter.lines += [
            f"  {pointer} = getelementptr {memory_element(operand)}, ptr %x{k}, i64 %i",
            f"  {loaded} = load {kind}, ptr {pointer}, align {operand.itemsize}",
        ]
        values.append(emitter.unpack(loaded, operand))
    result = dtype(signature.result)
    stored = emitter.pack(emitter.emit(signature.op, values, result))
    pointers = ", ".join(f"ptr %x{k}" for k in range(len(values)))
    body = "\n".join(emitter.lines)
    return f"""
define void @{name}({pointers}, ptr %out, i64 %n) nounwind {{
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
{body}
  %to = getelementptr {memory_element(result)}, ptr %out, i64 %i
  store {emitter.memory_type(result)} {stored}, ptr %to, align {result.itemsize}
  %next = add i64 %i, {emitter.width}
  br label %head
end:
  ret void
}}
"""


def module_text(
    target: Target,
    signatures: Iterable[Signature],
    width: int,
    constants: Mapping[int, float] = MappingProxyType({}),
) -> tuple[str, dict[Signature, str]]:
    """A module with a loop for each signature, and their names."""
    emitter = VectorEmitter(target, width)
    names = {signature: f"op{i}" for i, signature in enumerate(signatures)}
    loops = [_loop(emitter, name, signature, constants) for signature, name in names.items()]
    text = "\n".join([*sorted(emitter.declarations), *emitter.helpers.values(), *loops])
    return text, names


class Pointwise:
    """The ops of some signatures as machine code of this process."""

    def __init__(
        self,
        target: Target,
        signatures: Iterable[Signature],
        width: int,
        constants: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        text, self._names = module_text(target, signatures, width, constants)
        self._code = jit.load(text, self._names.values(), target=target)
        self._width = width

    def __call__(self, signature: Signature, *operands: np.ndarray) -> np.ndarray:
        count = len(operands[0])
        padding = -count % self._width
        operands = tuple(
            np.concatenate([x, np.ones(padding, x.dtype)]) if padding else np.ascontiguousarray(x)
            for x in operands
        )
        for x, name in zip(operands, signature.operands, strict=True):
            assert x.dtype == dtype(name).numpy
        out = np.empty(count + padding, dtype(signature.result).numpy)
        address = self._code[self._names[signature]]
        kinds = [ctypes.c_void_p] * (len(operands) + 1) + [ctypes.c_int64]
        function = ctypes.CFUNCTYPE(None, *kinds)(address)
        function(*[x.ctypes.data for x in operands], out.ctypes.data, count + padding)
        return out[:count]
