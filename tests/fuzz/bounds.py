"""How far a right result may lie from a float64 run of the same graph.

Each value is computed in float64 together with a bound of the error that any of graphc's ways of
running it may have: the errors of the operands carried through the op, and the op's own class.
Integers and bools are exact, with a bound of 0, or, where they hang on a float that rounding may
move across an edge (a comparison, a floor, an order), undetermined, with a bound of infinity.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ir.graph import Graph, Node
from graphc.ir.interpret import concrete
from graphc.ir.op import OPS, Pointwise
from graphc.passes.expand import expand_composites

inf = np.inf


@dataclass
class Ranged:
    """A value and its bound; `center` is float64 for floats, of the own type for the rest."""

    center: np.ndarray
    error: np.ndarray

    @property
    def is_float(self) -> bool:
        return self.center.dtype.kind in "fc"


# Units of the last place of the result: twice what one side may have, and some room.
EXACT = {
    "neg", "abs", "sign", "floor", "ceil", "round", "trunc", "max", "min", "select", "detach",
    "isnan", "rem",
}  # fmt: skip
CLASSES = {
    "rsqrt": 3, "exp": 4, "exp2": 4, "expm1": 4, "log": 4, "log2": 4, "log1p": 4, "sin": 4,
    "cos": 4, "tan": 6, "asin": 6, "acos": 6, "atan": 4, "sinh": 6, "cosh": 4, "tanh": 4,
    "asinh": 6, "acosh": 6, "atanh": 6, "erf": 4, "erfc": 8, "erfinv": 8, "lgamma": 8,
    "digamma": 8, "pow": 4, "atan2": 6,
}  # fmt: skip
NEAR_ONE = {"lgamma", "digamma"}  # near their zeros the error is that of a number near 1
MOVEMENT = {
    "reshape", "permute", "expand", "slice", "pad", "flip", "concat", "window", "copy_to",
}  # fmt: skip


def bounded_run(graph: Graph, arrays: Sequence[np.ndarray]) -> list[Ranged]:
    """The results of a graph with their bounds; sizes are those of the arrays."""
    with np.errstate(all="ignore"):
        return _run(expand_composites(graph), [exact(a) for a in arrays])


def exact(array: np.ndarray) -> Ranged:
    array = np.asarray(array)
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    center = array.astype(wide) if array.dtype.kind not in "iub" else array
    return Ranged(center, np.zeros(array.shape))


def _run(graph: Graph, arguments: Sequence[Ranged]) -> list[Ranged]:
    env = dict(zip(graph.params, arguments, strict=True))
    for node in graph.nodes:
        inputs = [env[value] for value in node.inputs]
        name = node.op.name
        rule = RULES.get(name)
        if not node.op.pure:
            continue
        if rule is not None:
            made = rule(node, *inputs)
        elif name in MOVEMENT:
            made = _moved(node, *inputs)
        elif isinstance(node.op, Pointwise):
            made = _pointwise(node, *inputs)
        else:
            raise NotImplementedError(f"no bound is known for {name}")
        for value, found in zip(node.outputs, made, strict=True):
            if not found.is_float:
                found.center = found.center.astype(value.type.dtype.numpy)
            env[value] = _within_range(found, value.type.dtype)
    return [env[value] for value in graph.results]


def unit_of(dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).eps)


def _largest(dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)


def _smallest(dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).smallest_subnormal)


def _within_range(found: Ranged, dtype) -> Ranged:
    """What may overflow in the real dtype is undetermined."""
    if dtype.kind == "f" and dtype.name != "f64":
        with np.errstate(invalid="ignore"):
            over = np.isfinite(found.center) & (
                np.abs(found.center) + found.error > _largest(dtype) * (1 - unit_of(dtype))
            )
        found.error = np.where(over, inf, found.error)
    found.error = np.where(np.isnan(found.error), inf, found.error)
    return found


def _eval(node: Node, arrays: Sequence[np.ndarray], **replaced) -> list[np.ndarray]:
    attrs = {**concrete(node.attrs, {}), **replaced}
    return [np.asarray(a) for a in node.op.eval_node(node, arrays, attrs)]


def own_error(node: Node, center: np.ndarray, ulps: float) -> np.ndarray:
    dtype = node.outputs[0].type.dtype
    size = np.abs(center)
    if node.op.name in NEAR_ONE:
        size = np.maximum(size, 1)
    return ulps * (unit_of(dtype) * np.where(np.isfinite(size), size, 0) + _smallest(dtype))


# --- pointwise -----------------------------------------------------------------------------------


def _pointwise(node: Node, *inputs: Ranged) -> list[Ranged]:
    """The largest change over the corners of the box that the operands lie in."""
    if node.outputs[0].type.dtype.kind == "c":
        return _pure_complex(node, *inputs)
    (center,) = _eval(node, [x.center for x in inputs])
    float_result = node.outputs[0].type.dtype.kind == "f"
    unsure = np.zeros(center.shape, bool)
    for x in inputs:
        unsure |= np.isinf(x.error) | ((x.error > 0) & (not x.is_float))
    moving = [i for i, x in enumerate(inputs) if x.is_float and x.error.any()]
    error, largest = np.zeros(center.shape), np.abs(center)
    for signs in itertools.product((-1, 1), repeat=len(moving)) if moving else ():
        corner = [x.center for x in inputs]
        for i, sign in zip(moving, signs, strict=True):
            step = np.where(np.isinf(inputs[i].error), 0, inputs[i].error)
            corner[i] = corner[i] + sign * step
        (found,) = _eval(node, corner)
        if float_result:
            error = np.maximum(error, _change(found, center))
            largest = np.fmax(largest, np.abs(found))
        else:
            unsure |= found != center
    if float_result:
        center = center.astype(np.float64)
        if node.op.name not in EXACT:
            error = error + own_error(node, largest, CLASSES.get(node.op.name, 2))
    return [Ranged(center, np.where(unsure, inf, error))]


def _rem(node: Node, x: Ranged, y: Ranged) -> list[Ranged]:
    """It jumps by y where the quotient passes a whole number, which may lie between corners."""
    (made,) = _pointwise(node, x, y)
    if not made.is_float:
        return [made]
    steps = (-1, 1)
    quotients = [
        np.trunc((x.center + i * x.error) / (y.center + j * y.error)) for i in steps for j in steps
    ]
    jumps = np.any([q != quotients[0] for q in quotients], axis=0)
    whole = np.maximum(made.error, np.abs(y.center) + y.error)
    return [Ranged(made.center, np.where(jumps, whole, made.error))]


def _change(found: np.ndarray, center: np.ndarray) -> np.ndarray:
    """How far apart they are; zeros of other signs the smallest step."""
    same = (found == center) | (np.isnan(found) & np.isnan(center))
    zeros = same & (found == 0) & (np.signbit(found) != np.signbit(center))
    far = np.nan_to_num(np.abs(found - center), nan=inf, posinf=inf)
    return np.where(zeros, np.nextafter(0.0, 1.0), np.where(same, 0, far))


def _compare(node: Node, x: Ranged, y: Ranged) -> list[Ranged]:
    """Undetermined where the two are nearer than their errors."""
    (center,) = _eval(node, [x.center, y.center])
    room = x.error + y.error
    if x.is_float:
        unsure = (room > 0) & ~(np.abs(x.center - y.center) > room)
        unsure &= ~(np.isnan(x.center) | np.isnan(y.center)) | np.isinf(room)
    else:
        unsure = room > 0
    return [Ranged(center, np.where(unsure, inf, 0))]


def _select(node: Node, condition: Ranged, x: Ranged, y: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [condition.center, x.center, y.center])
    error = np.where(condition.center, x.error, y.error)
    if x.is_float:
        either = _change(x.center, y.center) + x.error + y.error
    else:
        either = np.where(x.center == y.center, 0, inf)
    return [Ranged(center, np.where(condition.error > 0, either, error))]


def _nextafter(node: Node, x: Ranged, y: Ranged) -> list[Ranged]:
    return [Ranged(x.center, x.error + y.error * 0 + own_error(node, x.center, 2))]


def _cast(node: Node, x: Ranged) -> list[Ranged]:
    to, source = node.attrs["dtype"], node.inputs[0].type.dtype
    if to.kind != "f":
        return _pointwise(node, x)
    center = x.center.astype(np.float64)
    error = np.where(x.error > 0, inf, 0) if not x.is_float else x.error
    wider = source.kind == "f" and to.itemsize > source.itemsize
    widens = wider or to is source or source.itemsize == 1
    return [Ranged(center, error if widens else error + own_error(node, center, 1))]


def _complex(node: Node, x: Ranged, y: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center, y.center])
    return [Ranged(center, x.error + y.error)]


def _part(node: Node, z: Ranged) -> list[Ranged]:
    """Complex arithmetic has errors in both parts that are those of the absolute value."""
    (center,) = _eval(node, [z.center])
    return [Ranged(center, z.error)]


def _pure_complex(node: Node, x: Ranged, y: Ranged) -> list[Ranged]:
    """A product of complex numbers."""
    (center,) = _eval(node, [x.center, y.center])
    size = np.abs(x.center) * np.abs(y.center)
    more = (np.abs(x.center) + x.error) * (np.abs(y.center) + y.error)
    return [Ranged(center, more - size + 8 * unit_of(node.outputs[0].type.dtype.to_real()) * size)]


def _compact(node: Node, mask: Ranged) -> list[Ranged]:
    found = np.argwhere(mask.center)
    return [Ranged(found, np.full(found.shape, inf if mask.error.any() else 0.0))]


def _constant(node: Node) -> list[Ranged]:
    return [exact(_eval(node, [])[0].astype(node.outputs[0].type.dtype.numpy))]


# --- movement and places -------------------------------------------------------------------------


def _moved(node: Node, *inputs: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center for x in inputs])
    replaced = {"value": 0.0} if node.op.name == "pad" else {}
    (error,) = _eval(node, [x.error for x in inputs], **replaced)
    return [Ranged(center, np.array(error))]


def _gather(node: Node, x: Ranged, index: Ranged) -> list[Ranged]:
    found = _moved(node, x, Ranged(index.center, index.center))[0]
    axis = node.attrs["axis"]
    shape = [1] * axis + list(index.error.shape) + [1] * (x.center.ndim - axis - 1)
    found.error = np.where(index.error.reshape(shape) > 0, inf, found.error)
    return [found]


def _scatter(node: Node, x: Ranged, index: Ranged, updates: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center, index.center, updates.center])
    at, mode = index.center, node.attrs["mode"]
    if index.error.any():
        return [Ranged(center, np.full(center.shape, inf))]
    (count,) = _eval(node, [np.ones(x.error.shape), at, np.ones(updates.error.shape)], mode="add")
    if mode == "set" or mode in ("max", "min"):
        kept = "set" if mode == "set" else "max"
        (error,) = _eval(node, [x.error, at, updates.error], mode=kept)
    else:
        sizes = [np.abs(x.center).astype(float), np.abs(updates.center).astype(float)]
        (plain,) = _eval(node, [sizes[0], at, sizes[1]])
        (more,) = _eval(node, [sizes[0] + x.error, at, sizes[1] + updates.error])
        error = more - plain
        if x.is_float:
            error = error + own_error(node, plain, 2) * count
    if not x.is_float:
        error = np.where(error > 0, inf, 0)
    return [Ranged(center, error)]


def _dynamic(node: Node, *inputs: Ranged) -> list[Ranged]:
    tensors = 1 if node.op.name == "dynamic_slice" else 2
    starts = inputs[tensors:]
    (center,) = _eval(node, [x.center for x in inputs])
    (error,) = _eval(node, [*[x.error for x in inputs[:tensors]], *[s.center for s in starts]])
    unsure = any(s.error.any() for s in starts)
    return [Ranged(center, np.full(center.shape, inf) if unsure else np.array(error))]


# --- reductions ----------------------------------------------------------------------------------


def _reduce_sum(node: Node, x: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center])
    (error,) = _eval(node, [x.error])
    return [Ranged(center, _total(node, x, error, _eval(node, [np.abs(x.center)])[0]))]


def _total(node: Node, x: Ranged, error: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The error of a sum of numbers whose magnitudes add up to `size`."""
    if not x.is_float:
        return np.where(error > 0, inf, 0)
    terms = max(2.0, x.center.size / max(1, error.size) if error.ndim < x.center.ndim else 0.0)
    if error.ndim == x.center.ndim:
        terms = max(2.0, x.center.shape[node.attrs["axis"]] if x.center.ndim else 2.0)
    return error + own_error(node, size.astype(float), 2 * terms)


