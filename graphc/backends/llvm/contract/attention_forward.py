"""The kernel of attention: see `attention.py` for how it goes."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.attention import (
    FEW,
    FEW_KEYS,
    INFINITY,
    AttentionProblem,
    AttentionWriter,
    rows_of,
)
from graphc.backends.llvm.contract.attention_product import StridedProduct
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, Subroutine, entry_emitter
from graphc.backends.llvm.contract.lanewise import (
    binary,
    constant,
    elementary,
    equal,
    first_lane,
    larger,
    largest_lane,
    lower_lanes,
    select,
    sum_of_lanes,
    sums_in_lanes,
)
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

#: Keys of a block.
KEYS = 192
#: How many keys at a time are multiplied with one of few queries.
FEW_AT_ONCE = 4
#: What a block keeps of each query: the largest score, the one of before, the sum of weights, and
#: by what all that was summed before is scaled.
STATE = ("tops", "before", "totals", "factors")


def attention(problem: AttentionProblem, target: Target) -> Kernel:
    """Operands q, k, v, mask and drop (where the problem has them), out [batch, queries, width]
    and sums [batch, queries]: the logarithm of each row's sum of exponentials, infinity where that
    is zero. The scratch is that of `attention_scratch`."""
    return _Writer(problem, target).kernel()


def attention_scratch(size: AnyDim, width: AnyDim, target: Target, bytes_each: int) -> AnyDim:
    """Bytes of scratch for these columns of q and of v."""
    rows, lanes = rows_of(target), target.lanes(8 * bytes_each)
    wide = width + lanes
    fixed = sum(_parts(rows).values()) + 4 * lanes  # that a loop over whole vectors may write
    return bytes_each * (fixed + rows * size + rows * wide)


def _parts(rows: int) -> dict[str, int]:
    """What lies in the scratch before that of sizes, in elements."""
    blocks = dict.fromkeys(("scores", "masks", "drops"), KEYS * rows)
    return {**blocks, "few": FEW * FEW_KEYS, **dict.fromkeys(STATE, rows)}


class _Writer(AttentionWriter):
    """Writes one kernel."""

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        super().__init__(problem, target)
        self.operands = (*problem.stacks, "out", "sums")
        self.entry = entry_emitter(self.operands, self.sizes)
        most = problem.queries
        #: Whether there may be few queries, or many.
        self.sides = [few for few in (True, False) if most is None or (most <= FEW) is few]
        keys = problem.keys
        #: Whether all keys are one block, of few queries and of many: nothing is scaled down then.
        self.once = {few: keys is not None and keys <= (FEW_KEYS if few else KEYS)
                     for few in (True, False)}  # fmt: skip

    def kernel(self) -> Kernel:
        self.finish = self._finish()
        if not all([self.once[few] for few in self.sides]):
            self.rescale = self._rescale()
        if False in self.sides:
            self.define_shared([self.p.width])
            self.weigh = self._weigh()
        if True in self.sides:
            self.few = self._few()
            self.one_row, self.four_rows = self._products_of_few()
        self.block = {few: self._block(few) for few in self.sides}
        self.entry.loop("%lo", "%hi", 1, lambda unit, _none: self._unit(unit))
        count = Emitter([f"i64 %{name}" for name in self.sizes], result="i64")
        blocks = count.ceil_div(self.values()["queries"], self.rows)
        units = count.mul(self.stack_size(count), blocks)
        return self.finished("attention", count, units, attention_scratch)

    def _unit(self, unit: Index) -> None:
        """A block of queries of a matrix."""
        emitter, value, vector = self.entry, self.values(), self.on(self.entry)
        queries, keys = value["queries"], value["keys"]
        blocks = emitter.ceil_div(queries, self.rows)
        b = emitter.floor_div_any(unit, blocks)
        start = emitter.mul(emitter.remainder(unit, b, blocks), self.rows)
        rows = emitter.minimum(emitter.sub(queries, start), self.rows)
        limit = emitter.minimum(keys, emitter.add(start, rows)) if self.p.causal else keys
        at = self.index_of_stack(emitter, b)
        for name in ("q", "mask", "drop"):
            if name in at:
                at[name] = emitter.add(at[name], emitter.mul(start, value[f"{name}_row"]))
        first = emitter.add(emitter.mul(b, queries), start)
        at |= {"out": emitter.mul(first, value["width"]), "sums": first}
        pointers = [vector.address(f"%{name}", at[name]) for name in self.operands]
        indices = {**value, "start": start, "rows": rows, "limit": limit}

        def run(few: bool) -> None:
            self.block[few].call(emitter, (*pointers, "%scratch"), indices)

        if len(self.sides) == 1:
            run(self.sides[0])
        else:
            emitter.when(emitter.less(queries, FEW + 1), lambda: run(True), lambda: run(False))

    def _block(self, few: bool) -> Subroutine:
        routine = self.control((*self.operands, "scratch"), ("start", "rows", "limit"))
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value = dict(routine.values)
        vectors = emitter.ceil_div(value["rows"], self.lanes)
        value["columns"] = emitter.mul(vectors, self.lanes)
        value["wide"] = wide = self.padded(emitter, value["width"])
        sizes: dict[str, Index] = {**_parts(self.rows)}
        sizes |= {"panel": emitter.mul(value["size"], self.rows)}
        sizes |= {"sums": emitter.mul(wide, self.rows)}
        place: dict[str, str] = {}
        at: Index = 0
        for name, count in sizes.items():
            place[name] = vector.address("%scratch", at)
            at = emitter.add(at, count)
        self._begin(emitter, place, value, few)
        body = self._few_keys if few else self._many_keys
        body(emitter, place, value)
        pointers = (*[place[name] for name in STATE], place["sums"], "%out", "%sums")
        self.finish.call(emitter, pointers, value)
        routine.define(self.builder, "few_queries" if few else "queries")
        return routine

    def _begin(
        self, emitter: Emitter, place: dict[str, str], value: dict[str, Index], few: bool
    ) -> None:
        """Nothing is summed yet. The sums are zero where no block of keys will write them."""
        vector = self.on(emitter)

        def fill(name: str, count: Index, with_: str) -> None:
            def one(at: Index, _none: Sequence[str]) -> None:
                vector.store(with_, vector.address(place[name], at))

            emitter.loop(0, count, self.lanes, one)

        fill("tops", value["columns"], constant(vector, -INFINITY))
        if not self.once[few]:
            fill("before", value["columns"], constant(vector, -INFINITY))
        fill("totals", value["columns"], vector.zero)
        elements = emitter.mul(value["rows"], value["wide"])
        none = emitter.less(value["limit"] if self.p.keys is None else self.p.keys, 1)
        emitter.when(none, lambda: fill("sums", elements, vector.zero))

    def _add_values(self, emitter: Emitter, product: StridedProduct, weights: str,
                    place: dict[str, str], value: dict[str, Index], first: Index,
                    strides: dict[str, Index], once: bool) -> None:  # fmt: skip
        """Adds the `count` rows of v from `first`, by their weights, to the sums."""
        vector, wide, sums = self.on(emitter), value["wide"], place["sums"]
        v = vector.address("%v", emitter.mul(first, value["v_row"]))
        indices = {**value, **strides, "b_row": value["v_row"], "to_row": wide}
        indices["columns"] = value["width"]

        def begin() -> None:
            product.call(emitter, (weights, v, sums), {**indices, "more": 0})

        def more() -> None:
            self.rescale.call(emitter, (sums, place["factors"]), value)
            product.call(emitter, (weights, v, sums), {**indices, "more": 1})

        emitter.when(once or emitter.less(first, 1), begin, more)

    # --- many queries ------------------------------------------------------------------------

    def _many_keys(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        vector, rows, columns = self.on(emitter), value["rows"], value["columns"]
        self.turn_queries(emitter, "%q", place["panel"], value)

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(value["limit"], first), KEYS)
            here = {**value, "count": count}
            for name, stack in (("mask", self.p.mask), ("drop", self.p.drop)):
                if stack is not None:
                    source, row = vector.address(f"%{name}", first), value[f"{name}_row"]
                    self.turn(emitter, source, place[f"{name}s"], count, row, rows, columns)
            k, row = vector.address("%k", emitter.mul(first, value["k_row"])), value["k_row"]
            scores = place["scores"]
            self.scores_of(emitter, k, row, value["size"], place["panel"], scores, here)
            self.hide_scores(emitter, scores, place["masks"], value, first, count)
            pointers = (scores, place["drops"], *[place[name] for name in STATE])
            self.weigh.call(emitter, pointers, here)
            strides: dict[str, Index] = {"a_row": 1, "a_step": self.rows}
            once = self.once[False]
            self._add_values(emitter, self.product, scores, place, here, first, strides, once)

        emitter.loop(0, value["limit"], KEYS, keys)

    def _weigh(self) -> Subroutine:
        """Turns the scores of `count` keys into weights: scores, their factors, the state."""
        routine = Subroutine(("scores", "drops", *STATE), dict.fromkeys(("count", "columns")))
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values
        count = value["count"]

        def column(at: Index, _none: Sequence[str]) -> None:
            tops, before, totals, factors = (vector.address(f"%{name}", at) for name in STATE)
            here = vector.address("%scores", at)
            last = emitter.sub(count, 1)

            def some(n: Index, carried: Sequence[str]) -> list[str]:
                places = [n, *[emitter.minimum(emitter.add(n, m), last) for m in (1, 2, 3)]]
                rows = [vector.address(here, emitter.mul(place, self.rows)) for place in places]
                return [larger(vector, vector.load(row), c) for row, c in zip(rows, carried)]

            # Four at a time, since each waits for the one before.
            found = emitter.loop(0, count, 4, some, [(vector.type, vector.load(tops))] * 4)
            top = larger(vector, larger(vector, *found[:2]), larger(vector, *found[2:]))
            vector.store(top, tops)
            shift = _finite(vector, top)
            factor = ""
            if not self.once[False]:
                moved = binary(vector, "fsub", vector.load(before), shift)
                factor = elementary(vector, "exp", moved)
                vector.store(top, before)
                vector.store(factor, factors)

            def key(n: Index, carried: Sequence[str]) -> list[str]:
                row = emitter.mul(n, self.rows)
                to = vector.address(here, row)
                moved = binary(vector, "fsub", vector.load(to), shift)
                weight = elementary(vector, "exp", moved)
                drop = vector.address("%drops", emitter.add(row, at))
                vector.store(self._kept(vector, weight, drop), to)
                return [vector.add(carried[0], weight)]

            (total,) = emitter.loop(0, count, 1, key, [(vector.type, vector.zero)])
            if not self.once[False]:
                total = vector.multiply_add(vector.load(totals), factor, total)
            vector.store(total, totals)

        emitter.loop(0, value["columns"], self.lanes, column)
        routine.define(self.builder, "weigh")
        return routine

    def _kept(self, vector: Vector, weight: str, drop: str, mask: str | None = None) -> str:
        """What dropout leaves of weights, whose factors are at `drop`; sums are of all of them."""
        if self.p.drop is None:
            return weight
        return binary(vector, "fmul", weight, vector.load(drop, mask))

    # --- few queries -------------------------------------------------------------------------

    def _products_of_few(self) -> tuple[StridedProduct | None, StridedProduct | None]:
        """The products for one query and for several, where these occur."""
        queries, columns = self.p.queries, [self.p.width]
        one = queries is None or queries == 1
        return (
            StridedProduct(self.builder, self.vector, 1, 4, columns) if one else None,
            StridedProduct(self.builder, self.vector, 4, 2, columns) if queries != 1 else None,
        )

    def _few_keys(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        vector = self.on(emitter)

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(value["limit"], first), FEW_KEYS)
            here = {**value, "count": count}
            k = vector.address("%k", emitter.mul(first, value["k_row"]))

            def query(row: Index, _none: Sequence[str]) -> None:
                reach = count
                if self.p.causal:
                    seen = emitter.add(emitter.add(value["start"], row), 1)
                    reach = emitter.minimum(count, emitter.sub(seen, first))
                more = []
                for name, stack in (("mask", self.p.mask), ("drop", self.p.drop)):
                    there = "%q"
                    if stack is not None:
                        to = emitter.add(emitter.mul(row, value[f"{name}_row"]), first)
                        there = vector.address(f"%{name}", to)
                    more.append(there)
                q = vector.address("%q", emitter.mul(row, value["q_row"]))
                to_scores = vector.address(place["few"], emitter.mul(row, FEW_KEYS))
                state = [vector.address(place[name], row) for name in STATE]
                indices = {**here, "reach": reach}
                self.few.call(emitter, (q, k, *more, to_scores, *state), indices)

            emitter.loop(0, value["rows"], 1, query)
            strides: dict[str, Index] = {"a_row": FEW_KEYS, "a_step": 1}

            def add(product: StridedProduct) -> None:
                few, once = place["few"], self.once[True]
                self._add_values(emitter, product, few, place, here, first, strides, once)

            one, more = self.one_row, self.four_rows
            if one is not None and more is not None:
                several = emitter.less(1, value["rows"])
                emitter.when(several, lambda: add(more), lambda: add(one))
            else:
                add(one or more)

        emitter.loop(0, value["limit"], FEW_KEYS, keys)

    def _few(self) -> Subroutine:
        """The weights of `count` keys for one query, of which `reach` are seen: q, k, mask, drop,
        scores and the query's state."""
        routine = Subroutine(
            ("q", "k", "mask", "drop", "scores", *STATE),
            {"count": None, "reach": None, "size": self.p.size, "k_row": self.p.k.row},
        )
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value, lanes = routine.values, self.lanes
        count, lowest = value["count"], constant(vector, -INFINITY)
        self._few_scores(vector, value)

        def top_of(at: Index, carried: Sequence[str]) -> list[str]:
            to = vector.address("%scores", at)
            score = binary(vector, "fmul", vector.load(to), constant(vector, self.p.scale))
            if self.p.mask is not None:
                there = vector.mask(emitter.sub(count, at))
                score = vector.add(score, vector.load(vector.address("%mask", at), there))
            seen = lower_lanes(vector, emitter.sub(value["reach"], at), 0)
            score = select(vector, seen, score, lowest)
            vector.store(score, to)
            return [larger(vector, score, carried[0])]

        found = emitter.loop(0, count, lanes, top_of, [(vector.type, lowest)])
        before, top, factor = "", largest_lane(vector, found[0]), ""
        if not self.once[True]:
            before = vector.splat(vector.load_scalar("%tops"))
            top = larger(vector, top, before)
        shift = _finite(vector, top)
        if not self.once[True]:
            factor = elementary(vector, "exp", binary(vector, "fsub", before, shift))

        def weigh(at: Index, carried: Sequence[str]) -> list[str]:
            to = vector.address("%scores", at)
            weight = elementary(vector, "exp", binary(vector, "fsub", vector.load(to), shift))
            there = vector.mask(emitter.sub(count, at)) if self.p.drop else None
            vector.store(self._kept(vector, weight, vector.address("%drop", at), there), to)
            return [vector.add(carried[0], weight)]

        found = emitter.loop(0, count, lanes, weigh, [(vector.type, vector.zero)])
        total = sum_of_lanes(vector, found[0])
        if not self.once[True]:
            summed = vector.splat(vector.load_scalar("%totals"))
            total = vector.multiply_add(summed, factor, total)
            vector.store_scalar(first_lane(vector, factor), "%factors")
        for name, made in (("tops", top), ("totals", total)):
            vector.store_scalar(first_lane(vector, made), f"%{name}")
        routine.define(self.builder, "few")
        return routine

    def _few_scores(self, vector: Vector, value: dict[str, Index]) -> None:
        """The products of the query with a few keys at a time; the last is repeated."""
        emitter, lanes, size = vector.emitter, self.lanes, value["size"]
        group = min(FEW_AT_ONCE, lanes)
        full = emitter.round_down(size, lanes)
        last = emitter.sub(value["count"], 1)

        def keys(at: Index, _none: Sequence[str]) -> None:
            places = [at, *[emitter.minimum(emitter.add(at, n), last) for n in range(1, group)]]
            rows = [vector.address("%k", emitter.mul(n, value["k_row"])) for n in places]

            def some(n: Index, carried: Sequence[str], mask: str | None) -> list[str]:
                q = vector.load(vector.address("%q", n), mask)
                loaded = [vector.load(vector.address(row, n), mask) for row in rows]
                return [vector.multiply_add(k, q, c) for k, c in zip(loaded, carried)]

            def masked(n: Index, carried: Sequence[str]) -> list[str]:
                return some(n, carried, vector.mask(emitter.sub(size, n)))

            sums = [vector.zero] * group
            for low, high, body in (
                (0, full, lambda n, carried: some(n, carried, None)),
                (full, size, masked),
            ):
                carried = [(vector.type, value) for value in sums]
                sums = emitter.loop(low, high, lanes, body, carried)
            made, kind = sums_in_lanes(vector, sums)
            emitter.store(kind, made, vector.address("%scores", at), self.element.bytes)

        emitter.loop(0, value["count"], group, keys)

    # --- both --------------------------------------------------------------------------------

    def _rescale(self) -> Subroutine:
        """Rows of sums times their factors."""
        routine = Subroutine(("sums", "factors"), {"rows": None, "width": self.p.width})
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values
        wide = self.padded(emitter, value["width"])

        def row(at: Index, _none: Sequence[str]) -> None:
            factor = vector.splat(vector.load_scalar(vector.address("%factors", at)))
            here = vector.address("%sums", emitter.mul(at, wide))

            def some(column: Index, _none: Sequence[str]) -> None:
                to = vector.address(here, column)
                vector.store(binary(vector, "fmul", vector.load(to), factor), to)

            emitter.loop(0, value["width"], self.lanes, some)

        emitter.loop(0, value["rows"], 1, row)
        routine.define(self.builder, "rescale")
        return routine

    def _finish(self) -> Subroutine:
        """The results of a block: the state, sums, and where they go, out and logs."""
        indices = {"rows": None, "columns": None, "width": self.p.width}
        routine = Subroutine((*STATE, "sums", "out", "logs"), indices)
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values

        def column(at: Index, _none: Sequence[str]) -> None:
            names = ("tops", "totals")
            top, total = (vector.load(vector.address(f"%{name}", at)) for name in names)
            none = equal(vector, total, vector.zero)
            inverse = binary(vector, "fdiv", constant(vector, 1.0), total)
            inverse = select(vector, none, vector.zero, inverse)
            vector.store(inverse, vector.address("%factors", at))
            log = vector.add(_finite(vector, top), elementary(vector, "log", total))
            log = select(vector, none, constant(vector, INFINITY), log)
            there = vector.mask(emitter.sub(value["rows"], at))
            vector.store(log, vector.address("%logs", at), there)

        emitter.loop(0, value["columns"], self.lanes, column)
        wide = self.padded(emitter, value["width"])

        def row(at: Index, _none: Sequence[str]) -> None:
            factor = vector.load_scalar(vector.address("%factors", at))
            here = vector.address("%sums", emitter.mul(at, wide))
            out = vector.address("%out", emitter.mul(at, value["width"]))
            self._scaled_row(vector, here, out, factor, value["width"])

        emitter.loop(0, value["rows"], 1, row)
        routine.define(self.builder, "finish")
        return routine

    def _scaled_row(self, vector: Vector, source: str, to: str, factor: str, count: Index) -> None:
        """`count` elements times a factor, exactly; the source may be read beyond."""
        emitter, spread = vector.emitter, vector.splat(factor)
        full = emitter.round_down(count, self.lanes)

        def some(at: Index, mask: str | None = None) -> None:
            made = binary(vector, "fmul", vector.load(vector.address(source, at)), spread)
            vector.store(made, vector.address(to, at), mask)

        def single(at: Index, _none: Sequence[str]) -> None:
            value = vector.load_scalar(vector.address(source, at))
            made = emitter.value(f"fmul {self.element.llvm} {value}, {factor}")
            vector.store_scalar(made, vector.address(to, at))

        emitter.loop(0, full, self.lanes, lambda at, _none: some(at))
        if self.element.bits in self.target.masked_bits:
            rest = emitter.sub(count, full)
            emitter.when(emitter.less(0, rest), lambda: some(full, vector.mask(rest)))
        else:
            emitter.loop(full, count, 1, single)


def _finite(vector: Vector, top: str) -> str:
    """A shift by which no score of a row without any becomes nan."""
    none = equal(vector, top, constant(vector, -INFINITY))
    return select(vector, none, vector.zero, top)
