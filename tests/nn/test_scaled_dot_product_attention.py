"""Scaled dot-product attention against torch, and the same bits however it is run."""

import warnings

import numpy as np
import pytest

import graphc
from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import prepare
from graphc.debug.compiled import compile_for_view
from graphc.debug.explain import explain
from graphc.nn.functional import scaled_dot_product_attention

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

CAUSAL, GROUPED = {"is_causal": True}, {"enable_gqa": True}
# q, k and v, the mask's shape and kind, the rest
CASES = {
    "plain": ((2, 3, 60, 16), (2, 3, 130, 16), (2, 3, 130, 20), None, {}),
    "causal": ((2, 50, 8), (2, 50, 8), (2, 50, 8), None, CAUSAL),
    "causal, more keys": ((1, 2, 20, 8), (1, 2, 33, 8), (1, 2, 33, 8), None, CAUSAL),
    "causal, more queries": ((1, 2, 70, 8), (1, 2, 33, 8), (1, 2, 33, 8), None, CAUSAL),
    "matrices": ((19, 8), (7, 8), (7, 3), None, {}),
    "bool mask": ((2, 3, 20, 8), (2, 3, 37, 8), (2, 3, 37, 8), ((20, 37), bool), {}),
    "mask of keys": ((2, 3, 20, 8), (2, 3, 37, 8), (2, 3, 37, 8), ((2, 1, 1, 37), bool), {}),
    "mask of queries": ((2, 3, 20, 8), (2, 3, 37, 8), (2, 3, 37, 8), ((20, 1), float), {}),
    "float mask": ((2, 3, 20, 8), (2, 3, 37, 8), (2, 3, 37, 8), ((2, 3, 20, 37), float), {}),
    "bias of heads": ((2, 3, 70, 8), (2, 3, 130, 8), (2, 3, 130, 8), ((1, 3, 70, 130), float), {}),
    "bias of examples": ((2, 3, 9, 8), (2, 3, 9, 8), (2, 3, 9, 8), ((2, 1, 9, 9), float), {}),
    "bias of all": ((2, 3, 9, 8), (2, 3, 21, 8), (2, 3, 21, 8), ((9, 21), float), {}),
    "broadcast": ((2, 3, 20, 8), (1, 1, 37, 8), (1, 3, 37, 8), None, {}),
    "groups": ((2, 6, 20, 8), (2, 2, 37, 8), (2, 2, 37, 8), None, GROUPED),
    "groups, causal": ((2, 6, 20, 8), (2, 2, 20, 8), (2, 2, 20, 8), None, GROUPED | CAUSAL),
    "groups, mask": ((2, 6, 20, 8), (2, 2, 9, 8), (2, 2, 9, 8), ((2, 6, 20, 9), bool), GROUPED),
    "one head of keys": ((2, 6, 20, 8), (2, 1, 9, 8), (2, 1, 9, 8), ((20, 9), float), GROUPED),
    "decode": ((3, 2, 1, 64), (3, 2, 1100, 64), (3, 2, 1100, 64), None, {}),
    "decode, few": ((3, 2, 5, 20), (3, 2, 600, 20), (3, 2, 600, 20), ((5, 600), bool), {}),
    "decode, causal": ((2, 3, 8), (2, 9, 8), (2, 9, 8), None, CAUSAL),
    "decode, groups": ((2, 8, 1, 16), (2, 2, 40, 16), (2, 2, 40, 16), None, GROUPED),
    "decode, groups, mask": (
        (2, 8, 1, 16), (2, 2, 40, 16), (2, 2, 40, 16), ((2, 8, 1, 40), float), GROUPED,
    ),
    "decode, groups, mask of keys": (
        (2, 8, 1, 16), (2, 2, 40, 16), (2, 2, 40, 16), ((1, 40), bool), GROUPED,
    ),
    "scale": ((2, 9, 8), (2, 11, 8), (2, 11, 8), None, {"scale": 0.1}),
    "no keys": ((2, 3, 8), (2, 0, 8), (2, 0, 4), None, {}),
    "no queries": ((2, 0, 8), (2, 5, 8), (2, 5, 4), None, {}),
    "no heads": ((0, 3, 8), (0, 5, 8), (0, 5, 4), None, {}),
}  # fmt: skip


