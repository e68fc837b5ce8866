"""A model file -> `Module`: graph, weights, facts of sizes; one error for all unsupported ops."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TypeProto, defs

from graphc.ir.dims import AnyDim, Dim, Facts, parse_dim, symbol
from graphc.ir.errors import FormatError, GraphcError, UnsupportedError
from graphc.ir.graph import Module
from graphc.ir.types import TensorType

from .loader import Loader, standard_body
from .reading import MOST_AXES, element_type, parse_model
from .registry import LOADERS

OLDEST_OPSET = 6


@dataclass(frozen=True)
class ModelFile:
    """A parsed model and the folder in which files that it names may lie."""

    proto: ModelProto
    folder: Path | None
    name: str


def read_model(source: str | os.PathLike | bytes | ModelProto) -> ModelFile:
    """Parses a path, bytes or message; FormatError where it is no ONNX model."""
    if isinstance(source, ModelProto):
        return ModelFile(source, None, source.graph.name)
    if isinstance(source, bytes):
        return ModelFile(parse_model(source), None, "")
    path = Path(source)
    return ModelFile(parse_model(path.read_bytes()), path.parent, path.name)


def load_module(file: ModelFile, shapes: Mapping[str, Sequence[AnyDim]] | None = None) -> Module:
    """The module of a model: graph "main" with the inputs first, then the weights.

    `shapes` gives sizes of inputs in place of those that the model declares. UnsupportedError,
    once for all, where ops are unknown; FormatError where the file is malformed.
    """
    proto = file.proto
    _check_opset(proto)
    refuse_unsupported(proto)
    loader = Loader(proto, file.folder)
    graph = proto.graph
    with loader.block.builder:
        loader.bind_initializers(graph)
        stored = set(loader.names.items)
        for declared in graph.input:
            if declared.name not in stored:
                given = (shapes or {}).get(declared.name)
                type = _input_type(declared.name, declared.type, given)
                loader.inputs.add(declared.name)
                value = loader.block.builder.param(type, declared.name)
                loader.names.items[declared.name] = loader.item(value)
        loader.run(graph.node)
        results = [loader.value(loader.names.find(output.name)) for output in graph.output]
        main = loader.block.builder.graph(results)
    facts = {**{s: Facts() for s in _symbols(main.params)}, **loader.facts}
    return Module({"main": main}, facts, loader.weights, graph.name or file.name)


def output_names(file: ModelFile) -> list[str]:
    return [output.name for output in file.proto.graph.output]


def _symbols(params: Iterable) -> dict[str, None]:
    return {s: None for p in params for d in p.type.shape if not isinstance(d, int)
            for s in d.symbols}  # fmt: skip


def _input_type(name: str, declared: TypeProto, given: Sequence[AnyDim] | None) -> TensorType:
    """The type of an input; a size without a number becomes a symbol of its dim_param's name."""
    if not declared.HasField("tensor_type"):
        raise UnsupportedError(f"the input {name!r} is no tensor")
    tensor = declared.tensor_type
    dtype = element_type(tensor.elem_type)
    if given is not None:
        return TensorType(dtype, given)
    if not tensor.HasField("shape"):
        raise UnsupportedError(
            f"the input {name!r} has no declared shape", hint="Give its shape in `shapes`."
        )
    if len(tensor.shape.dim) > MOST_AXES:
        raise FormatError(f"the input {name!r} has {len(tensor.shape.dim)} axes")
    sizes: list[AnyDim] = []
    for axis, d in enumerate(tensor.shape.dim):
        if d.HasField("dim_value") and d.dim_value >= 0:
            sizes.append(d.dim_value)
        else:
            sizes.append(_named_size(d.dim_param or f"{name}_{axis}"))
    return TensorType(dtype, sizes)


def _named_size(text: str) -> AnyDim:
    """The size of a name: `2*n + 1` as it says, where inputs tell n; other texts as one symbol."""
    try:
        size = parse_dim(text)
    except GraphcError:
        size = 0
    if isinstance(size, Dim) and len(size.symbols) == 1:
        if all(len(monomial) <= 1 for monomial, _ in size.terms):
            return size
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return symbol(name if re.match(r"[A-Za-z_]", name) else f"d{name}")


def _check_opset(model: ModelProto) -> None:
    versions = {i.domain: i.version for i in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    if not OLDEST_OPSET <= version <= defs.onnx_opset_version():
        raise UnsupportedError(
            f"opset {version} is not supported: opsets {OLDEST_OPSET} to "
            f"{defs.onnx_opset_version()} are",
            hint="onnx.version_converter can convert the model.",
        )


def refuse_unsupported(model: ModelProto) -> None:
    """UnsupportedError that lists each op without a loader, with the nodes that use it."""
    versions = {i.domain: i.version for i in model.opset_import}
    own = {(f.domain, f.name) for f in model.functions}
    found: dict[str, list[str]] = {}
    bodies = [model.graph.node, *[f.node for f in model.functions]]
    for node in _all_nodes(bodies):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in own or _is_loaded(node, domain, versions):
            continue
        label = f"{domain}::{node.op_type}" if domain else node.op_type
        name = node.name or (node.output[0] if node.output else "")
        found.setdefault(label, []).append(name)
    if found:
        lines = [f"{label}: {_short(names)}" for label, names in sorted(found.items())]
        if len(lines) > 6:
            lines = [*lines[:5], "; ".join(lines[5:])]
        plural = "ops" if len(found) > 1 else "op"
        raise UnsupportedError(
            f"the model uses {len(found)} {plural} that graphc does not load:",
            at="\n".join(lines),
        )


def _short(names: list[str]) -> str:
    """The names of a few nodes, and how many more there are."""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(n[:60]) for n in names[:3]) + rest


def _is_loaded(node: NodeProto, domain: str, versions: Mapping[str, int]) -> bool:
    if domain:
        return False
    if node.op_type in LOADERS:
        return True
    version = versions.get("", 1)
    if standard_body(node.op_type, "", version) is not None:
        return True
    try:
        schema: Any = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError:
        return False
    return schema.has_context_dependent_function


def _all_nodes(bodies: Iterable[Iterable[NodeProto]], depth: int = 0) -> Iterable[NodeProto]:
    if depth > 40:
        raise FormatError("subgraphs are nested more than 40 deep")
    for body in bodies:
        for node in body:
            yield node
            inner: list[GraphProto] = [a.g for a in node.attribute if a.HasField("g")]
            yield from _all_nodes([graph.node for graph in inner], depth + 1)