def _reduce_prod(node: Node, x: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center])
    size = np.abs(x.center).astype(float)
    (plain,), (more,) = _eval(node, [size]), _eval(node, [size + x.error])
    return [Ranged(center, _total(node, x, more - plain, plain))]


def _extreme(node: Node, x: Ranged) -> list[Ranged]:
    """Of zeros with both signs either may be the extreme."""
    (center,), axes = _eval(node, [x.center]), node.attrs["axes"]
    if not axes:
        return [Ranged(center, _unless_float(x, x.error))]
    error = _unless_float(x, np.asarray(x.error.max(axes)))
    if x.is_float:
        zeros, minus = x.center == 0, np.signbit(x.center)
        both = (zeros & minus).any(axes) & (zeros & ~minus).any(axes)
        error = np.where(both, np.maximum(error, np.finfo(np.float64).tiny), error)
    return [Ranged(center, error)]


def _unless_float(x: Ranged, error: np.ndarray) -> np.ndarray:
    return error if x.is_float else np.where(error > 0, inf, 0)


def _arg_reduce(node: Node, x: Ranged) -> list[Ranged]:
    """Undetermined where a second element comes near the extreme."""
    (center,) = _eval(node, [x.center])
    axis = node.attrs["axis"]
    return [Ranged(center, np.where(_close_calls(x, axis, node.attrs["mode"]), inf, 0))]