def given(name, dtype=np.float32):
    *shapes, mask, options = CASES[name]
    random = np.random.default_rng(3)
    arrays = [random.standard_normal(shape).astype(dtype) for shape in shapes]
    if mask is not None:
        shape, kind = mask
        arrays.append(random.random(shape) < 0.7)
        if kind is float:
            arrays[-1] = random.standard_normal(shape).astype(dtype)
        elif shape[-2] > 2:
            arrays[-1][..., 2, :] = False  # a row that sees nothing
    return arrays, options


def near(found, expected, dtype):
    expected = expected.detach().numpy()
    unit = np.finfo(dtype).eps
    assert found.dtype == expected.dtype and found.shape == expected.shape
    bound = 16 * unit * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=16 * unit, atol=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients(name, dtype):
    arrays, options = given(name, dtype)
    results = []
    for library in (graphc, torch):
        tensors = [library.from_numpy(array) for array in arrays]
        for tensor in tensors:
            tensor.requires_grad_(tensor.is_floating_point())
        function = library.nn.functional.scaled_dot_product_attention
        out = function(*tensors, **options)
        ct = np.random.default_rng(5).standard_normal(out.shape).astype(dtype)
        (out * library.from_numpy(ct)).sum().backward()
        results.append([out, *[t.grad for t in tensors if t.requires_grad]])
    for found, expected in zip(*results, strict=True):
        near(found.detach().numpy(), expected, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(dtype):
    arrays, _ = given("plain")
    small = [graphc.from_numpy(array).to(getattr(graphc, dtype)) for array in arrays]
    found = scaled_dot_product_attention(*small)
    wide = scaled_dot_product_attention(*[x.float() for x in small])
    assert found.dtype == getattr(graphc, dtype)
    assert graphc.equal(found, wide.to(found.dtype))


def runs(name, gradients):
    """The bits of results and gradients: eager, compiled, and where sizes are symbols."""
    arrays, options = given(name)

    def step(*tensors):
        tensors = [t.clone().requires_grad_(gradients and t.is_floating_point()) for t in tensors]
        out = scaled_dot_product_attention(*tensors, **options)
        if not gradients:
            return (out,)
        (out * out).sum().backward()
        return (out.detach(), *[t.grad for t in tensors if t.requires_grad])

    def bits(function, tensors):
        return [x.numpy().tobytes() for x in function(*tensors)]

    tensors = [graphc.from_numpy(array) for array in arrays]
    return [bits(step, tensors), bits(graphc.compile(step), tensors)]


@pytest.mark.parametrize(
    "name", ["plain", "causal", "bool mask", "groups", "decode", "decode, few", "bias of heads"]
)
def test_compiled_code_gives_the_bits_of_eager_mode(name):
    apart, fused = runs(name, gradients=False)
    with_gradients = runs(name, gradients=True)
    assert apart == fused
    assert with_gradients[0] == with_gradients[1]
    assert with_gradients[0][:1] == apart


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads_or_on_what_is_known_of_sizes(threads):
    before = graphc.get_num_threads()
    random = np.random.default_rng(0)
    sizes = [(1, 3, 5), (2, 61, 61), (3, 200, 130), (2, 7, 900)]
    arrays = [
        [random.standard_normal((b, 2, n, 16)).astype(np.float32) for n in (t, s, s)]
        for b, t, s in sizes
    ]
    run = graphc.compile(lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True))
    try:
        graphc.set_num_threads(threads)
        for case in arrays:  # from the second on with symbolic sizes
            found = run(*map(graphc.from_numpy, case))
            traced = graphc.jit.trace(
                lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
                tuple(map(graphc.from_numpy, case)),
            )
            static = traced(*map(graphc.from_numpy, case))
            assert graphc.equal(found, static)
    finally:
        graphc.set_num_threads(before)


SPECIAL = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("number", SPECIAL)
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_special_values_stay_in_their_rows(number, which):
    arrays = [np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32) for _ in "qkv"]
    arrays["qkv".index(which)][57, 3] = number
    found = scaled_dot_product_attention(*map(graphc.from_numpy, arrays), is_causal=True).numpy()
    expected = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, arrays), is_causal=True
    ).numpy()
    # Before row 57 torch's are nan where it gives what is hidden no weight, or adds -inf to it.
    rows = slice(None) if which == "q" else slice(57, None)
    np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-5, atol=1e-6)
    assert which == "v" or np.isfinite(found[:57]).all()


