"""torch.func: transforms of functions. A function is recorded as a graph; the graph is transformed.

So the transforms compose in any order: vmap(grad(f)), jacfwd(jacrev(f)). A function is recorded
anew at each call; graphs of the same structure share their compiled code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .frontends import modes
from .frontends.locate import user_line
from .frontends.record import Cell, recorder
from .ir import ops
from .ir.diff import structural_hash
from .ir.errors import ShapeError, UnsupportedError
from .ir.graph import Graph
from .jit.structure import flatten, restore
from .jit.tracing import Trace, TracingRecorder, call_graph
from .passes import autodiff, batch
from .passes.clean import clean
from .tensor import Tensor, from_array, wrap

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp",
    "vmap",
]  # fmt: skip

_known: OrderedDict[Any, Graph] = OrderedDict()
_KEPT = 256


def _shared(graph: Graph) -> Graph:
    """The graph, or an earlier one of the same structure, whose code is compiled already."""
    key = structural_hash(graph)
    found = _known.setdefault(key, graph)
    _known.move_to_end(key)
    if len(_known) > _KEPT:
        _known.popitem(last=False)
    return found


class _Quiet(TracingRecorder):
    """Records a function on its real arguments: it may look at values."""

    def _look(self, cell: Cell) -> None:
        self.compute([cell])

    def _refuse_numpy(self, name: str, cells: Sequence[Cell]) -> None:
        differentiated = [self.depends_on_operands(cell, ops.detach) for cell in cells]
        if modes.grad_enabled() and any(differentiated):
            raise UnsupportedError(
                f"{name} has no derivative yet", at=user_line(),
                hint="Call it under no_grad(), or on tensor.detach().",
            )  # fmt: skip

    def _draw(self) -> None:
        """Each call records anew, so random numbers are drawn anew too."""


class _Blind(TracingRecorder):
    """Records a function on stand-ins: there are no values to look at."""

    def _look(self, cell: Cell) -> None:
        raise UnsupportedError(
            "a function under vmap, or a transform within another, looks at a value",
            hint="Use torch.where for what depends on values; .item() has none to give.",
        )

    def _refuse_numpy(self, name: str, cells: Sequence[Cell]) -> None:
        if any([self.depends_on_operands(cell) for cell in cells]):
            raise UnsupportedError(
                f"{name} is computed by numpy: under vmap, or in a transform within another, there "
                "are no values to compute it from",
                at=user_line(),
                hint="It takes batches: call it on the whole batch, outside of vmap.",
            )

    def _draw(self) -> None:
        raise UnsupportedError("a function under vmap draws random numbers")


class _Recorded:
    """A function recorded on some arguments: its graph, and what the graph is called with."""

    def __init__(self, func: Callable, args: tuple, kwargs: dict, blind: bool = False) -> None:
        self.given: list[Tensor] = []
        structure = flatten([list(args), kwargs], self.given)
        blind = blind or not recorder().eager
        stand_ins = [_zeros(t) for t in self.given] if blind else self.given
        call_args, call_kwargs = restore(structure, iter(stand_ins))
        made = Trace(func, tuple(call_args), call_kwargs, _Blind() if blind else _Quiet())
        self.graph = clean(made.graph)
        self.captured: list[Cell] = made.captured
        self.structure = made.out_structure
        self.places = _places(args)

    def cells(self) -> list[Cell]:
        return [*[t._read() for t in self.given], *self.captured]


def _zeros(like: Tensor) -> Tensor:
    return from_array(np.zeros(tuple(like.shape), like.dtype.numpy), like._type.device)


def _places(args: tuple) -> list[list[int]]:
    """For each argument the places of its tensors among all."""
    found, count = [], 0
    for arg in args:
        leaves: list[Tensor] = []
        flatten(arg, leaves)
        found.append(list(range(count, count + len(leaves))))
        count += len(leaves)
    return found


def _called(graph: Graph, cells: Sequence[Cell]) -> list[Tensor]:
    return [wrap(cell) for cell in call_graph(_shared(clean(graph)), cells)]


# --- vmap ----------------------------------------------------------------------------------------


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """`func` over a dim of its tensors: one call for all slices, stacked along out_dims.

    in_dims: a dim, or None for what all slices share; nested as the arguments are.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness}"
        )

    @wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        dims: list[int | None] = []
        _spread(in_dims if isinstance(in_dims, int) else tuple(in_dims), args, dims)
        _spread(0, kwargs, dims)
        given: list[Tensor] = []
        structure = flatten([list(args), kwargs], given)
        moved = [t if d is None else t.movedim(d, 0) for t, d in zip(given, dims, strict=True)]
        count = _count(moved, dims)
        slices = [_slice_of(t, d) for t, d in zip(moved, dims, strict=True)]
        slice_args, slice_kwargs = restore(structure, iter(slices))
        made = _Recorded(func, tuple(slice_args), slice_kwargs, blind=True)
        places = [i for i, d in enumerate(dims) if d is not None]
        graph = batch.vmap(made.graph, places, count)
        outputs = _called(graph, [*[t._read() for t in moved], *made.captured])
        return _moved_out(restore(made.structure, iter(outputs)), out_dims)

    return mapped


