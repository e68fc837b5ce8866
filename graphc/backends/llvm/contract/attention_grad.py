"""The kernel of attention's gradients, which computes the weights again, block by block.

A unit is a matrix of the stack. For each block of queries and each block of keys that these see,
the weights p = exp(scores - logs) and the cotangents of the scores, s = p * (ct @ v^T - mean), both
with queries along the lanes. Factors f of the weights, as dropout has them, make these
s = p * (f * (ct @ v^T) - mean), and p * f in dv. Five products stand in all, with no operand copied
but a block of q and one of ct:

    scores = k @ q^T    ct @ v^T    dv += p^T @ ct    dk += s^T @ q    dq += s @ k

The gradient of a mask is s itself, turned back. Where matrices share a mask, a unit is all of
these, one after the other. Each of the results adds up blocks in their order, so no bit depends on
threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.attention import AttentionProblem, AttentionWriter, rows_of
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, Subroutine, entry_emitter
from graphc.backends.llvm.contract.lanewise import binary, constant, elementary
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

#: Keys of a block.
KEYS = 96


def attention_grad(problem: AttentionProblem, target: Target) -> Kernel:
    """Operands q, k, v, ct, mask and drop (where the problem has them), logs and mean
    [batch, queries], and the results dq, dk and dv, and of_mask where the problem says along which
    axes a mask is `shared`. The scratch is that of `attention_grad_scratch`."""
    return _Writer(problem, target).kernel()


def attention_grad_scratch(size: AnyDim, width: AnyDim, target: Target, bytes_each: int) -> AnyDim:
    """Bytes of scratch for these columns of q and of v."""
    rows, lanes = rows_of(target), target.lanes(8 * bytes_each)
    fixed = sum(_parts(rows).values()) + 4 * lanes  # that a loop over whole vectors may write
    return bytes_each * (fixed + rows * size + rows * width)


def _parts(rows: int) -> dict[str, int]:
    """What lies in the scratch before that of sizes, in elements."""
    blocks = dict.fromkeys(("weights", "cotangents", "masks", "drops", "sums"), KEYS * rows)
    return {**blocks, **dict.fromkeys(("logs", "means"), rows)}


class _Writer(AttentionWriter):
    """Writes one kernel."""

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        super().__init__(problem, target)
        self.operands = (*problem.stacks, "logs", "mean", "dq", "dk", "dv")
        axes, shared = range(len(problem.batch)), problem.shared or ()
        self.own = [axis for axis in axes if axis not in shared]  # units, and matrices of a unit
        self.shared = [axis for axis in axes if axis in shared]
        if problem.shared is not None:
            self.operands = (*self.operands, "of_mask")
        self.entry = entry_emitter(self.operands, self.sizes)

    def kernel(self) -> Kernel:
        self.define_shared([self.p.size, self.p.width])
        self.pull, self.fill = self._pull(), self._fill()
        if self.p.shared is not None:
            self.turn_back = transposer(self.builder, self.vector, self.element, exact=True)
            self.add = self._add() if self.shared else None
        self.matrix = self._matrix()
        self.entry.loop("%lo", "%hi", 1, lambda unit, _none: self._unit(unit))
        count = Emitter([f"i64 %{name}" for name in self.sizes], result="i64")
        units = self.stack_size(count, self.own)
        return self.finished("attention_grad", count, units, attention_grad_scratch)

    def _unit(self, unit: Index) -> None:
        """The matrices that share a mask."""
        emitter, value = self.entry, self.values()
        if not self.shared:
            self._call(unit, unit, 0)
            return
        places = self.places(emitter, unit, self.own)

        def matrix(turn: Index, _none: Sequence[str]) -> None:
            every = {**places, **self.places(emitter, turn, self.shared)}
            b: Index = 0
            for axis in sorted(every):
                b = emitter.add(emitter.mul(b, value[f"batch{axis}"]), every[axis])
            self._call(unit, b, turn)

        emitter.loop(0, self.stack_size(emitter, self.shared), 1, matrix)

    def _call(self, unit: Index, b: Index, turn: Index) -> None:
        """The gradients of matrix b. turn: how many of its unit came before."""
        emitter, value, vector = self.entry, self.values(), self.on(self.entry)
        at = self.index_of_stack(emitter, b)
        rows = {"logs": "queries", "mean": "queries", "dq": "queries", "dk": "keys", "dv": "keys"}
        for name, size in rows.items():
            at[name] = emitter.mul(b, value[size])
        for name, size in (("dq", "size"), ("dk", "size"), ("dv", "width")):
            at[name] = emitter.mul(at[name], value[size])
        at["of_mask"] = emitter.mul(unit, emitter.mul(value["queries"], value["keys"]))
        pointers = [vector.address(f"%{name}", at[name]) for name in self.operands]
        self.matrix.call(emitter, (*pointers, "%scratch"), {**value, "turn": turn})

    def _matrix(self) -> Subroutine:
        """The gradients of one matrix."""
        routine = self.control((*self.operands, "scratch"), ["turn"] if self.shared else [])
        emitter, vector, value = routine.emitter, self.on(routine.emitter), dict(routine.values)
        size, width = value["size"], value["width"]
        sizes: dict[str, Index] = {**_parts(self.rows)}
        sizes |= {name: emitter.mul(n, self.rows) for name, n in (("q", size), ("ct", width))}
        place: dict[str, str] = {}
        at: Index = 0
        for name, count in sizes.items():
            place[name] = vector.address("%scratch", at)
            at = emitter.add(at, count)
        for name, rows, columns in (
            ("dq", "queries", size), ("dk", "keys", size), ("dv", "keys", width),
        ):  # fmt: skip
            count_all = emitter.mul(value[rows], columns)
            self.fill.call(emitter, (f"%{name}",), {"count": count_all})
        if self.p.shared is not None and self.p.causal:  # blocks that are hidden are left out

            def fill() -> None:
                count_all = emitter.mul(value["queries"], value["keys"])
                self.fill.call(emitter, ("%of_mask",), {"count": count_all})

            emitter.when(emitter.less(value.get("turn", 0), 1), fill)

        def queries(start: Index, _none: Sequence[str]) -> None:
            rows = emitter.minimum(emitter.sub(value["queries"], start), self.rows)
            here = {**value, "start": start, "rows": rows}
            here["columns"] = emitter.mul(emitter.ceil_div(rows, self.lanes), self.lanes)
            self._queries(emitter, place, here)

        emitter.loop(0, value["queries"], self.rows, queries)
        routine.define(self.builder, "gradients")
        return routine

    def _queries(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        """What a block of queries adds to the gradients of k and v, and its own."""
        vector, rows, start = self.on(emitter), value["rows"], value["start"]
        q, ct, dq, *of_rows = (
            vector.address(f"%{name}", emitter.mul(start, value[row] if row else 1))
            for name, row in (("q", "q_row"), ("ct", "ct_row"), ("dq", "size"), ("logs", ""),
                              ("mean", ""))
        )  # fmt: skip
        columns = value["columns"]
        self.turn_queries(emitter, q, place["q"], value)
        self.turn(emitter, ct, place["ct"], value["width"], value["ct_row"], rows, columns)
        for name, source in zip(("logs", "means"), of_rows):
            self.turn(emitter, source, place[name], 1, 1, rows, columns)
        limit = value["keys"]
        if self.p.causal:
            limit = emitter.minimum(limit, emitter.add(start, rows))

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(limit, first), KEYS)
            here = {**value, "count": count}
            k, v, dk, dv = (
                vector.address(f"%{name}", emitter.mul(first, value[row]))
                for name, row in (("k", "k_row"), ("v", "v_row"), ("dk", "size"), ("dv", "width"))
            )
            self._cotangents(emitter, place, here, first, k, v)
            by_key = {"rows": count, "count": rows, "a_row": self.rows, "a_step": 1}
            by_query = {"rows": rows, "count": count, "a_row": 1, "a_step": self.rows}
            for a, b, row, to, width, strides in (
                ("weights", ct, "ct_row", dv, "width", by_key),
                ("cotangents", q, "q_row", dk, "size", by_key),
                ("cotangents", k, "k_row", dq, "size", by_query),
            ):
                to_row = value[width]
                indices = {**strides, "columns": to_row, "b_row": value[row], "to_row": to_row}
                self.product.call(emitter, (place[a], b, to), {**indices, "more": 1})

        emitter.loop(0, limit, KEYS, keys)

    def _cotangents(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index],
                    first: Index, k: str, v: str) -> None:  # fmt: skip
        """The weights of a block, and the cotangents of its products of k and q."""
        vector, rows, columns, count = self.on(emitter), *[
            value[name] for name in ("rows", "columns", "count")
        ]  # fmt: skip
        for name, stack in (("mask", self.p.mask), ("drop", self.p.drop)):
            if stack is not None:
                row = value[f"{name}_row"]
                at = emitter.add(emitter.mul(value["start"], row), first)
                here = vector.address(f"%{name}", at)
                self.turn(emitter, here, place[f"{name}s"], count, row, rows, columns)
        weights, row = place["weights"], value["k_row"]
        self.scores_of(emitter, k, row, value["size"], place["q"], weights, value)
        self.hide_scores(emitter, weights, place["masks"], value, first, count)
        cotangents, row = place["cotangents"], value["v_row"]
        self.scores_of(emitter, v, row, value["width"], place["ct"], cotangents, value)
        names = ("weights", "cotangents", "drops", "logs", "means")
        self.pull.call(emitter, [place[name] for name in (*names, "masks")], value)
        if self.p.shared is not None:
            self._mask_gradient(emitter, place, value, first)

    def _mask_gradient(
        self, emitter: Emitter, place: dict[str, str], value: dict[str, Index], first: Index
    ) -> None:
        """Turns the cotangents of a block's scores back into the mask's gradient, or adds them."""
        vector, rows, count, keys = self.on(emitter), *[
            value[name] for name in ("rows", "count", "keys")
        ]  # fmt: skip
        masks, sums = place["masks"], place["sums"]
        to = vector.address("%of_mask", emitter.add(emitter.mul(value["start"], keys), first))
        add, side = self.add if self.shared else None, transpose_lanes(self.vector)

        def more() -> None:
            self.turn(emitter, to, sums, count, keys, rows, value["columns"])
            assert add is not None
            add.call(emitter, (masks, sums), {"count": emitter.mul(count, self.rows)})

        if add is not None:
            emitter.when(emitter.less(0, value["turn"]), more)

        def some(at: Index, _none: Sequence[str]) -> None:
            indices: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(count, at), side),
                "count": rows,
                "from_stride": self.rows,
                "to_stride": keys,
            }
            here = vector.address(masks, emitter.mul(at, self.rows))
            self.turn_back.call(emitter, (here, vector.address(to, at)), indices)

        emitter.loop(0, count, side, some)

    def _add(self) -> Subroutine:
        """`count` elements more, in whole vectors."""
        routine = Subroutine(("to", "more"), {"count": None})
        emitter, vector = routine.emitter, self.on(routine.emitter)

        def one(at: Index, _none: Sequence[str]) -> None:
            to, more = (vector.address(f"%{name}", at) for name in ("to", "more"))
            vector.store(vector.add(vector.load(more), vector.load(to)), to)

        emitter.loop(0, routine.values["count"], self.lanes, one)
        routine.define(self.builder, "add")
        return routine

    def _pull(self) -> Subroutine:
        """Turns scores into weights, and the cotangents of weights into those of the products that
        gave the scores: weights, cotangents, factors of the weights, logs, means; and those of the
        scores, where a mask has a gradient."""
        names = ("weights", "cotangents", "drops", "logs", "means", "masks")
        routine = Subroutine(names, dict.fromkeys(("count", "columns")))
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values

        def column(at: Index, _none: Sequence[str]) -> None:
            log, mean = (vector.load(vector.address(f"%{name}", at)) for name in names[3:5])

            def key(n: Index, _none: Sequence[str]) -> None:
                here = emitter.add(emitter.mul(n, self.rows), at)
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
                if self.p.shared is not None:
                    vector.store(made, vector.address("%masks", here))
                made = binary(vector, "fmul", made, constant(vector, self.p.scale))
                vector.store(made, cotangents)

            emitter.loop(0, value["count"], 1, key)

        emitter.loop(0, value["columns"], self.lanes, column)
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
            vector.store_scalar(f"{0.0:.1f}", vector.address("%to", at))

        emitter.loop(0, full, self.lanes, whole)
        emitter.loop(full, count, 1, single)
        routine.define(self.builder, "fill")
        return routine