def test_large_scores_do_not_overflow():
    q, k, v = (torch.randn(70, 16) * 40 for _ in range(3))
    found = scaled_dot_product_attention(*[graphc.from_numpy(x.numpy()) for x in (q, k, v)])
    wide = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    np.testing.assert_allclose(found.numpy(), wide.numpy(), rtol=1e-2, atol=5e-2)


@pytest.mark.parametrize("name", CASES)
def test_dropout_takes_torchs_random_numbers(name):
    arrays, options = given(name)
    results = []
    for library in (graphc, torch):
        library.manual_seed(3)
        tensors = [library.tensor(array) for array in arrays]
        for x in tensors[:3]:
            x.requires_grad_()
        function = library.nn.functional.scaled_dot_product_attention
        made = function(*tensors, dropout_p=0.4, **options)
        (made * made).sum().backward()
        results.append([made, *[x.grad for x in tensors[:3]], library.rand(3)])
    for found, expected in zip(*results, strict=True):
        near(found.detach().numpy(), expected, np.float32)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all_draws_nothing(p):
    q = graphc.ones(2, 3, 4)
    graphc.manual_seed(0)
    made = scaled_dot_product_attention(q, q, q, dropout_p=p)
    assert made.tolist() == ((1 - p) * q).tolist()
    after = graphc.rand(1).item()
    graphc.manual_seed(0)
    assert graphc.rand(1).item() == after


def test_dropout_keeps_no_scores():
    """What it draws is in memory, once."""
    q = graphc.zeros(2, 4, 64, 16)

    def kinds(dropout):
        attend = graphc.nn.functional.scaled_dot_product_attention
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the graph holds the example's random numbers
            traced = graphc.jit.trace(lambda q: attend(q, q, q, dropout_p=dropout), (q,))
        found = explain(compile_for_view(traced.graph)).kernels
        return {kernel.group.kind: kernel.moved for kernel in found}

    scores = 2 * 4 * 64 * 64 * 4
    assert list(kinds(0.5)) == list(kinds(0.0)) == ["attention"]
    assert kinds(0.0)["attention"] + scores == kinds(0.5)["attention"]


def test_wrong_heads_are_refused():
    q, k = graphc.zeros(1, 3, 4, 8), graphc.zeros(1, 2, 4, 8)
    with pytest.raises(RuntimeError, match="divide the number of heads"):
        scaled_dot_product_attention(q, k, k, enable_gqa=True)


def test_operands_are_read_where_they_lie():
    """A qkv of [batch, length, 3 * width] needs no copy of a head."""
    qkv = graphc.randn(2, 70, 3 * 64)

    def attend(qkv):
        parts = [x.view(2, 70, 4, 16).transpose(1, 2) for x in qkv.chunk(3, -1)]
        return scaled_dot_product_attention(*parts, is_causal=True)

    traced = graphc.jit.trace(attend, (qkv,))
    kernels = prepare(core_graph(traced.graph)).reports
    assert [kernel.kind for kernel in kernels] == ["attention"]
    parts = [x.view(2, 70, 4, 16).transpose(1, 2).contiguous() for x in qkv.chunk(3, -1)]
    assert graphc.equal(traced(qkv), scaled_dot_product_attention(*parts, is_causal=True))


@pytest.mark.parametrize("own", [(1, 3), (4, 1), (1, 1)])
def test_gradients_of_a_shared_bias_do_not_depend_on_threads(own):
    random = np.random.default_rng(1)
    shapes = [(4, 3, 90, 16)] * 3 + [(*own, 90, 90)]
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    before, found = graphc.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            graphc.set_num_threads(threads)
            tensors = [graphc.from_numpy(array).requires_grad_() for array in arrays]
            scaled_dot_product_attention(*tensors).square().sum().backward()
            found.append([t.grad.numpy().tobytes() for t in tensors])
    finally:
        graphc.set_num_threads(before)
    assert found[0] == found[1] == found[2]
