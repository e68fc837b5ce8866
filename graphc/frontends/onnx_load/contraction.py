"""Loading of products and convolutions."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.dtype import I32
from graphc.ir.errors import FormatError, ShapeError, UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .node import OnnxNode
from .registry import loads


@loads("MatMul")
def matmul(g: Any, node: OnnxNode, a: Item, b: Item) -> Value:
    return matrix_product(g.value(a), g.value(b))


def matrix_product(a: Value, b: Value) -> Value:
    """numpy's matmul: the last two axes multiply, those before broadcast."""
    left, right = a.type.shape, b.type.shape
    if not left or not right:
        raise ShapeError(f"MatMul of {a.type.text} and {b.type.text}: a scalar has no rows")
    if len(right) <= 2:
        return ops.dot(a, b, contract=((len(left) - 1,), (max(len(right) - 2, 0),)))
    if len(left) == 1:
        return ops.dot(a, b, contract=((0,), (len(right) - 2,)))
    lead = ops.broadcast_shapes(left[:-2], right[:-2])
    a = ops.broadcast_to(a, (*lead, *left[-2:]))
    b = ops.broadcast_to(b, (*lead, *right[-2:]))
    n = len(lead)
    batch = tuple(range(n))
    return ops.dot(a, b, contract=((n + 1,), (n,)), batch=(batch, batch))


@loads("Gemm")
def gemm(g: Any, node: OnnxNode, a: Item, b: Item, c: Item | None = None) -> Value:
    """alpha * A * B + beta * C."""
    axes = (0 if node.int("transA", 0) else 1, 1 if node.int("transB", 0) else 0)
    made = ops.dot(g.value(a), g.value(b), contract=((axes[0],), (axes[1],)))
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    if alpha != 1:
        made = ops.mul(made, ops.full_like(alpha, made))
    if c is None or beta == 0:
        return made
    bias = g.broadcast_to(c, made.type.shape)
    return ops.add(made, bias if beta == 1 else ops.mul(bias, ops.full_like(beta, bias)))


@loads("MatMulInteger")
def matmul_integer(
    g: Any, node: OnnxNode, a: Item, b: Item, a_zero: Item | None = None, b_zero: Item | None = None
) -> Value:
    """Products of 8-bit integers less their zero points, in int32."""
    wide = [ops.cast(g.value(x), dtype=I32) for x in (a, b)]
    for i, zero in enumerate((a_zero, b_zero)):
        if zero is not None:
            start = ops.cast(g.value(zero), dtype=I32)
            if i == 0 and len(start.type.shape) == 1 and start.type.shape != (1,):
                start = ops.reshape(start, shape=(*start.type.shape, 1))
            wide[i] = ops.sub(wide[i], ops.broadcast_to(start, wide[i].type.shape))
    return matrix_product(*wide)


@loads("Einsum")
def einsum(g: Any, node: OnnxNode, *xs: Item) -> Value:
    """Operands are multiplied one after the other; axes that nobody else needs are summed first."""
    equation = node.text("equation").replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(xs):
        raise FormatError(f"the equation {equation!r} has {len(terms)} operands, not {len(xs)}")
    terms, output = _without_ellipsis(terms, output, [x.rank for x in xs], bool(arrow))
    if not arrow:
        letters = "".join(terms)
        output += "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c.isalpha()))
    values = [_diagonal(g.value(x), term) for x, term in zip(xs, terms)]
    value, axes = values[0]
    for i, (other, others) in enumerate(values[1:], 1):
        later = set(output).union(*[names for _, names in values[i + 1 :]])
        value, axes = _multiply(value, axes, other, others, later)
    value, axes = _sum_out(value, axes, set(output))
    if sorted(axes) != sorted(output):
        raise FormatError(f"the equation {equation!r} names an output axis that no operand has")
    return ops.permute(value, perm=tuple([axes.index(c) for c in output]))


def _without_ellipsis(
    terms: list[str], output: str, ranks: list[int], explicit: bool
) -> tuple[list[str], str]:
    """`...` becomes digits, counted from the last axis that it stands for."""
    made, longest = [], 0
    for term, rank in zip(terms, ranks):
        extra = rank - len(term.replace("...", ""))
        if extra < 0 or (extra and "..." not in term) or extra > 9:
            raise FormatError(f"the term {term!r} does not fit an operand of {rank} axes")
        longest = max(longest, extra)
        made.append(term.replace("...", "9876543210"[10 - extra :] if extra else ""))
    return made, output.replace("...", "9876543210"[10 - longest :] if longest else "") or (
        "" if explicit else "9876543210"[10 - longest :] if longest else ""
    )


def _diagonal(value: Value, term: str) -> tuple[Value, str]:
    if len(set(term)) != len(term):
        raise UnsupportedError(f"a repeated axis in the term {term!r} is not supported")
    return value, term


def _sum_out(value: Value, axes: str, kept: set[str]) -> tuple[Value, str]:
    away = tuple([i for i, c in enumerate(axes) if c not in kept])
    if not away:
        return value, axes
    return ops.reduce_sum(value, axes=away), "".join(c for c in axes if c in kept)


