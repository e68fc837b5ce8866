"""The kernels of attention and of its gradients: every kind of size at every feature level, in
pieces and between guards, and what they leave in memory."""

import re

import numpy as np
import pytest

from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.backends.llvm.target import TARGETS, runs_here
from graphc.backends.llvm.verify import compile_verified
from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.autodiff import grad as gradient_of

LEVELS = [name for name, target in TARGETS.items() if runs_here(target)]
# batch, queries, keys, columns of q, of v
SIZES = [
    (1, 1, 1, 1, 1), (3, 1, 700, 64, 64), (2, 8, 9, 17, 33), (1, 9, 200, 64, 64),
    (2, 48, 192, 8, 65), (1, 100, 97, 33, 130), (2, 5, 600, 9, 9),
    (0, 3, 4, 2, 2), (2, 0, 4, 3, 3), (2, 3, 0, 3, 3),
    (2, 3, 5, 1, 0), (1, 49, 193, 16, 16),
]  # fmt: skip


def types_of(sizes, mask, grad, dtype, dropout=False):
    b, t, s, d, e = sizes
    shapes = [(b, t, d), (b, s, d), (b, s, e)]
    shapes += [(b, t), (b, t), (b, t, e)] if grad else []
    shapes += [(b, t, s)] * (mask + dropout)
    return [parse_type(f"{dtype}[{', '.join(map(str, shape))}]") for shape in shapes]


def graph_of(sizes, mask=False, grad=False, dtype="f32", **attrs):
    op = composite.attention_grad if grad else composite.attention
    attrs = {"scale": 0.3, "causal": False, "dropout": False} | attrs
    types = types_of(sizes, mask, grad, dtype, attrs["dropout"])
    return trace(lambda *given: op(*given, **attrs), *types)


def arrays_of(graph, seed=0, grad=False):
    random = np.random.default_rng(seed)
    dtype = graph.params[0].type.dtype.numpy
    made = [random.standard_normal(p.type.shape).astype(dtype) for p in graph.params]
    if graph.results[0].node.attrs.get("dropout"):
        made[-1] = ((made[-1] < 0.5) * 1.5).astype(dtype)
    if grad:  # logarithms that sums of so many exponentials may have
        made[3] = (np.abs(made[3]) + np.log(max(1, made[1].shape[-2]))).astype(dtype)
    return made


def check(graph, arrays, found):
    dtype = graph.params[0].type.dtype.numpy
    truth = evaluate(graph, *arrays)
    if dtype == np.float32:
        wide = trace(
            lambda *given: graph.results[0].node.op(*given, **graph.results[0].node.attrs),
            *[parse_type(p.type.text.replace("f32", "f64")) for p in graph.params],
        )
        truth = evaluate(wide, *[a.astype(np.float64) for a in arrays])
    for got, want in zip(found, truth, strict=True):
        finite = np.abs(want[np.isfinite(want)])
        bound = 32 * np.finfo(dtype).eps * max(1.0, finite.max(initial=0))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradients"])
@pytest.mark.parametrize("dropout", [False, True], ids=["", "dropout"])
@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("level", LEVELS)
def test_sizes(level, causal, mask, dropout, grad):
    for sizes in SIZES:
        for dtype in ("f32", "f64"):
            graph = graph_of(sizes, mask, grad, dtype, causal=causal, dropout=dropout)
            arrays = arrays_of(graph, grad=grad)
            executable = compile_graph(graph, target=level)
            (kernel,) = executable.kernels
            assert kernel.kind == ("attention_grad" if grad else "attention")
            check(graph, arrays, executable(*arrays))


