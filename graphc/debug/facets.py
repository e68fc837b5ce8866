"""Where each facet of an op is written: file and line, or who derives it, or why there is none."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from graphc.ir.op import Op

#: In the order in which a declaration is read.
FACETS = (
    ("meaning", ("eval", "eval_node")),
    ("inference", ("result", "infer")),
    ("expansion", ("expand",)),
    ("derivative", ("partials", "linear", "pull", "no_derivative")),
    ("transpose", ("transpose", "push")),
    ("loop body", ("scalar",)),
    ("ONNX", ("onnx", "to_onnx", "no_onnx")),
    ("from ONNX", ("from_onnx",)),
    ("torch's names", ("torch",)),
    ("samples", ("samples",)),
)
_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Facet:
    """`file` is relative to the folder that holds the package; line 0: written nowhere."""

    name: str
    file: str = ""
    line: int = 0
    note: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else "-"


def facets(op: Op) -> list[Facet]:
    """All facets of an op, its declaration first."""
    cls = type(op)
    found = [Facet("declaration", *_class_line(cls), op.doc.partition("\n")[0])]
    for name, keys in FACETS:
        facet = _facet(op, name, keys)
        if facet is not None:
            found.append(facet)
    found += _backend(op)
    return found


def _facet(op: Op, name: str, keys: tuple[str, ...]) -> Facet | None:
    for cls in type(op).__mro__[:-1]:
        for key in keys:
            if (
                key in vars(cls)
                and vars(cls)[key] is not None
                and (cls is not Op or key == "infer")
            ):
                note = "" if cls is type(op) else f"by the family {cls.__name__}"
                value = getattr(op, key)
                if isinstance(value, str):
                    note = f"none: {value}"
                elif name == "ONNX" and op.onnx is not None:
                    note = f"{op.onnx.name}, since opset {op.onnx.since}"
                elif name == "torch's names" and op.torch is not None:
                    note = ", ".join(op.torch.names)
                return Facet(name, *_member_line(cls, key), note)
    return None


def _backend(op: Op) -> Iterator[Facet]:
    """What backends and passes know of the op beyond its declaration."""
    from graphc.backends.llvm.native import NATIVE_KERNELS

    yield from _vector_maths(op)
    build = NATIVE_KERNELS.get(op.name)
    if build is not None:
        yield Facet("native kernel", *_function_line(build), "LLVM IR by hand")


def _vector_maths(op: Op) -> Iterator[Facet]:
    from graphc.backends.llvm.vmath.emitter import EXPANSIONS

    expansion = EXPANSIONS.get(op.name)
    if expansion is not None:
        function = getattr(expansion, "function", expansion)
        yield Facet("vector code", *_function_line(function), "LLVM IR on vectors")


# --- lines ---------------------------------------------------------------------------------------


def _relative(file: str | Path) -> str:
    return os.path.relpath(file, _ROOT)


def _function_line(function: Callable[..., Any]) -> tuple[str, int]:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return (_relative(code.co_filename), code.co_firstlineno) if code is not None else ("", 0)


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _class_node(cls: type) -> tuple[str, ast.ClassDef] | None:
    file = inspect.getsourcefile(cls)
    if file is None:
        return None
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            return file, node
    return None


def _class_line(cls: type) -> tuple[str, int]:
    found = _class_node(cls)
    return (_relative(found[0]), found[1].lineno) if found else ("", 0)


def _member_line(cls: type, key: str) -> tuple[str, int]:
    """The line of a class body that defines the member; the class's, where a factory made it."""
    found = _class_node(cls)
    if found is None:
        return _function_line(vars(cls)[key].__func__) if _has_code(cls, key) else ("", 0)
    file, node = found
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == key:
            return _relative(file), statement.lineno
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == key for target in statement.targets
        ):
            return _relative(file), statement.lineno
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.target.id == key
        ):
            return _relative(file), statement.lineno
    return _relative(file), node.lineno


def _has_code(cls: type, key: str) -> bool:
    return hasattr(getattr(vars(cls)[key], "__func__", None), "__code__")


def _line_with(file: Path, text: str) -> int:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if text in line:
            return number
    return 0