def _spread(dims: Any, value: Any, found: list[int | None]) -> None:
    """A dim for each tensor of a nested value; `dims` may end before the nesting does."""
    if isinstance(value, Tensor):
        if dims is not None and not isinstance(dims, int):
            raise ValueError(f"vmap: in_dims {dims} for a tensor")
        found.append(dims)
    elif isinstance(value, dict):
        for key, item in value.items():
            _spread(dims[key] if isinstance(dims, dict) else dims, item, found)
    elif isinstance(value, (list, tuple)):
        nested = isinstance(dims, (list, tuple))
        if nested and len(dims) != len(value):
            raise ValueError(
                f"vmap: in_dims is not compatible with the structure of inputs: {dims} for "
                f"{len(value)} of them"
            )
        for i, item in enumerate(value):
            _spread(dims[i] if nested else dims, item, found)


def _count(tensors: list[Tensor], dims: list[int | None]) -> int:
    sizes = {t.shape[0] for t, d in zip(tensors, dims, strict=True) if d is not None}
    if not sizes:
        raise ValueError("vmap: at least one argument must be a tensor that is mapped over")
    if len(sizes) > 1:
        raise ShapeError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sorted(sizes)} for the mapped dimension"
        )
    return sizes.pop()


def _slice_of(tensor: Tensor, dim: int | None) -> Tensor:
    shape = tuple(tensor.shape) if dim is None else tuple(tensor.shape[1:])
    return from_array(np.zeros(shape, tensor.dtype.numpy), tensor._type.device)


def _moved_out(value: Any, dims: Any) -> Any:
    if isinstance(value, Tensor):
        return value if dims == 0 else value.movedim(0, dims)
    if isinstance(value, dict):
        return {k: _moved_out(v, dims[k] if isinstance(dims, dict) else dims)
                for k, v in value.items()}  # fmt: skip
    if isinstance(value, (list, tuple)):
        parts = dims if isinstance(dims, (list, tuple)) else [dims] * len(value)
        return type(value)([_moved_out(v, d) for v, d in zip(value, parts, strict=True)])
    raise ValueError(
        f"vmap: `func` must only return Tensors, got type {type(value).__name__}. Did you mean to "
        "set out_dims= to None for output?"
    )


# --- derivatives ---------------------------------------------------------------------------------


def _wanted(made: _Recorded, argnums: Any) -> tuple[list[int], Callable[[list, tuple], Any]]:
    """The places of the tensors of the arguments argnums, and how their gradients are nested."""
    many = not isinstance(argnums, int)
    numbers = list(argnums) if many else [argnums]
    places = [i for n in numbers for i in made.places[n]]

    def nested(grads: list, args: tuple) -> Any:
        leaves = iter(grads)
        parts = [restore(flatten(args[n], []), leaves) for n in numbers]
        return tuple(parts) if many else parts[0]

    return places, nested