@pytest.mark.parametrize("seed", range(12))
def test_random_sizes(seed):
    random = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in random.integers(1, (4, 130, 260, 70, 70)))
    causal, mask, grad, dropout = (bool(random.integers(2)) for _ in range(4))
    graph = graph_of(sizes, mask, grad, causal=causal, dropout=dropout)
    arrays = arrays_of(graph, seed, grad)
    if mask:
        at = -1 - dropout
        arrays[at][random.random(arrays[at].shape) < 0.3] = -np.inf
    check(graph, arrays, compile_graph(graph, target=LEVELS[seed % len(LEVELS)])(*arrays))


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradients"])
@pytest.mark.parametrize(
    "sizes",
    [(3, 61, 130, 9, 20), (2, 5, 21, 9, 20), ("b", "t", "s", 16, 16), ("b", "t", "s", "d", "e")],
)
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
def test_between_guards_and_in_pieces(sizes, grad, causal):
    compile_verified(graph_of(sizes, not causal, grad, causal=causal, dropout=causal))


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradients"])
@pytest.mark.parametrize("queries", [4, 100])
def test_symbolic_sizes_give_the_bits_of_static_ones(queries, grad):
    sizes, rest = (3, queries, 203, 24, 40), {"grad": grad, "dropout": True}
    static = compile_graph(graph_of(sizes, True, **rest))
    arrays = arrays_of(graph_of(sizes, True, **rest), grad=grad)
    want = [x.tobytes() for x in static(*arrays)]
    for symbols in (("b", queries, "s", 24, 40), ("b", "t", "s", 24, 40), tuple("btsde")):
        symbolic = compile_graph(graph_of(symbols, True, **rest))
        assert [x.tobytes() for x in symbolic(*arrays)] == want, symbols


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradients"])
def test_all_products_of_a_kernel_share_a_tile(grad):
    """What a kernel takes to compile is its text: 30 ms for some 800 lines."""
    graph = graph_of((8, 512, 512, 64, 64), grad=grad, causal=True)
    (kernel,) = prepare(graph, target="avx512").reports
    tiles = re.findall(r"^define .*@(tile\w+)\(", kernel.text, re.MULTILINE)
    assert len(tiles) == 1 and kernel.text.count("\n") < 900


def test_memory_need_not_be_aligned():
    graph = graph_of((2, 50, 70, 16, 16))
    arrays = arrays_of(graph)
    executable = compile_graph(graph)
    want = [x.tobytes() for x in executable(*arrays)]

    def moved(array):
        room = np.zeros(array.nbytes + 64, np.uint8)
        start = -room.ctypes.data % 64 + 4  # a float behind a line of the cache
        view = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view

    inputs = [moved(a) for a in arrays]
    outputs = [moved(np.zeros(r.type.shape, np.float32)) for r in graph.results]
    executable.run([a.ctypes.data for a in inputs], [a.ctypes.data for a in outputs])
    assert [x.tobytes() for x in outputs] == want


def test_rows_without_keys_are_zero_and_have_no_gradients():
    sizes = (1, 20, 30, 8, 8)
    forward, back = graph_of(sizes, True), graph_of(sizes, True, grad=True)
    q, k, v, mask = arrays_of(forward)
    mask[:, 3] = -np.inf
    out, logs = compile_graph(forward)(q, k, v, mask)
    assert not out[:, 3].any() and np.isinf(logs[0, 3]) and np.isfinite(np.delete(logs, 3, 1)).all()
    dq, dk, dv = compile_graph(back)(q, k, v, logs, np.zeros_like(logs), out, mask)
    assert not dq[:, 3].any()
    assert all(np.isfinite(x).all() for x in (dq, dk, dv))


def test_views_with_steps_are_read_where_they_lie():
    def attend(qkv):
        b, t, _ = qkv.type.shape
        parts = []
        for n in range(3):
            part = ops.slice_(qkv, start=(0, 0, 32 * n), stop=(b, t, 32 * n + 32), step=(1, 1, 1))
            part = ops.reshape(part, shape=(b, t, 4, 8))
            parts.append(ops.permute(part, perm=(0, 2, 1, 3)))
        return composite.attention(*parts, scale=0.3, causal=True)[0]

    graph = trace(attend, parse_type("f32[3, 60, 96]"))
    executable = compile_graph(graph)
    assert [kernel.kind for kernel in executable.kernels] == ["attention"]
    (given,) = arrays_of(graph)
    np.testing.assert_allclose(executable(given)[0], evaluate(graph, given)[0], atol=2e-6)


