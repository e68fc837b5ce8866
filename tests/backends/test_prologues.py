"""Maps that products compute where they pack an operand: the same bits as kernels of their own,
which maps are taken, and why the others are not."""

import numpy as np
import pytest

from graphc.backends.llvm import pool
from graphc.backends.llvm.compile import compile_graph, load, prepare
from graphc.backends.llvm.contract.gemm_form import GemmProblem
from graphc.backends.llvm.contract.gemm_reads import operand_counts
from graphc.backends.llvm.target import TARGETS
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.dtype import F32, F64
from graphc.ir.text import parse_type
from graphc.passes.fuse import prologue
from tests.backends.contract_runner import LEVELS
from tests.backends.test_compile_ops import assert_close, o, random_array, run, wide


@pytest.fixture
def always(monkeypatch):
    """Costs by which every map that can be a prologue is one."""
    monkeypatch.setattr(prologue, "READ_AGAIN", 1e9)
    monkeypatch.setattr(prologue, "IN_CACHES", ())


def product(x, w, left=False, right=False, batched=False):
    """x times w, either transposed in memory."""
    lead = 1 if batched else 0
    sides = ((lead + (0 if left else 1),), (lead + (1 if right else 0),))
    batch = ((0,), (0,)) if batched else ((), ())
    return o.dot(x, w, contract=sides, batch=batch)


def scaled(w, s, axis):
    """A cast, and a factor for each row or column."""
    return o.mul(o.cast(w, dtype=F32), wide(s, w.type.shape, axis))


def operand(size, swapped):
    rows, columns = size
    return f"{columns}, {rows}" if swapped else f"{rows}, {columns}"


def compare(function, types, sizes=None, level=None, kinds=None, threads=None, **options):
    """One kernel has the bits of several, and about the interpreter's values."""
    graph = trace(function, *map(parse_type, types))
    rng = np.random.default_rng(0)
    given = [random_array(concrete(param.type, sizes), rng) for param in graph.params]
    one = load(prepare(graph, level, **options))  # past the cache, which knows no costs
    several = compile_graph(graph, target=level, apart=True, **options)
    found = [kernel.kind for kernel in one.kernels]
    if kinds is not None:
        assert found == kinds
    assert len(several.kernels) > len(found)
    for array, expected in zip(one(*given), several(*given), strict=True):
        assert array.tobytes() == expected.tobytes()
    return one, given


def concrete(type, sizes):
    if not sizes:
        return type
    shape = ", ".join([str(sizes.get(str(size), size)) for size in type.shape])
    return parse_type(f"{type.dtype.name}[{shape}]")


