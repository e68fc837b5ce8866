"""Which condition a flag tests, and that it is True exactly where an index is wrong."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.functional.lookup import gathered, scattered
from graphc.ir.build import trace
from graphc.ir.errors import BoundsError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.checks import add_checks, own_rows

SHAPES = [
    # source, index, axis
    ((7, 40), (7, 9), 1),
    ((7, 40), (5, 40), 0),
    ((3, 20, 4), (3, 5, 3), 1),
    ((3, 1, 4), (2, 6, 4), 1),
    ((5, 6), (5, 0), 1),
]


def types_of(shape, index):
    lines = [", ".join(map(str, sizes)) for sizes in (shape, index)]
    return parse_type(f"f32[{lines[0]}]"), parse_type(f"i64[{lines[1]}]")


@pytest.mark.parametrize(("shape", "index", "axis"), SHAPES)
def test_an_index_along_an_axis_is_checked_where_it_is_made(shape, index, axis):
    graph = trace(lambda x, i: [gathered(x, i, axis)], *types_of(shape, index))
    checked = add_checks(graph)
    for check in checked.checks:
        operands = [node.op.name for node in checked.graph.nodes if check.flag in node.outputs]
        assert operands == ["reduce_max"]
        assert check.flag.node.inputs[0].node.op.name == "not"
    executable = compile_graph(graph)
    rng = np.random.default_rng(0)
    x, places = rng.random(shape, "f4"), rng.integers(0, shape[axis], index)
    expected = evaluate(graph, x, places)[0]
    np.testing.assert_array_equal(executable(x, places)[0], expected)
    for bad in (-1, shape[axis], 1 << 40, -(1 << 62), (1 << 62) + 1) if places.size else ():
        wrong = places.copy()
        wrong.flat[wrong.size // 2] = bad
        with pytest.raises(BoundsError):
            executable(x, wrong)


@pytest.mark.parametrize(("shape", "index", "axis"), SHAPES)
def test_an_index_along_an_axis_that_is_written(shape, index, axis):
    update = parse_type(f"f32[{', '.join(map(str, index))}]")
    graph = trace(
        lambda x, i, y: [scattered(x, i, y, axis, "add")], *types_of(shape, index), update
    )
    executable = compile_graph(graph)
    rng = np.random.default_rng(0)
    x, places = rng.random(shape, "f4"), rng.integers(0, shape[axis], index)
    y = rng.random(index, "f4")
    np.testing.assert_allclose(executable(x, places, y)[0], evaluate(graph, x, places, y)[0], 1e-6)
    if places.size:
        places.flat[-1] = shape[axis]
        with pytest.raises(BoundsError):
            executable(x, places, y)


@pytest.mark.parametrize(
    ("shape", "index", "axis", "rows"),
    [
        ((7, 40), (7, 9), 1, (7, 40)),
        ((3, 20, 4), (3, 5, 4), 1, (3, 80)),
        ((3, 4, 20), (3, 4, 5), 2, (3, 80)),
        ((7, 40), (5, 40), 0, None),  # a step's updates go to any row
        ((7, 40), (6, 9), 1, None),  # the last row has no updates
    ],
)
def test_updates_that_have_a_row_for_themselves(shape, index, axis, rows):
    update = parse_type(f"f32[{', '.join(map(str, index))}]")
    graph = trace(
        lambda x, i, y: [scattered(x, i, y, axis, "add")], *types_of(shape, index), update
    )
    (scatter,) = [node for node in graph.nodes if node.op.name == "scatter"]
    assert own_rows(scatter.inputs[1], scatter.inputs[0].type.shape[0]) == rows


def test_an_index_that_may_reach_the_next_row_has_no_rows():
    from graphc.functional.index import within
    from graphc.ir import ops
    from graphc.ir.dtype import I64

    def loose(x, i, y):
        safe = ops.select(within(i, 9), i, ops.full_like(-100, i))
        places = ops.add(ops.mul(ops.iota((7, 3), 0, I64), ops.full_like(8, i)), safe)
        return [ops.scatter(x, ops.reshape(places, shape=(21,)), y, axis=0, mode="add")]

    graph = trace(loose, parse_type("f32[56]"), parse_type("i64[7, 3]"), parse_type("f32[21]"))
    assert own_rows(graph.nodes[-1].inputs[1], 56) is None


def test_a_condition_that_leaves_room_for_wrong_places_is_not_trusted():
    """The index may be up to 7 here, and the source has 7 rows."""
    from graphc.functional.index import within
    from graphc.ir import ops

    def loose(x, i):
        safe = ops.select(within(i, 8), i, ops.full_like(-5, i))
        return [ops.gather(x, safe, axis=0)]

    executable = compile_graph(trace(loose, parse_type("f32[7]"), parse_type("i64[3]")))
    x = np.arange(7, dtype="f4")
    assert executable(x, np.array([6, 0, 1]))[0].tolist() == [6, 0, 1]
    for bad in (7, 8, -1):
        with pytest.raises(BoundsError):
            executable(x, np.array([0, bad, 1]))


def test_a_table_in_another_shape_is_read_where_it_lies():
    graph = trace(
        lambda x, i: [gathered(x, i, 1)], parse_type("f32[200, 512]"), parse_type("i64[200, 128]")
    )
    kinds = [report.kind for report in prepare(graph).reports]
    assert kinds == ["rows", "map"]
