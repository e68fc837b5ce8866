"""First values of parameters: torch's, bit for bit."""

import math

import numpy as np
import pytest

import graphc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

CASES = [
    ("uniform_", (3, 4), {"a": -2.0, "b": 0.5}),
    ("normal_", (5, 20), {"mean": 1.0, "std": 0.5}),
    ("constant_", (3,), {"val": 0.25}),
    ("ones_", (3,), {}),
    ("zeros_", (3,), {}),
    ("eye_", (3, 5), {}),
    ("dirac_", (6, 2, 3), {"groups": 2}),
    ("dirac_", (3, 4, 3, 2), {}),
    ("dirac_", (2, 2, 1, 3, 3), {}),
    ("xavier_uniform_", (3, 4, 2), {"gain": 2.0}),
    ("xavier_normal_", (3, 4), {}),
    ("kaiming_uniform_", (3, 4, 2), {"a": 0.3}),
    ("kaiming_uniform_", (3, 4), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", (3, 4), {"nonlinearity": "tanh"}),
    ("trunc_normal_", (10, 40), {}),
    ("trunc_normal_", (10, 40), {"mean": 0.5, "std": 0.2, "a": 0.4, "b": 0.9}),
    ("trunc_normal_", (10, 40), {"mean": 0.0, "std": 1.0, "a": 1.5, "b": 2.0}),
    ("sparse_", (10, 4), {"sparsity": 0.35, "std": 0.5}),
]


@pytest.mark.parametrize("name, shape, kwargs", CASES)
def test_values_as_torch(name, shape, kwargs):
    results = []
    for library in (graphc, torch):
        library.manual_seed(8)
        tensor = library.full(shape, 7.0, requires_grad=True)
        assert getattr(library.nn.init, name)(tensor, **kwargs) is tensor
        assert tensor.requires_grad and tensor.is_leaf
        results.append((tensor.detach().numpy(), library.rand(3).numpy()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])  # as many numbers drawn


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (3, 2, 4)])
def test_orthogonal_as_torch(shape):
    results = []
    for library in (graphc, torch):
        library.manual_seed(8)
        results.append(library.nn.init.orthogonal_(library.empty(shape), gain=2.0).numpy())
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)
    matrix = results[0].reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_generators_are_used():
    init = graphc.nn.init
    draws = [
        init.uniform_(graphc.empty(3), generator=graphc.Generator().manual_seed(4)).tolist()
        for _ in range(2)
    ]
    assert draws[0] == draws[1]


@pytest.mark.parametrize(
    "nonlinearity, param, gain",
    [
        ("linear", None, 1),
        ("conv_transpose2d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 1, 1.0),
        ("selu", None, 0.75),
    ],
)
def test_gains(nonlinearity, param, gain):
    assert graphc.nn.init.calculate_gain(nonlinearity, param) == gain


def test_wrong_uses_are_refused():
    init = graphc.nn.init
    with pytest.raises(ValueError, match="Unsupported nonlinearity cube"):
        init.calculate_gain("cube")
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(graphc.empty(3))
    with pytest.raises(ValueError, match="Mode sideways not supported"):
        init.kaiming_uniform_(graphc.empty(3, 3), mode="sideways")
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions"):
        init.eye_(graphc.empty(3))
    with pytest.raises(ValueError, match="divisible by groups"):
        init.dirac_(graphc.empty(3, 1, 1), groups=2)
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
        init.kaiming_normal_(graphc.empty(0, 3))
    with pytest.warns(UserWarning, match="more than 2 std"):
        init.trunc_normal_(graphc.empty(3), mean=5.0)
    with pytest.warns(FutureWarning, match=r"`nn\.init\.normal` is now deprecated"):
        init.normal(graphc.empty(3))