# Sizes (m, k, n): few rows and columns, sums across lanes, one block, several blocks of k and of
# columns, and odd rests.
SIZES = [
    (1, 70, 33), (1, 300, 1), (1, 20, 1), (1, 300, 100), (2, 400, 45), (4, 65, 130), (5, 33, 1),
    (90, 300, 1), (90, 20, 1), (7, 700, 9), (33, 50, 70), (67, 129, 35), (130, 270, 5),
    (210, 300, 5), (40, 2100, 33), (150, 40, 600), (3, 3, 3), (20, 5, 700),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("left", [False, True], ids=["", "left transposed"])
@pytest.mark.parametrize("right", [False, True], ids=["", "right transposed"])
def test_one_kernel_with_the_bits_of_three(left, right, level, always):
    def both(x, s, w, t):
        return product(scaled(x, s, 1), o.exp(scaled(w, t, 0)), left, right)

    for m, k, n in SIZES:
        x, w = operand((m, k), left), operand((k, n), right)
        types = [
            f"i8[{x}]", f"f32[{x.split(', ')[0]}]", f"f16[{w}]", f"f32[{w.split(', ')[1]}]",
        ]  # fmt: skip
        compare(both, types, level=level, kinds=["map, dot"])


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_batches_doubles_and_epilogues(level, always):
    def batches(x, w):
        return o.tanh(product(o.mul(x, x), o.max(w, 0.0), batched=True))

    def one_matrix_for_all(x, s, w):
        w = wide(o.mul(w, 2.0), (3, 21, 17), 0)
        return product(o.add(x, wide(s, (3, 9, 21), 1, 2)), w, batched=True)

    def doubles(x, w, b):
        return o.add(product(o.cast(x, dtype=F64), o.sqrt(o.abs(w))), wide(b, (33, 70), 0))

    compare(batches, ["f32[3, 40, 21]", "f32[3, 21, 17]"], level=level, kinds=["map, dot, map"])
    compare(one_matrix_for_all, ["f32[3, 9, 21]", "f32[3]", "f32[21, 17]"], level=level)
    types = ["u8[33, 50]", "f64[50, 70]", "f64[70]"]
    compare(doubles, types, level=level, kinds=["map, dot, map"])


@pytest.mark.parametrize("rows", [0, 1, 3, 24, 25, 131])
@pytest.mark.parametrize("columns", [1, 5, 40])
@pytest.mark.parametrize("right", [False, True], ids=["", "right transposed"])
def test_symbolic_rows(rows, columns, right, always):
    def layer(x, w, s):
        x = o.max(o.add(x, wide(s, x.type.shape, 0)), 0.0)
        return product(x, scaled(w, s, 1 if not right else 0), right=right)

    types = ["f32[n, 300]", f"i8[{operand((300, columns), right)}]", "f32[300]"]
    executable, given = compare(
        layer, types, {"n": rows}, kinds=["map, dot"], dims={"n": Facts(lo=0)}
    )
    w = given[1].astype("f4")
    w = w * given[2][None] if right else (w * given[2][:, None]).T
    (found,) = executable(*given)
    assert_close(found, np.maximum(given[0] + given[2], 0) @ w.T, 1e-5)


@pytest.mark.parametrize("rows", [1, 5, 30, 131])
def test_symbolic_columns(rows, always):
    """The number of rows that sums across lanes would copy is not known: A is in memory."""

    def layer(x, w):
        return product(o.exp(x), o.mul(w, 2.0), right=True)

    types = ["f32[131, 300]", "f32[n, 300]"]
    kinds = ["map", "map, dot"]
    compare(layer, types, {"n": rows}, kinds=kinds, dims={"n": Facts(lo=1)})


@pytest.mark.parametrize("rows", [1, 20, 400])
def test_threads_pack_what_they_compute(rows, always):
    def layer(x, w):
        return product(o.exp(x), o.mul(w, w), right=True)

    before = pool.get_num_threads()
    try:
        pool.set_num_threads(2)
        compare(layer, [f"f32[{rows}, 700]", "f32[900, 700]"], kinds=["map, dot"], fork=0.0)
    finally:
        pool.set_num_threads(before)


def random_layer(rng):
    """A product of random sizes and layout, with random maps before and after it."""
    sizes = [int(rng.choice([1, 2, 4, 7, 16, 25, 33, 64, 90, 257, 400])) for _ in range(3)]
    m, k, n = sizes
    batched, left, right = rng.random(3) < [0.3, 0.4, 0.5]
    lead = (3,) if batched else ()
    shapes = (*lead, *((k, m) if left else (m, k))), (*lead, *((n, k) if right else (k, n)))
    sides = [(shape, rng.choice(list(NARROW)), list(rng.permutation(4)[:2])) for shape in shapes]
    types = [f"{dtype}[{', '.join(map(str, shape))}]" for shape, dtype, _ in sides]
    types += [f"f32[{shape[axis]}]" for shape, *_ in sides for axis in (-2, -1)]

    def mapped(x, chosen, by_row, by_column):
        shape, last = x.type.shape, len(x.type.shape) - 1
        others = [axis for axis in range(last + 1)]
        x = o.cast(x, dtype=F32)
        steps = [
            lambda x: o.mul(x, wide(by_row, shape, *[a for a in others if a != last - 1])),
            lambda x: o.add(x, wide(by_column, shape, *others[:-1])),
            lambda x: o.max(x, 0.25),
            o.tanh,
        ]
        for place in chosen:
            x = steps[place](x)
        return x

    def layer(x, w, *factors):
        x = mapped(x, sides[0][2], *factors[:2])
        w = mapped(w, sides[1][2], *factors[2:])
        y = product(x, w, bool(left), bool(right), bool(batched))
        return o.mul(y, 0.5) if rng.random() < 0.5 else y

    return layer, types


NARROW = ("f32", "i8", "u8", "f16", "bf16", "bool", "f64")


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_random_layers(level, always):
    rng = np.random.default_rng(5)
    for _ in range(12):
        layer, types = random_layer(rng)
        compare(layer, types, level=level)


def test_a_map_with_no_value_beyond_the_last_element(always):
    """1 / 0 in the lanes that a rest of k leaves out may not reach a sum."""

    def inverse(x, w):
        return product(x, o.div(1.0, w), right=True)

    executable, given = compare(inverse, ["f32[1, 300]", "f32[33, 300]"], kinds=["map, dot"])
    assert np.isfinite(executable(*given)[0]).all()


def kernels(function, *types):
    executable = compile_graph(trace(function, *map(parse_type, types)))
    reasons = [refusal.reason for refusal in executable.refusals]
    return [kernel.kind for kernel in executable.kernels], reasons


def test_weights_are_widened_where_they_are_read():
    def linear(x, w, s):
        return product(x, scaled(w, s, 1), right=True)

    for rows in (1, 4, 16):
        types = [f"f32[{rows}, 1024]", "i8[4096, 1024]", "f32[4096]"]
        assert kernels(linear, *types) == (["map, dot"], [])


def test_why_a_map_stays_a_kernel():
    def read_twice(x, w):
        y = o.exp(x)
        return product(y, w), o.reduce_sum(product(y, w, left=True), axes=(0,))

    def a_result(x, w):
        y = o.exp(x)
        return y, product(y, w)

    def turned(x, y, w):
        return product(o.mul(x, o.permute(y, perm=(1, 0))), w)

    def of_its_rows(x, w):
        total = wide(o.reduce_sum(x, axes=(1,)), x.type.shape, 1)
        return product(o.div(x, total), w)

    def both_sides(x):
        y = o.exp(x)
        return product(y, y, right=True)

    def dear(x, w):
        return product(o.tanh(x), w, right=True)

    def convolved(x, w):
        plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        return o.conv(o.tanh(x), w, **plain)

    def read_by_an_epilogue(x, w):
        y = o.exp(x)
        return o.add(product(y, w), y)

    square = ["f32[64, 64]", "f32[64, 64]"]
    several = "a product's operand that others read too"
    for function, types, reason in (
        (read_twice, square, several),
        (a_result, square, several),
        (read_by_an_epilogue, square, several),
        (both_sides, square[:1], several),
        (turned, [*square, "f32[64, 64]"], "a product's operand that is read at other places"),
        (of_its_rows, square, "a product reads rows that need their own sums first"),
        (dear, ["f32[128, 768]", "f32[3072, 768]"], "a product's operand, computed"),
        (convolved, ["f32[1, 8, 9, 9]", "f32[8, 8, 1, 1]"], "a product whose kernel reads"),
    ):
        kinds, reasons = kernels(function, *types)
        run(function, *types)
        assert not any([kind.startswith("map, ") for kind in kinds]), function.__name__
        assert any([found.startswith(reason) for found in reasons]), (function.__name__, reasons)


def test_how_often_operands_are_read():
    level = TARGETS["avx512"]
    # A row of x in registers, and each row of the weight once.
    decode = GemmProblem(1, 4096, 1024, transpose_b=True)
    assert operand_counts(decode, level)[1] == (1, 0)
    # Blocks of columns: A is read for each of them.
    wide_product = GemmProblem(512, 3072, 768)
    (times, copies), _ = operand_counts(wide_product, level)
    assert times > 1 and copies > times
    panels = GemmProblem(512, 768, 768, panel=32)
    assert operand_counts(panels, level)[1] is None
