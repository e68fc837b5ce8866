"""The kernel of attention: see `attention.py` for how it goes."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.attention import (
    FEW,
    FEW_KEYS,
    INFINITY,
    KEYS,
    ROWS,
    AttentionProblem,
    AttentionWriter,
    ByKeys,
    Form,
)
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
    tree_sums,
)
from graphc.backends.llvm.contract.packing import copy_row
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

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
    wide = width + target.lanes(8 * bytes_each)
    return bytes_each * (_FIXED + ROWS * size + ROWS * wide)


_PARTS = {
    "scores": KEYS * ROWS,
    "masks": KEYS * ROWS,
    "drops": KEYS * ROWS,
    "few": FEW * FEW_KEYS,
    **dict.fromkeys(STATE, ROWS),
}
_FIXED = sum(_PARTS.values()) + 64  # some vectors that the last loop of a fill may write


class _Writer(AttentionWriter):
    """Writes one kernel."""

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        super().__init__(problem, target)
        self.operands = (*problem.stacks, "out", "sums")
        self.entry = entry_emitter(self.operands, self.sizes)
        most = problem.queries
        #: Whether there may be few queries, or many.
        self.sides = [few for few in (True, False) if most is None or (most <= FEW) is few]

    def kernel(self) -> Kernel:
        self.begin, self.finish = self._begin(), self._finish()
        if False in self.sides:
            self.define_turner()
            self.scores = self.tiles_of_keys(ByKeys("k", "size", scores=True, tops=True))
            self.weigh = self._weigh()
            form = Form(1, ROWS, "v_row", "width", scaled=True)
            self.values_of = self.product_tiles(form, "width", [self.tiles.values[0]])
        if True in self.sides:
            self.few = self._few()
            form = Form(FEW_KEYS, 1, "v_row", "width", scaled=True)
            self.values_of_few = self.product_tiles(form, "width", [4, 1])
        self.block = {few: self._block(few) for few in self.sides}
        self.entry.loop("%lo", "%hi", 1, lambda unit, _none: self._unit(unit))
        count = Emitter([f"i64 %{name}" for name in self.sizes], result="i64")
        blocks = count.ceil_div(self.values()["queries"], ROWS)
        units = count.mul(self.stack_size(count), blocks)
        return self.finished("attention", count, units, attention_scratch)

    def _unit(self, unit: Index) -> None:
        """A block of queries of a matrix."""
        emitter, value, vector = self.entry, self.values(), self.on(self.entry)
        queries, keys = value["queries"], value["keys"]
        blocks = emitter.ceil_div(queries, ROWS)
        b = emitter.floor_div_any(unit, blocks)
        start = emitter.mul(emitter.remainder(unit, b, blocks), ROWS)
        rows = emitter.minimum(emitter.sub(queries, start), ROWS)
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
        routine = self.routine((*self.operands, "scratch"), ("start", "rows", "limit"))
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value = dict(routine.values)
        value["vectors"] = emitter.ceil_div(value["rows"], self.lanes)
        wide = self.padded(emitter, value["width"])
        at: Index = 0
        place: dict[str, str] = {}
        for name, count in _PARTS.items():
            place[name] = vector.address("%scratch", at)
            at = emitter.add(at, count)
        place["panel"] = vector.address("%scratch", at)
        at = emitter.add(at, emitter.mul(value["size"], ROWS))
        place["sums"] = vector.address("%scratch", at)
        state = [place[name] for name in STATE]
        elements = emitter.mul(value["rows"], wide)
        self.begin.call(emitter, (*state[:3], place["sums"]), {**value, "count": elements})
        if few:
            self._few_keys(emitter, place, value)
        else:
            self._many_keys(emitter, place, value)
        pointers = (*state, place["sums"], "%out", "%sums")
        self.finish.call(emitter, pointers, value)
        routine.define(self.builder, "few_queries" if few else "queries")
        return routine

    # --- many queries ------------------------------------------------------------------------

    def _many_keys(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        vector, rows = self.on(emitter), value["rows"]
        columns = emitter.mul(value["vectors"], self.lanes)
        self.turn(emitter, "%q", place["panel"], value["size"], value["q_row"], rows, columns)

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(value["limit"], first), KEYS)
            for name, stack in (("mask", self.p.mask), ("drop", self.p.drop)):
                if stack is not None:
                    here, row = vector.address(f"%{name}", first), value[f"{name}_row"]
                    self.turn(emitter, here, place[f"{name}s"], count, row, rows, columns)
            k = vector.address("%k", emitter.mul(first, value["k_row"]))
            pointers = (k, *[place[name] for name in ("panel", "masks", "scores", "tops")])
            self.by_keys(emitter, self.scores, pointers, value, first, count)
            state = [place[name] for name in STATE]
            pointers = (place["scores"], place["drops"], *state)
            self.weigh.call(emitter, pointers, {**value, "count": count})
            v = vector.address("%v", emitter.mul(first, value["v_row"]))
            operands = (place["scores"], v, place["sums"], place["factors"])
            self.product(emitter, self.values_of, operands, value, rows, count)

        emitter.loop(0, value["limit"], KEYS, keys)

    def _weigh(self) -> Subroutine:
        """Turns the scores of `count` keys into weights: scores, their factors, the state."""
        routine = self.routine(("scores", "drops", *STATE), ("count", "vectors"))
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value = routine.values

        def column(at: Index, _none: Sequence[str]) -> None:
            tops, before, totals, factors = (vector.address(f"%{name}", at) for name in STATE)
            top = vector.load(tops)
            shift = _finite(vector, top)
            moved = binary(vector, "fsub", vector.load(before), shift)
            factor = elementary(vector, "exp", moved)
            vector.store(top, before)
            here = vector.address("%scores", at)

            def key(n: Index, carried: Sequence[str]) -> list[str]:
                row = emitter.mul(n, ROWS)
                to = vector.address(here, row)
                moved = binary(vector, "fsub", vector.load(to), shift)
                weight = elementary(vector, "exp", moved)
                drop = vector.address("%drops", emitter.add(row, at))
                vector.store(self._kept(vector, weight, drop), to)
                return [vector.add(carried[0], weight)]

            (total,) = emitter.loop(0, value["count"], 1, key, [(vector.type, vector.zero)])
            vector.store(vector.multiply_add(vector.load(totals), factor, total), totals)
            vector.store(factor, factors)

        end = emitter.mul(value["vectors"], self.lanes)
        emitter.loop(0, end, self.lanes, column)
        routine.define(self.builder, "weigh")
        return routine

    def _kept(self, vector: Vector, weight: str, drop: str, mask: str | None = None) -> str:
        """What dropout leaves of weights, whose factors are at `drop`; sums are of all of them."""
        if self.p.drop is None:
            return weight
        return binary(vector, "fmul", weight, vector.load(drop, mask))

    # --- few queries -------------------------------------------------------------------------

    def _few_keys(self, emitter: Emitter, place: dict[str, str], value: dict[str, Index]) -> None:
        vector = self.on(emitter)

        def keys(first: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(value["limit"], first), FEW_KEYS)
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
                indices = {**value, "count": count, "reach": reach}
                self.few.call(emitter, (q, k, *more, to_scores, *state), indices)

            emitter.loop(0, value["rows"], 1, query)
            v = vector.address("%v", emitter.mul(first, value["v_row"]))
            operands = (place["few"], v, place["sums"], place["factors"])
            self.product(emitter, self.values_of_few, operands, value, value["rows"], count)

        emitter.loop(0, value["limit"], FEW_KEYS, keys)

    def _few(self) -> Subroutine:
        """The weights of `count` keys for one query, of which `reach` are seen: q, k, mask, drop,
        scores and the query's state."""
        pointers = ("q", "k", "mask", "drop", "scores", *STATE)
        routine = self.routine(pointers, ("count", "reach"))
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value, lanes = routine.values, self.lanes
        lowest = constant(vector, -INFINITY)

        def group(at: Index, carried: Sequence[str], whole: bool) -> list[str]:
            score = self._few_scores(emitter, value, at, whole)
            score = binary(vector, "fmul", score, constant(vector, self.p.scale))
            if self.p.mask is not None:
                there = vector.mask(emitter.sub(value["count"], at))
                more = vector.load(vector.address("%mask", at), there)
                score = vector.add(score, more)
            seen = lower_lanes(vector, emitter.sub(value["reach"], at), 0)
            score = select(vector, seen, score, lowest)
            vector.store(score, vector.address("%scores", at))
            return [larger(vector, score, carried[0])]

        count, start = value["count"], [(vector.type, lowest)]
        full = emitter.round_down(count, lanes)
        found = emitter.loop(0, full, lanes, lambda at, tops: group(at, tops, True), start)
        start = [(vector.type, found[0])]
        found = emitter.loop(full, count, lanes, lambda at, tops: group(at, tops, False), start)
        before = vector.splat(vector.load_scalar("%tops"))
        top = larger(vector, largest_lane(vector, found[0]), before)
        shift = _finite(vector, top)
        factor = elementary(vector, "exp", binary(vector, "fsub", before, shift))

        def weigh(at: Index, carried: Sequence[str]) -> list[str]:
            to = vector.address("%scores", at)
            weight = elementary(vector, "exp", binary(vector, "fsub", vector.load(to), shift))
            there = vector.mask(emitter.sub(value["count"], at)) if self.p.drop else None
            vector.store(self._kept(vector, weight, vector.address("%drop", at), there), to)
            return [vector.add(carried[0], weight)]

        found = emitter.loop(0, value["count"], lanes, weigh, [(vector.type, vector.zero)])
        total = sum_of_lanes(vector, found[0])
        summed = vector.splat(vector.load_scalar("%totals"))
        summed = vector.multiply_add(summed, factor, total)
        for name, made in (("tops", top), ("totals", summed), ("factors", factor)):
            vector.store_scalar(first_lane(vector, made), f"%{name}")
        routine.define(self.builder, "few")
        return routine

    def _few_scores(self, emitter: Emitter, value: dict[str, Index], at: Index, whole: bool) -> str:
        """The products of the query with a vector of keys from `at`; where these are not a whole
        one, the last is repeated."""
        vector, lanes, size = self.on(emitter), self.lanes, value["size"]
        last = emitter.sub(emitter.sub(value["count"], 1), at)
        keys = [lane if whole else emitter.minimum(lane, last) for lane in range(lanes)]
        rows = [emitter.mul(key, value["k_row"]) for key in keys]
        first = vector.address("%k", emitter.mul(at, value["k_row"]))

        def some(n: Index, carried: Sequence[str], mask: str | None) -> list[str]:
            q, here = vector.load(vector.address("%q", n), mask), vector.address(first, n)
            loaded = [vector.load(vector.address(here, row), mask) for row in rows]
            return [vector.multiply_add(k, q, c) for k, c in zip(loaded, carried)]

        start = [(vector.type, vector.zero)] * lanes
        full = emitter.round_down(size, lanes)
        sums = emitter.loop(0, full, lanes, lambda n, carried: some(n, carried, None), start)

        def masked(n: Index, carried: Sequence[str]) -> list[str]:
            return some(n, carried, vector.mask(emitter.sub(size, n)))

        rest = [(vector.type, value) for value in sums]
        return tree_sums(vector, emitter.loop(full, size, lanes, masked, rest))

    # --- both --------------------------------------------------------------------------------

    def _begin(self) -> Subroutine:
        """Nothing is summed yet: tops, before, totals, and `count` elements of sums."""
        routine = self.routine(("tops", "before", "totals", "sums"), ("count",))
        emitter, vector = routine.emitter, self.on(routine.emitter)

        def fill(pointer: str, count: Index, with_: str) -> None:
            def one(at: Index, _none: Sequence[str]) -> None:
                vector.store(with_, vector.address(pointer, at))

            emitter.loop(0, count, self.lanes, one)

        fill("%tops", ROWS, constant(vector, -INFINITY))
        fill("%before", ROWS, constant(vector, -INFINITY))
        fill("%totals", ROWS, vector.zero)
        fill("%sums", routine.values["count"], vector.zero)
        routine.define(self.builder, "begin")
        return routine

    def _finish(self) -> Subroutine:
        """The results of a block: the state, sums, and where they go, out and logs."""
        routine = self.routine((*STATE, "sums", "out", "logs"), ("rows", "vectors"))
        emitter, vector = routine.emitter, self.on(routine.emitter)
        value = routine.values

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

        end = emitter.mul(value["vectors"], self.lanes)
        emitter.loop(0, end, self.lanes, column)
        wide = self.padded(emitter, value["width"])

        def row(at: Index, _none: Sequence[str]) -> None:
            factor = vector.splat(vector.load_scalar(vector.address("%factors", at)))
            here = vector.address("%sums", emitter.mul(at, wide))

            def some(column: Index, _none: Sequence[str]) -> None:
                to = vector.address(here, column)
                vector.store(binary(vector, "fmul", vector.load(to), factor), to)

            emitter.loop(0, value["width"], self.lanes, some)
            out = vector.address("%out", emitter.mul(at, value["width"]))
            copy_row(vector, self.element, here, out, value["width"])

        emitter.loop(0, value["rows"], 1, row)
        routine.define(self.builder, "finish")
        return routine


def _finite(vector: Vector, top: str) -> str:
    """A shift by which no score of a row without any becomes nan."""
    none = equal(vector, top, constant(vector, -INFINITY))
    return select(vector, none, vector.zero, top)