def _close_calls(x: Ranged, axis: int, mode: str) -> np.ndarray:
    room = 2 * x.error.max(axis)
    if not x.is_float:
        return room > 0
    ordered = np.sort(x.center, axis)
    first, second = (-1, -2) if mode == "max" else (0, 1)
    if ordered.shape[axis] < 2:
        return np.zeros(room.shape, bool)
    gap = np.abs(np.take(ordered, first, axis) - np.take(ordered, second, axis))
    return (room > 0) & ~(gap > room)


def _sort(node: Node, x: Ranged) -> list[Ranged]:
    values, places = _eval(node, [x.center])
    axis = node.attrs["axis"]
    room = x.error.max(axis, keepdims=True) if x.center.shape[axis] else x.error
    error = np.broadcast_to(room, values.shape)
    if x.is_float:
        gaps = np.diff(np.sort(x.center, axis), axis=axis)
        tight = ~(gaps > 2 * room) & (room > 0)
        unsure = np.broadcast_to(tight.any(axis, keepdims=True), values.shape)
    else:
        unsure = error > 0
    return [Ranged(values, _unless_float(x, error)), Ranged(places, np.where(unsure, inf, 0))]


def _cumulative(node: Node, x: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [x.center])
    mode = node.attrs["mode"]
    if mode in ("max", "min"):
        (error,) = _eval(node, [x.error], mode="max")
        return [Ranged(center, _unless_float(x, error))]
    size = np.abs(x.center).astype(float)
    (plain,), (more,) = _eval(node, [size]), _eval(node, [size + x.error])
    return [Ranged(center, _total(node, x, more - plain, plain))]


