"""Reading and writing at indices, and moving without arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workload import Arrays, normal
from .op import op

IMAGES = normal((16, 64, 56, 56))


def table_and_rows() -> Arrays:
    """A table of 10,000 rows of 256, and 4,096 numbers of rows."""
    random = np.random.default_rng(0)
    return random.standard_normal((10_000, 256), np.float32), random.integers(0, 10_000, 4096)


def table_and_places() -> Arrays:
    """1,000 rows of 512, 128 places in each row, and numbers for them."""
    random = np.random.default_rng(0)
    places = random.integers(0, 512, (1000, 128))
    table, values = (random.standard_normal((1000, n), np.float32) for n in (512, 128))
    return table, places, values


def gradient(program: Any) -> Any:
    """The gradient of the sum of squares of a program's result for its first operand."""

    def run(t: Any, x: Any, *rest: Any) -> Any:
        y = program(t, x, *rest)
        return t.autograd.grad((y * y).sum(), x)[0]

    return run


def jax_gradient(program: Any) -> Any:
    def run(j: Any, x: Any, *rest: Any) -> Any:
        return j.grad(lambda x: (program(j, x, *rest) ** 2).sum())(x)

    return run


def gather(t: Any, x: Any, i: Any, y: Any) -> Any:
    return x.gather(1, i)


def jax_gather(j: Any, x: Any, i: Any, y: Any) -> Any:
    return j.numpy.take_along_axis(x, i, 1)


def scatter_add(t: Any, x: Any, i: Any, y: Any) -> Any:
    return x.scatter_add(1, i, y)


def jax_scatter_add(j: Any, x: Any, i: Any, y: Any) -> Any:
    return x.at[j.numpy.arange(x.shape[0])[:, None], i].add(y)


def index_select(t: Any, x: Any, i: Any) -> Any:
    return x.index_select(0, i)


def embedding(t: Any, x: Any, i: Any) -> Any:
    return t.nn.functional.embedding(i, x)


def jax_take(j: Any, x: Any, i: Any) -> Any:
    return x[i]


WORKLOADS = [
    op("gather", table_and_places, gather, jax_gather),
    op("gather-gradient", table_and_places, gradient(gather), jax_gradient(jax_gather),
       kind="gradient"),
    op("scatter-add", table_and_places, scatter_add, jax_scatter_add),
    op("scatter-add-gradient", table_and_places, gradient(scatter_add),
       jax_gradient(jax_scatter_add), kind="gradient"),
    op("index-select", table_and_rows, index_select, jax_take),
    op("index-select-gradient", table_and_rows, gradient(index_select), jax_gradient(jax_take),
       kind="gradient"),
    op("embedding", table_and_rows, embedding, jax_take),
    op("embedding-gradient", table_and_rows, gradient(embedding), jax_gradient(jax_take),
       kind="gradient"),
    op("transpose", normal((1024, 1024)), lambda t, x: x.t().contiguous(),
       lambda j, x: x.T + 0),
    op("permute-channels-last", IMAGES, lambda t, x: x.permute(0, 2, 3, 1).contiguous(),
       lambda j, x: x.transpose(0, 2, 3, 1)),
    op("permute-heads", normal((8, 512, 8, 64)), lambda t, x: x.transpose(1, 2).contiguous(),
       lambda j, x: x.swapaxes(1, 2)),
    op("concat-columns", normal((1024, 256), (1024, 512)), lambda t, x, y: t.cat([x, y], 1),
       lambda j, x, y: j.numpy.concatenate([x, y], 1)),
    op("concat-rows", normal((256, 1024), (512, 1024)), lambda t, x, y: t.cat([x, y], 0),
       lambda j, x, y: j.numpy.concatenate([x, y], 0)),
    op("pad", IMAGES, lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1)),
       lambda j, x: j.numpy.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))),
    op("pad-reflect", normal((16, 64, 56, 56)),
       lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"),
       lambda j, x: j.numpy.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")),
    op("flip", normal((1024, 1024)), lambda t, x: x.flip(1), lambda j, x: x[:, ::-1]),
    op("roll", normal((1024, 1024)), lambda t, x: x.roll(100, 1),
       lambda j, x: j.numpy.roll(x, 100, 1)),
]  # fmt: skip
