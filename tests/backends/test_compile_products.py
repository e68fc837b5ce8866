"""Products and convolutions inside compiled graphs, against the reference interpreter."""

import pytest

from tests.backends.test_compile_ops import o, run, wide

PRODUCTS = {
    "plain": (((1,), (0,)), ((), ()), "[64, 100]", "[100, 70]"),
    "transposed right": (((1,), (1,)), ((), ()), "[64, 300]", "[70, 300]"),
    "transposed left": (((0,), (0,)), ((), ()), "[100, 64]", "[100, 70]"),
    "batch": (((2,), (2,)), ((0,), (0,)), "[8, 64, 100]", "[8, 70, 100]"),
    "two contracted axes": (((1, 2), (2, 1)), ((), ()), "[8, 6, 3, 10]", "[8, 3, 6, 5]"),
    "batch in the middle": (((1,), (1,)), ((0, 2), (0, 2)), "[8, 64, 3, 10]", "[8, 64, 3, 5]"),
    "vectors": (((0,), (0,)), ((), ()), "[50]", "[50]"),
    "nothing contracted": (((), ()), ((), ()), "[5, 3]", "[4]"),
    "no elements to contract": (((1,), (0,)), ((), ()), "[5, 0]", "[0, 4]"),
}


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "bool", "f16"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_any_axes(name, dtype):
    contract, batch, a, b = PRODUCTS[name]
    tolerance = 4e-3 if dtype == "f16" else 2e-5
    run(
        lambda a, b: o.dot(a, b, contract=contract, batch=batch),
        dtype + a,
        dtype + b,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "f16", "bf16"])
def test_what_has_the_shape_of_panels(dtype):
    tolerance = {"f16": 4e-3, "bf16": 3e-2}.get(dtype, 2e-5)
    run(
        lambda a, b: o.dot(a, b, contract=((1,), (1,))),
        dtype + "[20, 33]",
        dtype + "[3, 33, 16]",
        tolerance=tolerance,
    )


def test_transposes_of_operands_are_not_copied():
    executable, _ = run(
        lambda a, b: o.dot(o.permute(a, perm=(1, 0)), o.reshape(b, shape=(100, 70)),
                           contract=((1,), (0,))),
        "f32[100, 64]",
        "f32[7000]",
    )  # fmt: skip
    assert [kernel.kind for kernel in executable.kernels] == ["dot"]


def test_an_expanded_operand_serves_every_batch():
    executable, _ = run(
        lambda a, w: o.dot(a, wide(w, (6, 20, 7), 0), contract=((2,), (1,)), batch=((0,), (0,))),
        "f32[6, 5, 20]",
        "f32[20, 7]",
    )
    assert [kernel.kind for kernel in executable.kernels] == ["dot"]


def test_attention():
    def attention(q, k, v):
        b, t, c = q.type.shape

        def heads(x):
            return o.permute(o.reshape(x, shape=(b, t, 4, c // 4)), perm=(0, 2, 1, 3))

        batch = ((0, 1), (0, 1))
        scores = o.dot(heads(q), heads(k), contract=((3,), (3,)), batch=batch)
        shape = scores.type.shape
        e = o.exp(o.sub(scores, wide(o.reduce_max(scores, axes=(3,)), shape, 3)))
        weights = o.div(e, wide(o.reduce_sum(e, axes=(3,)), shape, 3))
        mixed = o.dot(weights, heads(v), contract=((3,), (2,)), batch=batch)
        return o.reshape(o.permute(mixed, perm=(0, 2, 1, 3)), shape=(b, t, c))

    run(attention, *["f32[2, 33, 64]"] * 3)


CONV = {"stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2), "groups": 1}


def test_convolution_and_its_gradients():
    run(lambda x, w: o.conv(o.tanh(x), w, **CONV), "f32[2, 4, 6, 5]", "f32[3, 4, 3, 2]")
    run(
        lambda g, w: o.neg(o.conv_grad_input(g, w, size=(6, 5), **CONV)),
        "f32[2, 3, 3, 4]",
        "f32[3, 4, 3, 2]",
    )
    run(
        lambda g, x: o.conv_grad_weight(g, x, size=(3, 2), **CONV),
        "f32[2, 3, 3, 4]",
        "f32[2, 4, 6, 5]",
    )


def test_a_layer_of_products_and_maps():
    def layers(x, w1, b1, w2):
        hidden = o.add(o.dot(x, w1, contract=((1,), (1,))), wide(b1, (32, 128), 0))
        return o.dot(o.tanh(hidden), w2, contract=((1,), (0,)))

    executable, _ = run(layers, "f32[32, 64]", "f32[128, 64]", "f32[128]", "f32[128, 10]")
    assert [kernel.kind for kernel in executable.kernels] == ["dot, map", "dot"]
