"""What each op means, written down a second time: by the `math` module element by element, by
scipy, by loops, by numpy functions other than the op's own."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import scipy.signal
import scipy.special

from graphc.ir.composite.winograd import INPUT, KERNEL, OUTPUT


def by_element(function: Callable) -> Callable:
    """`function` of Python numbers over arrays; nan outside of its domain, inf on overflow."""

    def safe(*numbers):
        try:
            return function(*numbers)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return lambda *arrays: np.vectorize(safe, otypes=[object])(*[a.astype(object) for a in arrays])


def wrapped(function: Callable) -> Callable:
    """`function` of Python integers, its result taken modulo the type's range."""

    def apply(*arrays):
        info = np.iinfo(arrays[0].dtype)
        size = 1 << info.bits
        exact = np.vectorize(function, otypes=[object])(*[a.astype(object) for a in arrays])
        return ((exact - int(info.min)) % size + int(info.min)).astype(arrays[0].dtype)

    return apply


def truncated(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def power(x: int, y: int) -> int:
    if y < 0:
        return 0 if abs(x) != 1 else (1 if y % 2 == 0 else x)
    return pow(x, y, 1 << 64) if x >= 0 else (-1) ** (y % 2) * pow(-x, y, 1 << 64)


def shifted_left(width: int) -> Callable:
    return lambda x, y: x << y if 0 <= y < width else 0


def shifted_right(width: int) -> Callable:
    return lambda x, y: x >> y if 0 <= y < width else (-1 if x < 0 else 0)


# Of floats: compared with a float64 evaluation, on the samples' random numbers.
FLOAT = {
    "neg": lambda x: 0 - x,
    "abs": by_element(math.fabs),
    "sign": by_element(lambda x: (x > 0) - (x < 0)),
    "floor": by_element(math.floor),
    "ceil": by_element(math.ceil),
    "round": by_element(round),
    "trunc": by_element(math.trunc),
    "sqrt": by_element(math.sqrt),
    "rsqrt": by_element(lambda x: 1 / math.sqrt(x)),
    "exp": by_element(math.exp),
    "exp2": by_element(lambda x: 2.0**x),
    "expm1": by_element(math.expm1),
    "log": by_element(math.log),
    "log2": by_element(math.log2),
    "log1p": by_element(math.log1p),
    "sin": by_element(math.sin),
    "cos": by_element(math.cos),
    "tan": by_element(math.tan),
    "asin": by_element(math.asin),
    "acos": by_element(math.acos),
    "atan": by_element(math.atan),
    "sinh": by_element(math.sinh),
    "cosh": by_element(math.cosh),
    "tanh": by_element(math.tanh),
    "asinh": by_element(math.asinh),
    "acosh": by_element(math.acosh),
    "atanh": by_element(math.atanh),
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erfinv": scipy.special.erfinv,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma,
    "isnan": by_element(math.isnan),
    "detach": lambda x: x,
    "graft": lambda x, y: x,
    "add": by_element(lambda x, y: x + y),
    "sub": by_element(lambda x, y: x - y),
    "mul": by_element(lambda x, y: x * y),
    "div": by_element(lambda x, y: x / y),
    "rem": by_element(math.fmod),
    "pow": by_element(math.pow),
    "max": by_element(max),
    "min": by_element(min),
    "atan2": by_element(math.atan2),
    "nextafter": by_element(math.nextafter),
    "eq": by_element(lambda x, y: x == y),
    "lt": by_element(lambda x, y: x < y),
    "le": by_element(lambda x, y: x <= y),
    "complex": by_element(complex),
    "select": by_element(lambda c, x, y: x if c else y),
    "fma": by_element(lambda x, y, z: x * y + z),
    "relu": by_element(lambda x: max(x, 0.0)),
    "sigmoid": scipy.special.expit,
    "log_sigmoid": scipy.special.log_expit,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "tanhshrink": lambda x: x - np.tanh(x),
    "silu": lambda x: x * scipy.special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
}

COMPLEX = {
    "neg": lambda x: 0 - x,
    "sqrt": np.emath.sqrt,
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "exp": lambda x: np.exp(x.real) * (np.cos(x.imag) + 1j * np.sin(x.imag)),
    "log": lambda x: np.log(np.abs(x)) + 1j * np.angle(x),
    "sin": lambda x: (np.exp(1j * x) - np.exp(-1j * x)) / 2j,
    "cos": lambda x: (np.exp(1j * x) + np.exp(-1j * x)) / 2,
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "add": by_element(lambda x, y: x + y),
    "sub": by_element(lambda x, y: x - y),
    "mul": by_element(lambda x, y: x * y),
    "div": by_element(lambda x, y: x / y),
    "eq": by_element(lambda x, y: x == y),
    "select": by_element(lambda c, x, y: x if c else y),
    "detach": lambda x: x,
    "graft": lambda x, y: x,
}

# Of integers and bools: equal, limits included.
INTEGER = {
    "neg": wrapped(lambda x: -x),
    "abs": wrapped(abs),
    "sign": wrapped(lambda x: (x > 0) - (x < 0)),
    "add": wrapped(lambda x, y: x + y),
    "sub": wrapped(lambda x, y: x - y),
    "mul": wrapped(lambda x, y: x * y),
    "quo": wrapped(truncated),
    "rem": wrapped(lambda x, y: x - y * truncated(x, y)),
    "pow": wrapped(power),
    "max": by_element(max),
    "min": by_element(min),
    "not": lambda x: ~x,
    "popcount": lambda x: np.vectorize(lambda n: bin(n & (2 ** (8 * x.itemsize) - 1)).count("1"))(
        x.astype(object)
    ),
    "and": by_element(lambda x, y: x & y),
    "or": by_element(lambda x, y: x | y),
    "xor": by_element(lambda x, y: x ^ y),
    "shl": lambda x, y: wrapped(shifted_left(8 * x.itemsize))(x, y),
    "shr": lambda x, y: wrapped(shifted_right(8 * x.itemsize))(x, y),
    "eq": by_element(lambda x, y: x == y),
    "lt": by_element(lambda x, y: x < y),
    "le": by_element(lambda x, y: x <= y),
    "select": by_element(lambda c, x, y: x if c else y),
    "detach": lambda x: x,
    "graft": lambda x, y: x,
    "relu": by_element(lambda x: max(x, 0)),
}


# --- structural ----------------------------------------------------------------------------------


def _moved(shape: tuple, at: Callable) -> Callable:
    """An array of `shape` whose element at each index is `at(index)`."""
    return lambda: np.array([at(i) for i in np.ndindex(*shape)]).reshape(shape)


def _window(x, sizes, strides, dilations):
    k, lead = len(sizes), x.ndim - len(sizes)
    outer = [
        (n - (s - 1) * d - 1) // t + 1
        for n, s, t, d in zip(x.shape[lead:], sizes, strides, dilations, strict=True)
    ]
    shape = (*x.shape[:lead], *outer, *sizes)

    def at(i):
        inner = [i[lead + a] * strides[a] + i[lead + k + a] * dilations[a] for a in range(k)]
        return x[(*i[:lead], *inner)]

    return _moved(shape, at)()


def _scatter(x, index, updates, axis, mode):
    combine = {
        "set": lambda a, b: b, "add": lambda a, b: a + b, "mul": lambda a, b: a * b,
        "max": max, "min": min,
    }[mode]  # fmt: skip
    out = x.copy()
    for i in np.ndindex(*updates.shape):
        place = index[i[axis : axis + index.ndim]]
        into = (*i[:axis], int(place), *i[axis + index.ndim :])
        out[into] = combine(out[into], updates[i])
    return out


def _cumulative(x, axis, mode, reverse):
    combine = {"sum": lambda a, b: a + b, "prod": lambda a, b: a * b, "max": max, "min": min}[mode]
    rows = np.moveaxis(x, axis, -1)
    lines = [
        list(itertools.accumulate(row[::-1] if reverse else row, combine))
        for row in rows.reshape(-1, rows.shape[-1])
    ]
    lines = [line[::-1] if reverse else line for line in lines]
    return np.moveaxis(np.array(lines).reshape(rows.shape), -1, axis)


def _conv(x, w, stride, padding, dilation, groups):
    wide = np.pad(x, [(0, 0), (0, 0), *padding])
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    spread = np.zeros((*w.shape[:2], *spans), w.dtype)
    spread[(slice(None), slice(None), *[slice(None, None, d) for d in dilation])] = w
    per_in, per_out = w.shape[1], w.shape[0] // groups
    planes = []
    for n, o in np.ndindex(x.shape[0], w.shape[0]):
        first = o // per_out * per_in
        plane = sum(
            scipy.signal.correlate(wide[n, first + c], spread[o, c], "valid", "direct")
            for c in range(per_in)
        )
        planes.append(plane[tuple(slice(None, None, s) for s in stride)])
    return np.array(planes).reshape(x.shape[0], w.shape[0], *planes[0].shape)


def _adjoint(forward: Callable, shape: tuple, ct: np.ndarray) -> np.ndarray:
    """The transpose of a linear function, column by column."""
    columns = []
    for i in range(math.prod(shape)):
        unit = np.zeros(math.prod(shape))
        unit[i] = 1
        columns.append(float((forward(unit.reshape(shape)) * ct).sum()))
    return np.array(columns).reshape(shape)


def _conv_grad_input(ct, w, size, groups, **attrs):
    shape = (ct.shape[0], w.shape[1] * groups, *size)
    return _adjoint(lambda x: _conv(x, w, groups=groups, **attrs), shape, ct)


def _conv_grad_weight(ct, x, size, groups, **attrs):
    shape = (ct.shape[1], x.shape[1] // groups, *size)
    return _adjoint(lambda w: _conv(x, w, groups=groups, **attrs), shape, ct)


def _conv_last(x, w, outputs, groups, **attrs):
    """`w` [panel, *kernel, c, width], unpacked element by element of its panels."""
    each = []
    for panels in np.split(w, groups):
        plain = np.concatenate([np.moveaxis(panel, (-1, -2), (0, 1)) for panel in panels])
        each.append(plain[: outputs // groups])
    made = _conv(np.moveaxis(x, -1, 1), np.concatenate(each), groups=groups, **attrs)
    return np.moveaxis(made, 1, -1)


def _conv_groups_last(x, w, **attrs):
    kernel = np.concatenate([np.moveaxis(panel, -1, 0) for panel in w])
    return np.moveaxis(_conv(np.moveaxis(x, -1, 1), kernel, **attrs), 1, -1)


def _conv_grad_input_last(ct, w, outputs, kernel, order, size, groups, **attrs):
    kernels, inner, each = [], w.shape[2], outputs // groups
    for panels in np.split(w, groups):
        plain = np.empty((inner, panels.shape[0] * w.shape[-1], int(np.prod(kernel))), w.dtype)
        for panel, tap, width in np.ndindex(panels.shape[0], w.shape[1], w.shape[3]):
            plain[:, panel * w.shape[3] + width, order[tap]] = panels[panel, tap, :, width]
        kernels.append(plain[:, :each].reshape(inner, each, *kernel))
    turned = np.moveaxis(ct, -1, 1)
    made = _conv_grad_input(turned, np.concatenate(kernels), size, groups=groups, **attrs)
    return np.moveaxis(made, 1, -1)


def _conv_depthwise_last(x, w, **attrs):
    kernel = np.expand_dims(np.moveaxis(w, -1, 0), 1)
    made = _conv(np.moveaxis(x, -1, 1), kernel, groups=x.shape[-1], **attrs)
    return np.moveaxis(made, 1, -1)


def _winograd_weight(w, width, back):
    w = np.flip(w.swapaxes(0, 1), (2, 3)) if back else w
    made = np.einsum("ik,ockl,jl->ocij", KERNEL, w, KERNEL)
    count = -(-len(w) // width)
    wide = np.zeros((count * width, *made.shape[1:]), w.dtype)
    wide[: len(w)] = made
    return np.stack([np.moveaxis(part, (0, 1), (-1, -2)) for part in np.split(wide, count)])


def _conv_winograd(x, u, outputs, padding):
    """Tile by tile, for any u: most are no transforms of kernels."""
    n, (h, w) = len(x), [m + sum(p) - 2 for m, p in zip(x.shape[1:3], padding)]
    wide = np.pad(x, ((0, 0), *[(a, b + 4) for a, b in padding], (0, 0)))
    kernels = np.concatenate([np.moveaxis(panel, (-1, -2), (0, 1)) for panel in u])[:outputs]
    out = np.zeros((n, h + 3, w + 3, outputs), x.dtype)
    for i in range(0, h, 4):
        for j in range(0, w, 4):
            patch = wide[:, i : i + 6, j : j + 6]
            patch = np.einsum("ai,bj,nijc->nabc", INPUT, INPUT, patch)
            sums = np.einsum("nabc,ocab->nabo", patch, kernels)
            out[:, i : i + 4, j : j + 4] = np.einsum("ia,jb,nabo->nijo", OUTPUT, OUTPUT, sums)[
                :, : h + 3 - i, : w + 3 - j
            ]
    return out[:, :h, :w]


def _dot(a, b, contract, batch):
    names_a = ["abcdefgh"[i] for i in range(a.ndim)]
    names_b = ["stuvwxyz"[i] for i in range(b.ndim)]
    for i, j in [*zip(*contract, strict=True), *zip(*batch, strict=True)]:
        names_b[j] = names_a[i]
    left = [n for i, n in enumerate(names_a) if i not in (*contract[0], *batch[0])]
    right = [n for i, n in enumerate(names_b) if i not in (*contract[1], *batch[1])]
    out = [names_a[i] for i in batch[0]] + left + right
    return np.einsum(f"{''.join(names_a)},{''.join(names_b)}->{''.join(out)}", a, b)


def _clamped(starts, shape, sizes):
    return [min(max(int(s), 0), n - m) for s, n, m in zip(starts, shape, sizes, strict=True)]


def _dynamic_slice(x, *starts, sizes):
    at = _clamped(starts, x.shape, sizes)
    return _moved(sizes, lambda i: x[tuple(a + k for a, k in zip(at, i, strict=True))])()


def _dynamic_update(x, update, *starts):
    out, at = x.copy(), _clamped(starts, x.shape, update.shape)
    for i in np.ndindex(*update.shape):
        out[tuple(a + k for a, k in zip(at, i, strict=True))] = update[i]
    return out


def _topk(x, axis, k, largest):
    values, places = _sort(x, axis, largest)
    return np.take(values, range(k), axis), np.take(places, range(k), axis)


def _sort(x, axis, descending):
    """Stable: equal elements keep their order, in both directions."""
    rows = np.moveaxis(x, axis, -1)
    places = np.array(
        [
            sorted(range(len(row)), key=lambda i: -row[i] if descending else row[i])
            for row in rows.reshape(-1, rows.shape[-1])
        ]
    ).reshape(rows.shape)
    places = np.moveaxis(places, -1, axis)
    return np.take_along_axis(x, places, axis), places


def _layer_norm(x, weight, bias, eps):
    axes = tuple(range(x.ndim - weight.ndim, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(
        x.var(axes, keepdims=True) + eps
    ) * weight + bias


def _batch_norm(x, mean, var, weight, bias, eps):
    mean, var, weight, bias = (
        a.reshape(1, -1, *[1] * (x.ndim - 2)) for a in (mean, var, weight, bias)
    )
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def _scores(q, k, mask, scale, causal):
    scores = np.einsum("...td,...sd->...ts", q, k) * scale
    scores = sum(mask, scores)
    if causal:
        scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    return scores


def _attention(q, k, v, *more, scale, causal, dropout):
    factors = more[-1] if dropout else 1
    scores = _scores(q, k, more[: len(more) - dropout], scale, causal)
    weights = scipy.special.softmax(scores, -1) * factors
    return np.einsum("...ts,...se->...te", weights, v), scipy.special.logsumexp(scores, -1)


def _attention_grad(q, k, v, logs, mean, ct, *more, scale, causal, dropout, of_mask):
    factors = more[-1] if dropout else 1
    scores = _scores(q, k, more[: len(more) - dropout], scale, causal)
    weights = np.exp(scores - logs[..., None])
    of_kept = np.einsum("...te,...se->...ts", ct, v) * factors
    of_scores = weights * (of_kept - mean[..., None])
    masks = []
    if of_mask:
        shared = tuple(a for a, n in enumerate(more[0].shape) if n != scores.shape[a])
        masks = [of_scores.sum(shared, keepdims=True)]
    of_scores, weights = of_scores * scale, weights * factors
    return (
        np.einsum("...ts,...sd->...td", of_scores, k),
        np.einsum("...ts,...td->...sd", of_scores, q),
        np.einsum("...ts,...te->...se", weights, ct),
        *masks,
    )


STRUCTURAL = {
    "full": lambda value, dtype, shape, device: np.array([value] * math.prod(shape)).reshape(shape),
    "const": lambda data, device: data.array,
    "iota": lambda shape, axis, dtype, device: _moved(shape, lambda i: i[axis])(),
    "dim": lambda size, shape, device: np.array([size] * math.prod(shape)).reshape(shape),
    "reshape": lambda x, shape: np.array(list(x.flat)).reshape(shape),
    "permute": lambda x, perm: _moved(
        tuple(x.shape[p] for p in perm), lambda i: x[tuple(i[perm.index(a)] for a in range(x.ndim))]
    )(),
    "expand": lambda x, shape, axes: _moved(
        shape, lambda i: x[tuple(k for a, k in enumerate(i) if a not in axes)]
    )(),
    "slice": lambda x, start, stop, step: x[
        np.ix_(*[range(a, b, s) for a, b, s in zip(start, stop, step, strict=True)])
    ],
    "pad": lambda x, low, high, value: np.pad(
        x, list(zip(low, high, strict=True)), constant_values=value
    ),
    "flip": lambda x, axes: _moved(
        x.shape,
        lambda i: x[tuple(x.shape[a] - 1 - k if a in axes else k for a, k in enumerate(i))],
    )(),
    "concat": lambda *xs, axis: np.moveaxis(
        np.array([row for x in xs for row in np.moveaxis(x, axis, 0)]), 0, axis
    ),
    "window": _window,
    "reduce_sum": lambda x, axes: np.apply_over_axes(np.sum, x, axes).squeeze(axes),
    "reduce_prod": lambda x, axes: np.apply_over_axes(np.prod, x, axes).squeeze(axes),
    "reduce_max": lambda x, axes: np.apply_over_axes(np.max, x, axes).squeeze(axes),
    "reduce_min": lambda x, axes: np.apply_over_axes(np.min, x, axes).squeeze(axes),
    "arg_reduce": lambda x, axis, mode: np.apply_along_axis(
        lambda row: list(row).index({"max": max, "min": min}[mode](row)), axis, x
    ),
    "cumulative": _cumulative,
    "gather": lambda x, index, axis: _moved(
        (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]),
        lambda i: x[(*i[:axis], index[i[axis : axis + index.ndim]], *i[axis + index.ndim :])],
    )(),
    "scatter": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update": _dynamic_update,
    "sort": _sort,
    "topk": _topk,
    "searchsorted": lambda boundaries, values, right: np.vectorize(
        lambda v: sum(bool(b <= v if right else b < v) for b in boundaries)
    )(values),
    "dot": _dot,
    "conv": _conv,
    "conv_grad_input": _conv_grad_input,
    "conv_grad_weight": _conv_grad_weight,
    "conv_last": _conv_last,
    "conv_grad_input_last": _conv_grad_input_last,
    "conv_depthwise_last": _conv_depthwise_last,
    "conv_groups_last": _conv_groups_last,
    "winograd_weight": _winograd_weight,
    "conv_winograd": _conv_winograd,
    "dot_pairs": lambda x, w: x @ w.transpose(1, 3, 0, 2).reshape(x.shape[1], -1),
    "turned": lambda x: x.swapaxes(1, 2),
    "copy_to": lambda x, device: x,
    "softmax": lambda x, axis: scipy.special.softmax(x, axis),
    "log_softmax": lambda x, axis: scipy.special.log_softmax(x, axis),
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "norm2": lambda x, axes: np.linalg.norm(x, axis=axes if len(axes) > 1 else axes[0]),
    "max_first": lambda x, axis: np.apply_along_axis(max, axis, x),
    "min_first": lambda x, axis: np.apply_along_axis(min, axis, x),
    "pick": lambda x, index, axis: np.take_along_axis(x, np.expand_dims(index, axis), axis).squeeze(
        axis
    ),
    "attention": _attention,
    "attention_grad": _attention_grad,
}
