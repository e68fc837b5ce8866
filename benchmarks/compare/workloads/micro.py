"""Single ops and short chains of them, each a function of one line."""

from __future__ import annotations

from . import contractions, movement, pointwise, rows, sparse

WORKLOADS = [
    *pointwise.WORKLOADS, *rows.WORKLOADS, *movement.WORKLOADS, *contractions.WORKLOADS,
    *sparse.WORKLOADS,
]  # fmt: skip
