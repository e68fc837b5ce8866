"""A sparse matrix times a dense one.

torch is given its fastest form, CSR; a library without sparse tensors computes from coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workload import Arrays
from .op import op

SIZE = 4096
NONZERO = SIZE * SIZE // 100


def square() -> Arrays:
    """One element in a hundred of a square matrix, and a dense operand of 64 columns.

    (row of each element, place where each row starts, column of each element, elements, operand)
    """
    random = np.random.default_rng(0)
    flat = np.sort(random.choice(SIZE * SIZE, NONZERO, replace=False))
    rows, places = np.divmod(flat, SIZE)
    starts = np.searchsorted(rows, np.arange(SIZE + 1))
    values, operand = (random.standard_normal(s, np.float32) for s in (NONZERO, (SIZE, 64)))
    return rows, starts, places, values, operand


def product(t: Any, rows: Any, starts: Any, places: Any, values: Any, x: Any) -> Any:
    if hasattr(t, "sparse_csr_tensor"):
        return t.sparse_csr_tensor(starts, places, values, (SIZE, SIZE)) @ x
    terms = values[:, None] * x[places]
    return t.zeros(SIZE, x.shape[1]).index_add(0, rows, terms)


def jax_product(j: Any, rows: Any, starts: Any, places: Any, values: Any, x: Any) -> Any:
    from jax.experimental.sparse import BCOO

    at = j.numpy.stack([rows, places], 1)
    known = {"indices_sorted": True, "unique_indices": True}
    return BCOO((values, at), shape=(SIZE, SIZE), **known) @ x


WORKLOADS = [op("sparse-dense", square, product, jax_product)]