def test_columns_apart_are_copied():
    graph = trace(
        lambda q, k, v: composite.attention(ops.permute(q, perm=(1, 0)), k, v, scale=0.3),
        *map(parse_type, ("f32[8, 20]", "f32[30, 8]", "f32[30, 8]")),
    )
    executable = compile_graph(graph)
    assert [kernel.kind for kernel in executable.kernels] == ["map", "attention"]
    arrays = arrays_of(graph)
    for found, want in zip(executable(*arrays), evaluate(graph, *arrays), strict=True):
        np.testing.assert_allclose(found, want, atol=2e-6)


# The batch axes, those of the mask
SHARED = [((2,), (2,)), ((3,), (1,)), ((2, 3), (1, 3)), ((2, 3), (2, 1)), ((2, 3, 2), (1, 3, 1))]


def mask_graph(batch, own, t, s, dtype="f32", **attrs):
    shapes = [(*batch, t, 5), (*batch, s, 5), (*batch, s, 9), (*batch, t), (*batch, t)]
    shapes += [(*batch, t, 9), (*own, t, s)]
    shapes += [(*batch, t, s)] if attrs.get("dropout") else []
    types = [parse_type(f"{dtype}[{', '.join(map(str, shape))}]") for shape in shapes]
    attrs = {"scale": 0.3, "causal": False, "dropout": False, "of_mask": True} | attrs
    return trace(lambda *given: composite.attention_grad(*given, **attrs), *types)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("level", LEVELS)
def test_gradients_of_masks(level, dtype):
    for batch, own in SHARED:
        for t, s in ((70, 203), (9, 8), (1, 7), (33, 0), (0, 3)):
            for attrs in ({}, {"causal": True}, {"dropout": True}):
                graph = mask_graph(batch, own, t, s, dtype, **attrs)
                arrays = arrays_of(graph, grad=True)
                executable = compile_graph(graph, target=level)
                (kernel,) = executable.kernels
                assert kernel.kind == "attention_grad"
                check(graph, arrays, executable(*arrays))


@pytest.mark.parametrize("batch, own", SHARED)
def test_gradients_of_masks_between_guards_and_in_pieces(batch, own):
    compile_verified(mask_graph(batch, own, 61, 130))


def test_symbolic_gradients_of_masks_have_the_bits_of_static_ones():
    static = mask_graph((2, 3), (1, 3), 41, 101)
    arrays = arrays_of(static, grad=True)
    want = [x.tobytes() for x in compile_graph(static)(*arrays)]
    for names in (("b", "h", "t", "s"), ("b", 3, "t", 101)):
        symbolic = compile_graph(mask_graph(names[:2], (1, names[1]), *names[2:]))
        assert [x.tobytes() for x in symbolic(*arrays)] == want


def test_a_shared_mask_has_its_gradient_without_scores():
    """A bias of each head, for a batch: what is there between the kernels is no matrix of scores of
    the batch."""

    def loss(q, k, v, mask):
        out = composite.attention(q, k, v, mask, scale=0.125)[0]
        return ops.reduce_sum(out * out, axes=(0, 1, 2, 3))

    types = [parse_type("f32[16, 4, 256, 32]")] * 3 + [parse_type("f32[1, 4, 256, 256]")]
    executable = compile_graph(core_graph(gradient_of(trace(loss, *types))))
    kinds = [kernel.kind for kernel in executable.kernels]
    assert kinds.count("attention_grad") == 1 and "dot" not in kinds
    assert executable.arena_bytes < 16 * 4 * 256 * 256 * 4 / 2


def test_no_matrix_of_scores_is_in_memory():
    """Forward and backward over 4096 keys: all that is there between the kernels is of the size of
    the operands."""

    def loss(q, k, v):
        out = composite.attention(q, k, v, scale=0.125, causal=True)[0]
        return ops.reduce_sum(out * out, axes=(0, 1, 2, 3))

    types = [parse_type("f32[1, 8, 4096, 64]")] * 3
    graph = core_graph(gradient_of(trace(loss, *types)))
    executable = compile_graph(graph)
    kinds = [kernel.kind for kernel in executable.kernels]
    assert kinds.count("attention") == kinds.count("attention_grad") == 1 and "dot" not in kinds
    operand, scores = 8 * 4096 * 64 * 4, 8 * 4096 * 4096 * 4
    assert executable.arena_bytes < 4 * operand < scores / 8
