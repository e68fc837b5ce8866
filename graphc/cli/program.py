"""What a command works on: a function or module of a file, or a model file, as a graph.

net.py:Net           a torch-style module (made without arguments), or an object of the file
net.py:step          a function
model.onnx           an ONNX model
model.gcx            a compiled artifact
model.gir            the text of a module or graph
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphc.ir.errors import FormatError, GraphcError

from .errors import CommandError, Misuse

if TYPE_CHECKING:
    from graphc.ir.graph import Graph, Module
    from graphc.ir.types import TensorType

ENDINGS = (".onnx", ".gcx", ".gir")
TARGET_HELP = "file.py:name (a function or module), or a file .onnx, .gcx, .gir"
INPUT_HELP = (
    "an input, by type, such as f32[1,3,224,224], or a .npy file; once for each input in order"
)


@dataclass(slots=True)
class Program:
    """A graph with what belongs to it.

    weights: arrays by name of parameter (a .gir has none). traced: the object that graphc.jit
    gave, where there is one. sources: the text of the user's files, by base name.
    """

    name: str
    graph: Graph
    module: Module
    weights: dict[str, Any] = field(default_factory=dict)
    traced: Any = None
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def weight_names(self) -> set[str]:
        """Parameters that are weights: those with arrays, else those named as a module's are."""
        if self.weights:
            return set(self.weights)
        return {param.name for param in self.graph.params if "." in param.name}

    @property
    def inputs(self) -> list[Any]:
        """The parameters that are given at a call."""
        return [param for param in self.graph.params if param.name not in self.weights]


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    parser.add_argument(
        "--input", action="append", default=[], metavar="TYPE", dest="inputs", help=INPUT_HELP
    )
    parser.add_argument(
        "--graph",
        metavar="NAME",
        help="which graph of a module (default: forward, main, the first)",
    )


def load(target: str, inputs: Sequence[str], graph: str | None = None) -> Program:
    """Loads what a command line names. Raises Misuse, CommandError, or what the file raises."""
    path, ending = Path(target), Path(target).suffix
    if ending in ENDINGS:
        if not path.is_file():
            raise CommandError(f"{target}: no such file")
        loader = {".gir": load_gir, ".gcx": load_gcx, ".onnx": load_onnx}[ending]
        return loader(path, graph)
    file, colon, name = target.rpartition(":")
    if colon and file.endswith(".py"):
        return load_python(Path(file), name, inputs)
    if ending == ".py":
        names = _names_in(path) if path.is_file() else []
        hint = f"It has {', '.join(names[:8])}." if names else ""
        raise Misuse(f"{target} needs a name: {target}:NAME", hint=hint)
    raise Misuse(f"cannot tell what {target!r} is", hint=f"TARGET is {TARGET_HELP}.")


# --- files ---------------------------------------------------------------------------------------


def load_gir(path: Path, graph: str | None = None) -> Program:
    """A module or graph in its text form, verified."""
    from graphc.ir import composite, ops  # noqa: F401  (declare what a text may name)
    from graphc.ir.graph import Module
    from graphc.ir.text import parse
    from graphc.ir.verify import verify

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{path.name}: this is no text") from None
    try:
        found = parse(text)
        verify(found)
    except GraphcError as error:
        error.message = f"{path.name}: {error.message}"
        raise
    except RecursionError:
        raise FormatError(f"{path.name}: blocks are nested too deeply") from None
    module = found if isinstance(found, Module) else Module({"main": found}, name=path.stem)
    return _program(path.stem, module, graph)


def load_gcx(path: Path, graph: str | None = None) -> Program:
    import graphc

    return of_traced(graphc.jit.load(str(path)), path.stem, graph)


def load_onnx(path: Path, graph: str | None = None) -> Program:
    """An ONNX model, its weights bound."""
    from graphc.frontends.locate import reading
    from graphc.frontends.onnx_load import load_module, read_model

    with reading(path):
        return _program(path.stem, load_module(read_model(path)), graph)


def of_traced(traced: Any, name: str, graph: str | None = None) -> Program:
    return _program(name, traced.module, graph, traced)


def _program(name: str, module: Module, graph: str | None, traced: Any = None) -> Program:
    chosen = _choose(module, graph)
    made = Program(name, module.graphs[chosen], module, dict(module.weights), traced)
    made.sources = find_sources(made.graph)
    return made


def _choose(module: Module, graph: str | None) -> str:
    names = list(module.graphs)
    if graph is not None:
        if graph not in names:
            raise Misuse(f"no graph {graph!r}", hint=f"There are {', '.join(names)}.")
        return graph
    if not names:
        raise CommandError("the module has no graph")
    return next((name for name in ("forward", "main") if name in names), names[0])


