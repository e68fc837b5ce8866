"""The kernel of attention's gradients, which computes the weights again, block by block.

A unit is a matrix of the stack: for each block of queries and each block of keys that these see,
the weights p = exp(scores - logs) and the cotangents of the scores, s = p * (ct @ v^T - mean), both
with queries along the lanes. Factors f of the weights, as dropout has them, make these
s = p * (f * (ct @ v^T) - mean), and p * f in dv. Five products stand in all, with no operand copied
but a block of q and one of ct:

    scores = k @ q^T    ct @ v^T    dv += p^T @ ct    dk += s^T @ q    dq += s @ k

Each of the results adds up blocks in their order, so no bit depends on threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.attention import (
    ROWS,
    AttentionProblem,
    AttentionWriter,
    ByKeys,
    Form,
)
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, Subroutine, entry_emitter
from graphc.backends.llvm.contract.lanewise import binary, constant, elementary
from graphc.backends.llvm.contract.packing import copy_row, row_copier
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

#: Keys of a block.
KEYS = 96
_PARTS = {
    "weights": KEYS * ROWS,
    "cotangents": KEYS * ROWS,
    "masks": KEYS * ROWS,
    "drops": KEYS * ROWS,
    "logs": ROWS,
    "means": ROWS,
}
_FIXED = sum(_PARTS.values()) + 64  # some vectors that the last loop of a fill may write


def attention_grad(problem: AttentionProblem, target: Target) -> Kernel:
    """Operands q, k, v, ct, mask and drop (where the problem has them), logs and mean
    [batch, queries], and the results dq, dk and dv. The scratch is that of
    `attention_grad_scratch`."""
    return _Writer(problem, target).kernel()


def attention_grad_scratch(size: AnyDim, width: AnyDim, target: Target, bytes_each: int) -> AnyDim:
    """Bytes of scratch for these columns of q and of v."""
    wide = size + target.lanes(8 * bytes_each)
    return bytes_each * (_FIXED + ROWS * size + ROWS * width + ROWS * wide)


class _Writer(AttentionWriter):
    """Writes one kernel."""

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        super().__init__(problem, target)
        self.operands = (*problem.stacks, "logs", "mean", "dq", "dk", "dv")
        self.entry = entry_emitter(self.operands, self.sizes)

    def kernel(self) -> Kernel:
        self.define_turner()
        self.scores = self.tiles_of_keys(ByKeys("k", "size", scores=True, tops=False))
        self.of_weights = self.tiles_of_keys(ByKeys("v", "width", scores=False, tops=False))
        self.pull, self.fill = self._pull(), self._fill()
        self.copier = row_copier(self.builder, self.vector, self.element)
        most = self.tiles.values[0]
        by_query, by_key = (
            Form(1, ROWS, "k_row", "size"),
            Form(ROWS, 1, "q_row", "size", exact=True),
        )
        self.to_q = self.product_tiles(by_query, "size", [most])
        self.to_k = self.product_tiles(by_key, "size", [most, 1])
        by_key = Form(ROWS, 1, "ct_row", "width", exact=True)
        self.to_v = self.product_tiles(by_key, "width", [most, 1])
        self.matrix = self._matrix()
        self.entry.loop("%lo", "%hi", 1, lambda b, _none: self._unit(b))
        count = Emitter([f"i64 %{name}" for name in self.sizes], result="i64")
        units = self.stack_size(count)
        return self.finished("attention_grad", count, units, attention_grad_scratch)

    def _unit(self, b: Index) -> None:
        emitter, value, vector = self.entry, self.values(), self.on(self.entry)
        at = self.index_of_stack(emitter, b)
        rows = {"logs": "queries", "mean": "queries", "dq": "queries", "dk": "keys", "dv": "keys"}
        for name, size in rows.items():
            at[name] = emitter.mul(b, value[size])
        for name, size in (("dq", "size"), ("dk", "size"), ("dv", "width")):
            at[name] = emitter.mul(at[name], value[size])
        pointers = [vector.address(f"%{name}", at[name]) for name in self.operands]
        self.matrix.call(emitter, (*pointers, "%scratch"), value)

    def _matrix(self) -> Subroutine:
        """The gradients of one matrix."""
        routine = self.routine((*self.operands, "scratch"))
        emitter, vector, value = routine.emitter, self.on(routine.emitter), dict(routine.values)
        size, width = value["size"], value["width"]
        at: Index = 0
        place: dict[str, str] = {}
        for name, count in _PARTS.items():
            place[name] = vector.address("%scratch", at)
            at = emitter.add(at, count)
        for name, count_of in (("q", size), ("ct", width)):
            place[name] = vector.address("%scratch", at)
            at = emitter.add(at, emitter.mul(count_of, ROWS))
        place["dq"] = vector.address("%scratch", at)
        for name, columns in (("dk", size), ("dv", width)):
            count_all = emitter.mul(value["keys"], columns)
            self.fill.call(emitter, (f"%{name}",), {"count": count_all})

        def queries(start: Index, _none: Sequence[str]) -> None:
            rows = emitter.minimum(emitter.sub(value["queries"], start), ROWS)
            here = {**value, "start": start, "rows": rows}
            here["vectors"] = emitter.ceil_div(rows, self.lanes)
            self._queries(emitter, place, here)

        emitter.loop(0, value["queries"], ROWS, queries)
        routine.define(self.builder, "gradients")
        return routine

    def _queries(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        """What a block of queries adds to the gradients of k and v, and its own."""
        vector, rows, start = self.on(emitter), value["rows"], value["start"]
        size, width = value["size"], value["width"]
        columns = emitter.mul(value["vectors"], self.lanes)
        source = {
            name: vector.address(f"%{name}", emitter.mul(start, value[f"{name}_row"]))
            for name in ("q", "ct")
        }
        for name, depth in (("q", size), ("ct", width)):
            row = value[f"{name}_row"]
            self.turn(emitter, source[name], place[name], depth, row, rows, columns)
        for name, operand in (("logs", "logs"), ("means", "mean")):
            copy_row(vector, self.element, vector.address(f"%{operand}", start), place[name], rows)
        wide = self.padded(emitter, size)
        self.fill.call(emitter, (place["dq"],), {"count": emitter.mul(wide, ROWS)})
        limit = value["keys"]
        if self.p.causal:
            limit = emitter.minimum(limit, emitter.add(start, rows))

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(limit, first), KEYS)
            at_key = {
                name: vector.address(f"%{name}", emitter.mul(first, value[f"{name}_row"]))
                for name in ("k", "v")
            }
            for name, stack in (("mask", self.p.mask), ("drop", self.p.drop)):
                if stack is not None:
                    row = value[f"{name}_row"]
                    here = vector.address(f"%{name}", emitter.add(emitter.mul(start, row), first))
                    self.turn(emitter, here, place[f"{name}s"], count, row, rows, columns)
            weights, cotangents, masks = (
                place[name] for name in ("weights", "cotangents", "masks")
            )
            pointers = (at_key["k"], place["q"], masks, weights, weights)
            self.by_keys(emitter, self.scores, pointers, value, first, count)
            pointers = (at_key["v"], place["ct"], masks, cotangents, cotangents)
            self.by_keys(emitter, self.of_weights, pointers, value, first, count)
            pointers = (weights, cotangents, place["drops"], place["logs"], place["means"])
            self.pull.call(emitter, pointers, {**value, "count": count})
            dk = vector.address("%dk", emitter.mul(first, size))
            dv = vector.address("%dv", emitter.mul(first, width))
            operands = (weights, source["ct"], dv, weights)
            self.product(emitter, self.to_v, operands, value, count, rows)
            operands = (cotangents, source["q"], dk, cotangents)
            self.product(emitter, self.to_k, operands, value, count, rows)
            operands = (cotangents, at_key["k"], place["dq"], cotangents)
            self.product(emitter, self.to_q, operands, value, rows, count)

        emitter.loop(0, limit, KEYS, keys)
        to = vector.address("%dq", emitter.mul(start, size))
        indices = {"rows": rows, "count": size, "from_stride": wide, "to_stride": size}
        self.copier.call(emitter, (place["dq"], to), indices)

    def _pull(self) -> Subroutine:
        """Turns scores into weights, and the cotangents of weights into those of the products that
        gave the scores: weights, cotangents, factors of the weights, logs, means."""
        names = ("weights", "cotangents", "drops", "logs", "means")
        routine = self.routine(names, ("count", "vectors"))
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values

        def column(at: Index, _none: Sequence[str]) -> None:
            log, mean = (vector.load(vector.address(f"%{name}", at)) for name in names[3:])

            def key(n: Index, _none: Sequence[str]) -> None:
                here = emitter.add(emitter.mul(n, ROWS), at)
                places = [vector.address(f"%{name}", here) for name in names[:3]]
                weights, cotangents, drops = places
                moved = binary(vector, "fsub", vector.load(weights), log)
                weight, kept = elementary(vector, "exp", moved), vector.load(cotangents)
                if self.p.drop is None:
                    vector.store(weight, weights)
                else:
                    factor = vector.load(drops)
                    vector.store(binary(vector, "fmul", weight, factor), weights)
                    kept = binary(vector, "fmul", kept, factor)
                rest = binary(vector, "fsub", kept, mean)
                made = binary(vector, "fmul", weight, rest)
                made = binary(vector, "fmul", made, constant(vector, self.p.scale))
                vector.store(made, cotangents)

            emitter.loop(0, value["count"], 1, key)

        end = emitter.mul(value["vectors"], self.lanes)
        emitter.loop(0, end, self.lanes, column)
        routine.define(self.builder, "pull")
        return routine

    def _fill(self) -> Subroutine:
        """`count` zeros."""
        routine = Subroutine(("to",), {"count": None})
        emitter, vector = routine.emitter, self.on(routine.emitter)
        count = routine.values["count"]
        full = emitter.round_down(count, self.lanes)

        def whole(at: Index, _none: Sequence[str]) -> None:
            vector.store(vector.zero, vector.address("%to", at))

        def single(at: Index, _none: Sequence[str]) -> None:
            zero = f"{0.0:.1f}"
            vector.store_scalar(zero, vector.address("%to", at))

        emitter.loop(0, full, self.lanes, whole)
        emitter.loop(full, count, 1, single)
        routine.define(self.builder, "fill")
        return routine