def _multiply(a: Value, left: str, b: Value, right: str, kept: set[str]) -> tuple[Value, str]:
    """dot over the axes that both have and nobody needs later; the others they share are batch."""
    a, left = _sum_out(a, left, kept | set(right))
    b, right = _sum_out(b, right, kept | set(left))
    shared = [c for c in left if c in right]
    contract = [c for c in shared if c not in kept]
    batch = [c for c in shared if c in kept]
    a, b = _same_sizes(a, left, b, right, shared)

    def places(letters: list[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(map(left.index, letters)), tuple(map(right.index, letters))

    made = ops.dot(a, b, contract=places(contract), batch=places(batch))
    rest = [c for c in left + right if c not in shared]
    return made, "".join([*batch, *rest])


def _same_sizes(
    a: Value, left: str, b: Value, right: str, shared: list[str]
) -> tuple[Value, Value]:
    """Axes of size 1 broadcast to the other operand's."""
    wide = [list(a.type.shape), list(b.type.shape)]
    for c in shared:
        i, j = left.index(c), right.index(c)
        (size,) = ops.broadcast_shapes((wide[0][i],), (wide[1][j],))
        wide[0][i] = wide[1][j] = size
    return ops.broadcast_to(a, tuple(wide[0])), ops.broadcast_to(b, tuple(wide[1]))


def window_attributes(
    node: OnnxNode, kernel: tuple, space: tuple, default_stride: int = 1
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Strides, pairs of padding and dilations, `auto_pad` resolved."""
    k = len(kernel)
    strides = tuple(node.ints("strides", [default_stride] * k))
    dilations = tuple(node.ints("dilations", [1] * k))
    if not len(strides) == len(dilations) == k or min(strides + dilations, default=1) < 1:
        raise FormatError(f"strides {strides} and dilations {dilations} of a kernel {kernel}")
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for n, size, s, d in zip(space, kernel, strides, dilations, strict=True):
            if s == 1:
                total = (size - 1) * d
            elif isinstance(n, int):
                total = max((-(-n // s) - 1) * s + (size - 1) * d + 1 - n, 0)
            else:
                raise UnsupportedError("auto_pad along a symbolic size is not supported")
            pairs.append((total // 2, total - total // 2)[:: 1 if auto == "SAME_UPPER" else -1])
        return strides, tuple(pairs), dilations
    pads = node.ints("pads", [0] * (2 * k)) if auto == "NOTSET" else [0] * (2 * k)
    if len(pads) != 2 * k or auto not in ("NOTSET", "VALID"):
        raise FormatError(f"padding {pads} ({auto}) of a kernel {kernel}")
    return strides, tuple(zip(pads[:k], pads[k:], strict=True)), dilations


def _static_kernel(node: OnnxNode, w: Item) -> tuple[int, ...]:
    kernel = w.shape[2:]
    if not all(isinstance(n, int) for n in kernel) or w.rank < 3:
        raise UnsupportedError(f"a kernel {w.type.text} is not supported")
    return kernel  # type: ignore[return-value]


@loads("Conv")
def conv(g: Any, node: OnnxNode, x: Item, w: Item, b: Item | None = None) -> Value:
    kernel = _static_kernel(node, w)
    stride, padding, dilation = window_attributes(node, kernel, x.shape[2:])
    value, padding = _cropped(g.value(x), padding)
    made = ops.conv(
        value, g.value(w), stride=stride, padding=padding, dilation=dilation,
        groups=node.int("group", 1),
    )  # fmt: skip
    return _with_bias(g, made, b)


def _cropped(value: Value, padding: tuple) -> tuple[Value, tuple]:
    """Negative padding cuts off."""
    from .movement import cut

    pairs = []
    for i, (low, high) in enumerate(padding):
        if low < 0 or high < 0:
            size = value.type.shape[2 + i]
            value = cut(value, 2 + i, max(-low, 0), size + min(high, 0))
        pairs.append((max(low, 0), max(high, 0)))
    return value, tuple(pairs)


def _with_bias(g: Any, value: Value, bias: Item | None) -> Value:
    if bias is None:
        return value
    shape = value.type.shape
    others = tuple([i for i in range(len(shape)) if i != 1])
    return ops.add(value, ops.expand(g.value(bias), shape=shape, axes=others))


@loads("ConvTranspose")
def conv_transpose(g: Any, node: OnnxNode, x: Item, w: Item, b: Item | None = None) -> Value:
    """The input gradient of the convolution that has this kernel."""
    kernel = _static_kernel(node, w)
    k = len(kernel)
    groups = node.int("group", 1)
    extra = node.ints("output_padding", [0] * k)
    given = node.ints("output_shape", None)
    auto = node.text("auto_pad", "NOTSET")
    stride, padding, dilation = window_attributes(node, kernel, (1,) * k)
    sizes, pairs = [], []
    for i in range(k):
        low, high = padding[i]
        whole = (x.shape[2 + i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + extra[i]
        size = whole - low - high
        if given is not None:
            size = given[i]
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            size = x.shape[2 + i] * stride[i]
        if given is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
            total = whole - size
            if not isinstance(total, int):
                raise UnsupportedError("an output shape of a symbolic size is not supported")
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            high = total - low
        sizes.append(size)
        pairs.append((low, high))
    beyond = [(max(-low, 0), max(-high, 0)) for low, high in pairs]
    # conv's room beyond the last window is what output_padding adds
    made = ops.conv_grad_input(
        g.value(x),
        g.value(w),
        size=tuple([d - low - high for d, (low, high) in zip(sizes, beyond)]),
        stride=stride,
        padding=tuple([(max(low, 0), max(high, 0)) for low, high in pairs]),
        dilation=dilation,
        groups=groups,
    )
    if any(map(any, beyond)):  # nothing reaches there
        sides = [(0, 0, *side) for side in zip(*beyond)]
        made = ops.pad(made, low=sides[0], high=sides[1], value=0.0)
    return _with_bias(g, made, b)