# --- Python --------------------------------------------------------------------------------------


def load_python(path: Path, name: str, inputs: Sequence[str]) -> Program:
    """Traces a function or module of a file, on example inputs of the types given."""
    import graphc

    module = import_file(path)
    value = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise CommandError(
                f"{path} has no {name!r}", hint=f"It has {', '.join(_public(module)[:8])}."
            ) from None
    value = _callable(value, f"{path.name}:{name}")
    if not inputs:
        raise Misuse(
            f"{path.name}:{name} needs the types of its inputs",
            hint="For instance: --input f32[1,3,224,224]",
        )
    _require_sizes(inputs)
    examples = tuple([graphc.from_numpy(array) for array in example_arrays(inputs)])
    if isinstance(value, graphc.nn.Module):
        value.eval()
    traced = graphc.jit.trace(value, examples)
    return of_traced(traced, name)


def _require_sizes(inputs: Sequence[str]) -> None:
    """Raises Misuse for a size by name: a trace would hold the example's in its place."""
    for text in inputs:
        if text.endswith(".npy"):
            continue
        named = [dim for dim in input_type(text).shape if not isinstance(dim, int)]
        if named:
            raise Misuse(
                f"the input {text} has no size for {named[0]}",
                hint="A Python program is traced with sizes that are numbers.",
            )


def _callable(value: Any, what: str) -> Callable[..., Any]:
    import graphc

    if isinstance(value, type) and issubclass(value, graphc.nn.Module):
        import inspect

        parameters = inspect.signature(value).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
        if needed:
            raise CommandError(
                f"{what} cannot be made without arguments: it needs {', '.join(needed)}",
                hint="Make one in the file (net = Net(64)) and name that.",
            )
        return value()
    if not callable(value):
        raise CommandError(f"{what} is no function or module: {type(value).__name__}")
    return value


def import_file(path: Path) -> ModuleType:
    """The file as a module; `import torch` in it means graphc."""
    import importlib.util

    import graphc

    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    graphc.as_torch()
    name = path.stem if path.stem.isidentifier() else "graphc_target"
    if name in sys.modules:
        name = f"{name}_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _public(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def _names_in(path: Path) -> list[str]:
    """The functions and classes of a file, without running it."""
    import ast

    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds)]


# --- inputs --------------------------------------------------------------------------------------


def example_arrays(inputs: Sequence[str]) -> list[Any]:
    """Arrays for inputs given as types or files: normal floats, small integers, from one seed."""
    import numpy as np

    stream = np.random.default_rng(0)
    return [_example(text, stream) for text in inputs]


def _example(text: str, stream: Any) -> Any:
    import numpy as np

    if text.endswith(".npy"):
        try:
            return np.load(text, allow_pickle=False)
        except ValueError as error:
            raise CommandError(f"{text}: not an array that numpy can read ({error})") from None
    return array_of(input_type(text), stream)


def input_type(text: str) -> TensorType:
    """The type that `f32[1,3,224,224]` names."""
    from graphc.ir.types import TensorType, parse_type

    if "[" not in text:
        text += "[]"
    try:
        found = parse_type(text)
    except (GraphcError, ValueError, KeyError) as error:
        raise Misuse(
            f"cannot read the input {text!r}: {str(error).splitlines()[0]}",
            hint="A type looks like f32[1,3,224,224] or i64[8].",
        ) from None
    if not isinstance(found, TensorType):
        raise Misuse(f"the input {text!r} is no tensor")
    return found


def array_of(type: TensorType, stream: Any, sizes: int = 8) -> Any:
    """An array of that type; symbolic dims get `sizes`."""
    shape = [d if isinstance(d, int) else sizes for d in type.shape]
    kind = type.dtype.kind
    if kind == "b":
        return stream.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        return stream.integers(0, 2, shape).astype(type.dtype.numpy)
    made = stream.standard_normal(shape)
    if kind == "c":
        made = made + 1j * stream.standard_normal(shape)
    return made.astype(type.dtype.numpy)


# --- sources -------------------------------------------------------------------------------------


def find_sources(graph: Graph) -> dict[str, str]:
    """The text of the files that the graph's lines name, where this process has imported them."""
    from graphc.debug.html import source_lines

    wanted = {line.rpartition(":")[0] for node in graph.nodes for line in source_lines(node.loc)}
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or os.path.basename(file) not in wanted or file.startswith(package):
            continue
        try:
            found[os.path.basename(file)] = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a file that is gone is not shown
    return dict(sorted(found.items()))