def grad_and_value(func, argnums=0, has_aux=False):
    """A function that gives (gradients, value), or (gradients, (value, aux))."""

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        made = _Recorded(func, args, kwargs)
        places, nested = _wanted(made, argnums)
        if not made.graph.results or made.graph.results[0].type.shape != ():
            raise RuntimeError(
                "Expected f(*args) to return a scalar tensor, got tensor with "
                f"{len(made.graph.results[0].type.shape)} dims"
                if made.graph.results
                else "Expected f(*args) to return a scalar tensor"
            )
        graph = autodiff.vjp(made.graph, places, [0])
        loss = made.graph.results[0].type
        one = from_array(np.ones((), loss.dtype.numpy), loss.device)
        outputs = _called(graph, [*made.cells(), one._read()])
        count = len(made.graph.results)
        value = restore(made.structure, iter(outputs[:count]))
        return nested(outputs[count:], args), value

    return derived


def grad(func, argnums=0, has_aux=False):
    """A function that gives the gradients of func, which returns one number (and aux)."""
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        grads, value = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return derived


def vjp(func, *primals, has_aux=False):
    """(outputs, a function from cotangents of the outputs to those of the primals)."""
    made = _Recorded(func, primals, {})
    outputs = _called(made.graph, made.cells())
    result = restore(made.structure, iter(outputs))
    main = result[0] if has_aux else result
    leaves: list[Tensor] = []
    flatten(main, leaves)
    places = [i for part in made.places for i in part]
    graph = autodiff.vjp(made.graph, places, list(range(len(leaves))))
    cells, count = made.cells(), len(made.graph.results)

    def pull(*cotangents: Any, retain_graph: Any = True, create_graph: Any = None) -> Any:
        given: list[Tensor] = []
        flatten(cotangents, given)
        for ct, out in zip(given, leaves, strict=True):
            if ct.shape != out.shape:
                raise ShapeError(f"a cotangent of {ct._type.text} for an output {out._type.text}")
        found = iter(_called(graph, [*cells, *[t._read() for t in given]])[count:])
        return tuple([restore(flatten(p, []), found) for p in primals])

    return (main, pull, result[1]) if has_aux else (main, pull)


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """(outputs, how they change along the tangents)."""
    made = _Recorded(func, tuple(primals), {})
    moved: list[Tensor] = []
    flatten(list(tangents), moved)
    if len(moved) != len(made.given):
        raise RuntimeError("jvp: primals and tangents have different structures")
    graph = autodiff.jvp(made.graph, list(range(len(made.given))))
    outputs = _called(graph, [*made.cells(), *[t._read() for t in moved]])
    count = len(made.graph.results)
    result = restore(made.structure, iter(outputs[:count]))
    floats = [v.type.dtype.kind in "fc" for v in made.graph.results]
    rates = iter(outputs[count:])
    changes = [next(rates) if f else _zeros(o) for f, o in zip(floats, outputs[:count])]
    derived = restore(made.structure, iter(changes))
    return (result[0], derived[0], result[1]) if has_aux else (result, derived)


