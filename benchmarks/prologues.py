"""What prologues of products save, and what those would that are left out. On one thread.

    python -m benchmarks.prologues [--seconds 0.5]

First: a map and the product that reads it, as one kernel and as two, in turns; the ratio is that
of the two to the one. Then: norms and softmax before a product, with the statistics of the rows by
a kernel of their own and the rest as a prologue, and as fusion leaves them; the ratio is that of
the latter to the former. Below 1 the prologue is slower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphc import set_num_threads
from graphc.backends.llvm.compile import Executable, load, prepare
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.dtype import F32
from graphc.ir.graph import Value
from graphc.ir.text import parse_type
from graphc.passes.fuse import prologue

from .interleave import interleaved, text

#: (label, function, types of its parameters).
Case = tuple[str, Callable[..., Any], list[str]]
#: (label, statistics, product, types of what it reads, type of a statistic).
RowCase = tuple[str, Callable[..., Any], Callable[..., Any], list[str], str]


def wide(value: Value, like: Value, *axes: int) -> Value:
    return ops.expand(value, shape=like.type.shape, axes=axes)


def linear(x: Value, weight: Value) -> Value:
    """x times the transpose of weight."""
    return ops.dot(x, weight, contract=((1,), (1,)))


def scaled(weight: Value, factor: Value) -> Value:
    """A narrow weight, widened, with a factor for each row."""
    return ops.cast(weight, dtype=F32) * wide(factor, weight, 1)


def relu(x: Value) -> Value:
    return ops.max_(x, 0.0)


def paired() -> Iterator[Case]:
    for m, k, n in ((1, 1024, 4096), (4, 1024, 4096), (16, 1024, 4096), (32, 4096, 4096)):
        for dtype in ("i8", "bf16"):
            types = [f"f32[{m}, {k}]", f"{dtype}[{n}, {k}]", f"f32[{n}]"]
            yield (
                f"{m} rows by {dtype} [{n}, {k}], widened and scaled",
                lambda x, w, s: linear(x, scaled(w, s)),
                types,
            )
    for m, k, n in ((128, 768, 64), (4096, 256, 64), (200, 784, 10), (60000, 784, 10)):
        types = [f"f32[{m}, {k}]", f"f32[{n}, {k}]"]
        yield f"relu of [{m}, {k}], to {n}", lambda x, w: linear(relu(x), w), types
    yield (
        "bytes [20000, 784] as floats, to 10",
        lambda x, w: linear(ops.cast(x, dtype=F32) * (1 / 255), w),
        ["u8[20000, 784]", "f32[10, 784]"],
    )
    yield (
        "mask and scale of [16384, 256], to 256",
        lambda x, keep, w: linear(ops.select(keep, x * 1.25, 0.0), w),
        ["f32[16384, 256]", "bool[16384, 256]", "f32[256, 256]"],
    )


def mean_and_inverse(x: Value) -> tuple[Value, Value]:
    """The statistics of a layer norm's rows."""
    width = x.type.shape[1]
    mean = ops.reduce_sum(x, axes=(1,)) * (1 / width)
    centred = x - wide(mean, x, 1)
    return mean, ops.rsqrt(ops.reduce_sum(centred * centred, axes=(1,)) * (1 / width) + 1e-5)


def normed(x: Value, mean: Value, inverse: Value, w: Value) -> Value:
    return linear((x - wide(mean, x, 1)) * wide(inverse, x, 1), w)


def largest_and_sum(x: Value) -> tuple[Value, Value]:
    """The statistics of a softmax's rows."""
    largest = ops.reduce_max(x, axes=(2,))
    return largest, ops.reduce_sum(ops.exp(x - wide(largest, x, 2)), axes=(2,))


def weighted(x: Value, largest: Value, total: Value, v: Value) -> Value:
    weights = ops.exp(x - wide(largest, x, 2)) / wide(total, x, 2)
    return ops.dot(weights, v, contract=((2,), (1,)), batch=((0,), (0,)))


def of_rows() -> Iterator[RowCase]:
    for m, k, n in ((1, 768, 2304), (128, 768, 2304), (512, 768, 2304), (4096, 256, 64)):
        types = [f"f32[{m}, {k}]", f"f32[{n}, {k}]"]
        yield f"layer norm of [{m}, {k}], to {n}", mean_and_inverse, normed, types, f"f32[{m}]"
    for t in (128, 512):
        types = [f"f32[12, {t}, {t}]", f"f32[12, {t}, 64]"]
        label = f"softmax of 12 x [{t}, {t}], to 64"
        yield label, largest_and_sum, weighted, types, f"f32[12, {t}]"


def compiled(function: Callable[..., Any], types: list[str], apart: bool = False) -> Executable:
    """Past the caches, which know no costs."""
    return load(prepare(trace(function, *map(parse_type, types)), apart=apart))


def arrays(types: list[str]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for kind in map(parse_type, types):
        made = rng.standard_normal(kind.shape)
        number = kind.dtype.kind in "iub"
        found.append((np.abs(made * 2) if number else made).astype(kind.dtype.numpy))
    return found


def show(label: str, found: Callable[[], object], other: Callable[[], object], by: float) -> None:
    pair = interleaved(found, other, by)
    print(
        f"{label:48s} {text(pair.first / TURNS)}  {text(pair.second / TURNS)}  "
        f"ratio {pair.ratio:5.2f}  (median {pair.median:.2f})",
        flush=True,
    )


TURNS = 3


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(TURNS):
            call()

    return run


def show_pair(case: Case, seconds: float) -> None:
    label, function, types = case
    one, two = compiled(function, types), compiled(function, types, apart=True)
    if len(one.kernels) > 1:
        label += " (not fused)"
    given = arrays(types)
    show(label, repeated(lambda: one(*given)), repeated(lambda: two(*given)), seconds)


def show_rows(case: RowCase, seconds: float) -> None:
    label, statistics, function, types, kind = case
    whole = compiled(lambda x, w: function(x, *statistics(x), w), types)
    first = compiled(statistics, types[:1])
    limits = prologue.IN_CACHES, prologue.READ_AGAIN
    prologue.IN_CACHES, prologue.READ_AGAIN = (), 1e9  # whatever it costs
    second = compiled(function, [types[0], kind, kind, types[1]])
    prologue.IN_CACHES, prologue.READ_AGAIN = limits
    assert [kernel.kind for kernel in second.kernels] == ["map, dot"]
    x, w = arrays(types)
    might = repeated(lambda: second(x, *first(x), w))
    show(label, might, repeated(lambda: whole(x, w)), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5)
    seconds = parser.parse_args().seconds
    set_num_threads(1)
    print("one kernel, two kernels")
    for case in paired():
        show_pair(case, seconds)
    print("statistics and a prologue, as it is")
    for row_case in of_rows():
        show_rows(row_case, seconds)


if __name__ == "__main__":
    main()
