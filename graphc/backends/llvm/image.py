"""`Image`: all that has to be known to load and run a compiled graph, as text that a disk keeps.

Two processes make the same image of the same graph, so an image is kept under the graph's
structural hash, the options and the target. It holds no source lines: what a report or an error
wants of those is found by compiling again.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.assemble import Compiler, Options
from graphc.backends.llvm.cache import DiskCache, cache_key, compiler_stamp
from graphc.backends.llvm.emit.program import THREADS, Call, Program
from graphc.backends.llvm.target import Target
from graphc.ir.diff import structural_hash
from graphc.ir.dims import AnyDim, evaluate_dim, parse_dim
from graphc.ir.graph import Graph
from graphc.passes.fuse.plan import base_of
from graphc.passes.memory import ALIGNMENT, align

ENTRY = "run"
#: Graphs with more bytes of constants than this are compiled anew in each process.
MAX_CONSTANT_BYTES = 1 << 20

graph_cache = DiskCache("graphs")
_LOG = logging.getLogger("graphc.cache")


@dataclass(frozen=True, slots=True)
class Module:
    """One module: its text, what it exports, and the exports of earlier modules that it uses."""

    text: str
    exports: Sequence[str]
    imports: Sequence[str]


@dataclass(slots=True)
class Image:
    """modules: each after those it imports, the entry last. slots and scratches: the arena, as
    texts of sizes; quotients: symbol -> (dividend, divisor). constants: arrays of the graph.
    work: estimated nanoseconds of a call. given: (result, parameter) that may share memory."""

    modules: list[Module]
    slots: list[str]
    scratches: list[str]
    quotients: dict[str, tuple[str, int]]
    constants: list[np.ndarray]
    work: float
    given: list[tuple[int, int]]

    def arena_size(self, sizes: Mapping[str, int], threads: int) -> int:
        """Bytes of the arena, with scratch for that many threads."""
        known = {**sizes, str(THREADS): threads}

        def size(text: str) -> int:
            return evaluate_dim(_dim(text), known)

        for name, (dividend, divisor) in self.quotients.items():
            known[name] = size(dividend) // divisor
        total = sum([align(size(slot)) for slot in self.slots])
        scratch = max([size(text) for text in self.scratches], default=0)
        return total + align(scratch) * threads + ALIGNMENT


def _dim(text: str) -> AnyDim:
    return int(text) if text.isdigit() else parse_dim(text)


def image_of(compiler: Compiler) -> Image:
    """The image of a finished compile."""
    program = compiler.program
    modules: dict[str, Module] = {}
    _collect(program, compiler.entry_text, modules)
    calls = [call for region in program.regions for call in region]
    return Image(
        list(modules.values()),
        [str(slot) for slot in program.arena.slots],
        list(dict.fromkeys([str(call.scratch) for call in calls])),
        {name: (str(a), b) for name, (a, b) in program.quotients.items()},
        compiler.constants,
        sum([call.work for call in calls]),
        _given(compiler),
    )


def _given(compiler: Compiler) -> list[tuple[int, int]]:
    """By position, where a result of the entry may be written over a parameter."""
    results = [base_of(value) for value in compiler.graph.results[: len(compiler.source.results)]]
    params = compiler.graph.params
    return [(results.index(a), params.index(b)) for a, b in compiler.given.items()]


def _collect(program: Program, entry: str, modules: dict[str, Module]) -> None:
    """The modules of a program and of the blocks that its kernels call, in order."""
    imports: dict[str, None] = {}
    for region in program.regions:
        for call in region:
            if call.name not in modules:
                for block in call.blocks:
                    if block.name not in modules:
                        _collect(block, block.entry(), modules)
                modules[call.name] = _module(call)
            imports.update(dict.fromkeys(call.exports))
    modules[program.name] = Module(entry, [program.name], list(imports))


def _module(call: Call) -> Module:
    return Module(call.module, call.exports, [block.name for block in call.blocks])


# --- machine code --------------------------------------------------------------------------------

_loaded: WeakValueDictionary[tuple[str, str], jit.Code] = WeakValueDictionary()


def load_image(image: Image, target: Target) -> jit.Code:
    """The code of the entry. Each distinct kernel is compiled once, and loaded once a process."""
    found: dict[str, jit.Code] = {}
    for module in image.modules:
        name = module.exports[0]
        imports = {used: found[used] for used in module.imports}
        if name == ENTRY:
            return jit.load(module.text, module.exports, imports, target)
        key = (name, target.fingerprint)
        code = _loaded.get(key)
        if code is None:
            code = _loaded[key] = jit.load(module.text, module.exports, imports, target)
        found.update(dict.fromkeys(module.exports, code))
    raise AssertionError("an image ends with its entry")


# --- the disk ------------------------------------------------------------------------------------


def image_key(graph: Graph, options: Options) -> str:
    """The key of a graph's image.

    The structural hash is blind to unused parameters and to the order of independent nodes, which
    the table of the entry and the numbers of checks are not.
    """
    dims = [(name, facts.lo, facts.hi, facts.hint) for name, facts in sorted(options.dims.items())]
    rest: tuple[object, ...] = (options.exact, options.apart, options.fork, dims)
    if options.tune is not None:
        rest += (sorted(options.tune.items()), options.threads)
    params = "; ".join([param.type.text for param in graph.params])
    order = " ".join([node.op.name for node in graph.nodes])
    target = options.target.fingerprint
    return cache_key(
        "graph", compiler_stamp(), structural_hash(graph), params, order, repr(rest), target
    )


def find_image(key: str) -> Image | None:
    """The image that was kept under the key, in this process or another."""
    found = graph_cache.get(key)
    if found is None:
        return None
    try:
        fields: dict[str, Any] = json.loads(found)
        fields["modules"] = [Module(**module) for module in fields["modules"]]
        fields["constants"] = [_array(*constant) for constant in fields["constants"]]
        return Image(**fields)
    except (ValueError, TypeError, KeyError) as error:
        _LOG.warning("the compiled graph %s is damaged; it will be made again: %s", key, error)
        return None


def keep_image(key: str, image: Image) -> None:
    """Keeps an image, unless its constants are large."""
    if sum([array.nbytes for array in image.constants]) > MAX_CONSTANT_BYTES:
        return
    fields = {name: getattr(image, name) for name in Image.__dataclass_fields__}
    fields["modules"] = [asdict(module) for module in image.modules]
    fields["constants"] = [
        (array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode())
        for array in image.constants
    ]
    graph_cache.put(key, json.dumps(fields).encode())


def _array(dtype: str, shape: Sequence[int], body: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(body), np.dtype(dtype)).reshape(shape)