def _searchsorted(node: Node, boundaries: Ranged, values: Ranged) -> list[Ranged]:
    (center,) = _eval(node, [boundaries.center, values.center])
    gap = np.abs(values.center[..., None] - boundaries.center)
    room = values.error[..., None] + boundaries.error
    unsure = ((room > 0) & ~(gap > room)).any(-1)
    return [Ranged(center, np.where(unsure, inf, 0))]


def _product(node: Node, a: Ranged, b: Ranged) -> list[Ranged]:
    """dot, conv and its gradients: linear in both operands."""
    (center,) = _eval(node, [a.center, b.center])
    sizes = [np.abs(a.center).astype(float), np.abs(b.center).astype(float)]
    if not a.is_float:
        (unsure,) = _eval(node, [(a.error > 0) + 0.0, np.ones(b.error.shape)])
        (other,) = _eval(node, [np.ones(a.error.shape), (b.error > 0) + 0.0])
        return [Ranged(center, np.where(unsure + other > 0, inf, 0))]
    errors = [np.minimum(a.error, 1e300), np.minimum(b.error, 1e300)]
    (plain,) = _eval(node, sizes)
    (left,), (right,) = _eval(node, [errors[0], sizes[1]]), _eval(node, [sizes[0], errors[1]])
    (both,) = _eval(node, errors)
    terms = max(a.center.size, b.center.size) + 2.0
    error = left + right + both + own_error(node, plain, terms)
    return [Ranged(center, np.where(error > 1e290, inf, error))]


# --- control flow --------------------------------------------------------------------------------


