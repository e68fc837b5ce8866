"""The .gcx artifact: a zip of the module's text, its weights, and a manifest.

Loading runs no code from the file: the text is parsed and verified, weights are plain arrays.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from graphc.frontends.locate import reading
from graphc.ir.dtype import dtype as dtype_of
from graphc.ir.errors import FormatError, GraphcError
from graphc.ir.graph import Graph, Module
from graphc.ir.text import parse, print_module
from graphc.ir.verify import verify

from .tracing import TracedModule

FORMAT = 1
_LARGEST = 1 << 40


def save(m: TracedModule, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
    """Writes a traced module to a .gcx file or file object."""
    if not isinstance(m, TracedModule):
        raise TypeError(f"jit.save takes a traced module, not a {type(m).__name__}")
    from graphc import __version__

    weights = {}
    with zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as archive:
        for i, (name, tensor) in enumerate(m.weights.items()):
            array = tensor._array()
            weights[name] = {
                "file": f"weights/{i}", "dtype": tensor.dtype.name, "shape": list(array.shape),
                "trains": tensor.requires_grad,
            }  # fmt: skip
            archive.writestr(f"weights/{i}", array.tobytes())
        manifest = {
            "format": FORMAT, "graphc": __version__, "name": m.name, "weights": weights,
            "inputs": m.in_structure, "outputs": m.out_structure, "updates": m.updates,
        }  # fmt: skip
        text = print_module(Module({"forward": m.run_graph}, {}, name=_plain(m.name)))
        archive.writestr("module.gir", text)
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))
        for name, data in (_extra_files or {}).items():
            archive.writestr(f"extra/{name}", data)


def _plain(name: str) -> str:
    return name.replace('"', "").replace("\n", " ")


def load(f: Any, map_location: Any = None, _extra_files: dict[str, Any] | None = None,
         _restore_shapes: bool = False) -> TracedModule:  # fmt: skip
    """Reads a .gcx file; FormatError where it is malformed."""
    with reading(f):
        return _load(f, _extra_files)


def _load(f: Any, extra_files: dict[str, Any] | None) -> TracedModule:
    try:
        with zipfile.ZipFile(f) as archive:
            manifest = json.loads(_member(archive, "manifest.json"))
            text = _member(archive, "module.gir").decode("utf-8")
            graph = _graph(text)
            weights = _weights(archive, manifest, graph)
            for name in extra_files or {}:
                extra_files[name] = _member(archive, f"extra/{name}")  # type: ignore[index]
            return TracedModule(
                graph, weights, manifest["inputs"], manifest["outputs"], str(manifest["name"]),
                _updates(manifest, graph),
            )  # fmt: skip
    except GraphcError:
        raise
    except OSError:
        raise
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, EOFError,
            NotImplementedError, RuntimeError, RecursionError, MemoryError) as error:  # fmt: skip
        raise FormatError(
            f"not a .gcx file, or a damaged one: {str(error)[:200] or type(error).__name__}",
            hint="jit.save writes such files.",
        ) from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "bz2"):
            raise FormatError(f"the .gcx file is damaged: {error}") from None
        raise


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise FormatError(f"the .gcx file's {name} is compressed: such files are not read")
    return archive.read(info)


def _graph(text: str) -> Graph:
    module = parse(text)
    if not isinstance(module, Module) or list(module.graphs) != ["forward"]:
        raise FormatError("the .gcx file's module must hold one graph, @forward")
    verify(module)
    return module.graphs["forward"]


def _updates(manifest: Any, graph: Graph) -> list[int]:
    """The operands that the last results are written to."""
    updates = manifest["updates"]
    outputs = len(graph.results) - len(updates)
    if outputs < 0:
        raise FormatError(f"the .gcx file has {len(updates)} updates for fewer results")
    for place, value in zip(updates, graph.results[outputs:]):
        if type(place) is not int or not 0 <= place < len(graph.params):
            raise FormatError(f"the .gcx file updates the operand {place!r:.20}")
        if graph.params[place].type is not value.type:
            raise FormatError(f"the .gcx file updates operand {place} with {value.type.text}")
    return updates


def _weights(archive: zipfile.ZipFile, manifest: Any, graph: Graph) -> dict[str, Any]:
    from graphc.tensor import from_array

    found = {}
    if manifest.get("format") != FORMAT:
        raise FormatError(f"the .gcx file has format {manifest.get('format')}, not {FORMAT}")
    params = graph.params[len(graph.params) - len(manifest["weights"]) :]
    for param, (name, entry) in zip(params, manifest["weights"].items(), strict=True):
        dtype, shape = dtype_of(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        data = _member(archive, entry["file"])
        count = 1
        for n in shape:
            if n < 0 or count > _LARGEST:
                raise FormatError(f"the weight {name} has the shape {list(shape)}")
            count *= n
        if len(data) != count * dtype.itemsize:
            raise FormatError(f"the weight {name} holds {len(data)} bytes, not {count} elements")
        array = np.frombuffer(io.BytesIO(data).read(), dtype.numpy).reshape(shape)
        tensor = from_array(array)
        if tensor._type is not param.type:
            raise FormatError(f"the weight {name} is {tensor._type.text}, not {param.type.text}")
        if entry.get("trains"):
            tensor.requires_grad_(True)
        found[str(name)] = tensor
    return found