def _basis(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """[n, *shape]: for each element the tensor that is 1 there and 0 elsewhere."""
    n = int(np.prod(shape))
    return from_array(np.eye(n, dtype=dtype.numpy).reshape((n, *shape)))


def jacrev(func, argnums=0, has_aux=False, *, chunk_size=None):
    """A function that gives the Jacobian, one backward for all elements of an output."""

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        made = _Recorded(func, args, kwargs)
        places, nested = _wanted(made, argnums)
        count = len(made.graph.results)
        result = restore(made.structure, iter(_called(made.graph, made.cells())))
        main = result[0] if has_aux else result
        outputs: list[Tensor] = []
        shape_of_result = flatten(main, outputs)
        rows = []
        for k, out in enumerate(outputs):
            graph = autodiff.vjp(made.graph, places, [k])
            basis = _basis(tuple(out.shape), out.dtype)
            mapped = batch.vmap(graph, [len(graph.params) - 1], basis.shape[0])
            found = _called(mapped, [*made.cells(), basis._read()])[count:]
            shaped = [g.reshape((*out.shape, *g.shape[1:])) for g in found]
            rows.append(nested(shaped, args))
        jacobian = rows[0] if len(rows) == 1 and shape_of_result is None else _nest(main, rows)
        return (jacobian, result[1]) if has_aux else jacobian

    return derived


def _nest(like: Any, rows: list) -> Any:
    """What was found for each output, nested as the outputs are."""
    parts = iter(rows)

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            return next(parts)
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        return type(value)([put(v) for v in value])

    return put(like)


def jacfwd(func, argnums=0, has_aux=False, *, chunk_size=None, randomness="error"):
    """A function that gives the Jacobian, one forward for all elements of an input."""

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        made = _Recorded(func, args, kwargs)
        places, nested = _wanted(made, argnums)
        result = restore(made.structure, iter(_called(made.graph, made.cells())))
        main = result[0] if has_aux else result
        outputs: list[Tensor] = []
        shape_of_result = flatten(main, outputs)
        columns = [_column(made, place, len(outputs)) for place in places]
        rows = [nested([column[k] for column in columns], args) for k in range(len(outputs))]
        jacobian = rows[0] if len(rows) == 1 and shape_of_result is None else _nest(main, rows)
        return (jacobian, result[1]) if has_aux else jacobian

    return derived


def _column(made: _Recorded, place: int, outputs: int) -> list[Tensor]:
    """d outputs / d one input, of shape (*output, *input)."""
    graph = autodiff.jvp(made.graph, [place])
    x = made.given[place]
    basis = _basis(tuple(x.shape), x.dtype)
    mapped = batch.vmap(graph, [len(graph.params) - 1], basis.shape[0])
    rates = _called(mapped, [*made.cells(), basis._read()])[len(made.graph.results) :]
    found = []
    for rate in rates[:outputs]:
        last = rate.movedim(0, -1)
        found.append(last.reshape((*last.shape[:-1], *x.shape)))
    return found


def hessian(func, argnums=0):
    """A function that gives the second derivatives: jacfwd of jacrev."""
    return jacfwd(jacrev(func, argnums), argnums)


# --- modules -------------------------------------------------------------------------------------


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *,
                    tie_weights=True, strict=False):  # fmt: skip
    """Calls a module with other tensors in the places of its parameters and buffers.

    parameter_and_buffer_dicts: name -> tensor, or several such dicts.
    """
    given = parameter_and_buffer_dicts
    tensors: dict[str, Tensor] = {}
    for part in given if isinstance(given, (list, tuple)) else (given,):
        tensors.update(part)
    own = {**dict(module.named_parameters(remove_duplicate=False)),
           **dict(module.named_buffers(remove_duplicate=False))}  # fmt: skip
    unknown, missing = tensors.keys() - own.keys(), own.keys() - tensors.keys()
    if unknown or (strict and missing):
        kind, names = ("Unexpected", unknown) if unknown else ("Missing", missing)
        raise RuntimeError(f"functional_call: {kind} key(s): {', '.join(sorted(names))}.")
    if tie_weights:
        same = {id(own[name]): tensor for name, tensor in tensors.items()}
        tensors = {name: same[id(t)] for name, t in own.items() if id(t) in same} | tensors
    call_args = () if args is None else (args if isinstance(args, tuple) else (args,))
    replaced = []
    try:
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            owner = module.get_submodule(path)
            home = owner._parameters if leaf in owner._parameters else owner._buffers
            replaced.append((home, leaf, home[leaf]))
            home[leaf] = tensor
        return module(*call_args, **(kwargs or {}))
    finally:
        for home, leaf, tensor in reversed(replaced):
            home[leaf] = tensor