def _unsure(values: Sequence[Ranged]) -> list[Ranged]:
    return [Ranged(v.center, np.full(v.center.shape, inf)) for v in values]


def _if(node: Node, predicate: Ranged, *operands: Ranged) -> list[Ranged]:
    if predicate.center.ndim == 0:
        made = _run(node.blocks[0 if predicate.center else 1], operands)
        return _unsure(made) if predicate.error.any() else made
    sides = [_run(block, operands) for block in node.blocks]
    found = []
    for a, b in zip(*sides, strict=True):
        spread = predicate.center.shape + (1,) * (a.center.ndim - predicate.center.ndim)
        mask, doubt = predicate.center.reshape(spread), predicate.error.reshape(spread)
        error = np.where(doubt > 0, inf, np.where(mask, a.error, b.error))
        found.append(Ranged(np.where(mask, a.center, b.center), error))
    return found


def _while(node: Node, *state: Ranged) -> list[Ranged]:
    current, sure = list(state), True
    while True:
        (going,) = _run(node.blocks[0], current)
        sure = sure and not going.error.any()
        if not going.center:
            return current if sure else _unsure(current)
        current = _run(node.blocks[1], current)


def _scan(node: Node, *operands: Ranged) -> list[Ranged]:
    n_carry, n_xs, length = (node.attrs[k] for k in ("carry", "xs", "length"))
    state, rows = list(operands[:n_carry]), operands[n_carry : n_carry + n_xs]
    fixed, stacked = operands[n_carry + n_xs :], []
    for step in range(length)[:: -1 if node.attrs["reverse"] else 1]:
        row = [Ranged(r.center[step], r.error[step]) for r in rows]
        made = _run(node.blocks[0], [*state, *row, *fixed])
        state = made[:n_carry]
        stacked.append(made[n_carry:])
    if node.attrs["reverse"]:
        stacked.reverse()
    columns = [[row[i] for row in stacked] for i in range(len(node.outputs) - n_carry)]
    return state + [
        Ranged(np.stack([v.center for v in column]), np.stack([v.error for v in column]))
        for column in columns
    ]


RULES: dict[str, Callable[..., list[Ranged]]] = {
    "eq": _compare, "lt": _compare, "le": _compare, "select": _select, "nextafter": _nextafter,
    "graft": lambda node, x, y: [x], "rem": _rem,
    "cast": _cast, "full": _constant, "const": _constant, "iota": _constant, "dim": _constant,
    "gather": _gather, "scatter": _scatter, "dynamic_slice": _dynamic, "dynamic_update": _dynamic,
    "reduce_sum": _reduce_sum, "reduce_prod": _reduce_prod, "reduce_max": _extreme,
    "reduce_min": _extreme, "arg_reduce": _arg_reduce, "sort": _sort, "topk": _sort,
    "cumulative": _cumulative,
    "searchsorted": _searchsorted, "complex": _complex, "real": _part, "imag": _part,
    "compact": _compact, "dot": _product, "conv": _product,
    "conv_grad_input": _product, "conv_grad_weight": _product, "if": _if, "while": _while,
    "scan": _scan,
}  # fmt: skip
assert set(RULES) <= set(OPS)


# --- comparison ----------------------------------------------------------------------------------


def disagreement(
    found: np.ndarray, expected: Ranged, slack: float = 1.0, floor: float = 0.0, bits: bool = True
) -> str:
    """What is wrong with a result; empty where it lies within the bound.

    The bound is taken `slack` times, floats have `floor` besides. bits: where the bound is 0, the
    signs of zeros count as well.
    """
    center = expected.center
    error = expected.error * slack + (floor if expected.is_float else 0.0)
    if found.shape != center.shape:
        return f"the shape is {found.shape}, not {center.shape}"
    sure = np.isfinite(error)
    if not expected.is_float:
        wrong = sure & (found != center)
        return _first(found, center, error, wrong)
    wide = found.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (wide == center) | (np.isnan(wide) & np.isnan(center))
        wrong = sure & ~same & ~(np.abs(wide - center) <= error)
        if bits:
            signs = np.signbit(wide) != np.signbit(center)
            wrong |= (error == 0) & (center == 0) & signs & ~np.isnan(wide)
    return _first(found, center, error, wrong)


def _first(found, center, error, wrong) -> str:
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements: at {at} it is {found[at]!r}, "
        f"not {center[at]!r} (bound {error[at]:.3g})"
    )
