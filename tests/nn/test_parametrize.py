"""Parametrizations, weight and spectral norm, and calls with other parameters."""

import copy
import pickle

import numpy as np
import pytest

import graphc
from graphc import nn
from graphc.nn.utils import parametrize, remove_weight_norm, stateless, weight_norm
from graphc.nn.utils.parametrizations import spectral_norm
from graphc.nn.utils.parametrizations import weight_norm as parametrized_weight_norm


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, x):
        return x.triu()


class Scaled(nn.Module):
    def forward(self, x):
        return x * 3


class Product(nn.Module):
    """From two tensors."""

    def forward(self, a, b):
        return a * b

    def right_inverse(self, x):
        return x * 2, graphc.full_like(x, 0.5)


def symmetric_linear():
    return parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())


def test_the_tensor_is_computed_from_the_original():
    layer = nn.Linear(3, 3)
    parameter, before = layer.weight, layer.weight.detach().numpy().copy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    np.testing.assert_array_equal(
        layer.weight.detach().numpy(), np.triu(before) + np.triu(before, 1).T
    )
    assert layer.parametrizations.weight.original is parameter
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    assert parametrize.is_parametrized(layer) and parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    layer(graphc.ones(3)).sum().backward()
    assert parameter.grad.tril(-1).abs().sum().item() == 0.0 < parameter.grad.abs().sum().item()


def test_assignment_sets_the_original():
    layer = symmetric_linear()
    layer.weight = graphc.ones(3, 3)
    assert layer.weight.tolist() == [[1.0] * 3] * 3
    assert layer.parametrizations.weight.original.tolist() == np.triu(np.ones((3, 3))).tolist()
    scaled = parametrize.register_parametrization(nn.Linear(1, 1), "bias", Scaled())
    with pytest.raises(RuntimeError, match="does not implement right_inverse"):
        scaled.bias = graphc.zeros(1)


def test_parametrizations_are_chained():
    layer = nn.Linear(2, 2)
    before = layer.bias.tolist()
    parametrize.register_parametrization(layer, "bias", Scaled())
    parametrize.register_parametrization(layer, "bias", Scaled())
    assert layer.bias.tolist() == pytest.approx([9 * value for value in before])
    assert len(layer.parametrizations.bias) == 2


def test_several_originals():
    layer = nn.Linear(2, 2)
    before = layer.weight.tolist()
    parametrize.register_parametrization(layer, "weight", Product())
    assert layer.weight.tolist() == before
    assert [name for name, _ in layer.parametrizations.weight.named_parameters()] == [
        "original0",
        "original1",
    ]
    with pytest.raises(ValueError, match="Cannot leave unparametrized"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight.tolist() == before and type(layer) is nn.Linear


@pytest.mark.parametrize("leave", [True, False])
def test_removal(leave):
    layer = nn.Linear(1, 1)
    parameter, before = layer.bias, layer.bias.item()
    parametrize.register_parametrization(layer, "bias", Scaled())
    assert parametrize.remove_parametrizations(layer, "bias", leave_parametrized=leave) is layer
    assert type(layer) is nn.Linear and layer.bias is parameter
    assert layer.bias.item() == pytest.approx(3 * before if leave else before)
    assert not parametrize.is_parametrized(layer) and set(layer.state_dict()) == {"weight", "bias"}
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(layer, "bias")


def test_cached_values_are_computed_once():
    layer = symmetric_linear()
    assert layer.weight is not layer.weight
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight


def test_copies():
    layer = symmetric_linear()
    other = copy.deepcopy(layer)
    assert other.weight.tolist() == layer.weight.tolist()
    other.weight = graphc.zeros(3, 3)
    assert layer.weight.abs().sum().item() > 0
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)
    plain = nn.Linear(3, 3)
    parametrize.transfer_parametrizations_and_params(layer, plain)
    assert plain.weight.tolist() == layer.weight.tolist()


def test_wrong_parametrizations_are_refused():
    class Row(nn.Module):
        def forward(self, x):
            return x[0]

    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Row())
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(nn.Linear(2, 2), "absent", Scaled())
    unsafe = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Row(), unsafe=True)
    assert unsafe.weight.shape == (2,)


@pytest.mark.parametrize("dim, shape", [(0, (3, 1)), (1, (1, 2)), (None, ())])
def test_weight_norm_splits_length_and_direction(dim, shape):
    layer = nn.Linear(2, 3)
    before = layer.weight.detach().numpy().copy()
    parametrized_weight_norm(layer, dim=dim)
    lengths = layer.parametrizations.weight.original0
    assert lengths.shape == shape
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-6)
    with graphc.no_grad():
        lengths.mul_(2)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before, rtol=1e-6)


def test_the_older_weight_norm_and_its_checkpoints():
    layer = nn.Linear(2, 3)
    x = graphc.ones(2)
    before = layer(x).detach().numpy()
    with pytest.warns(FutureWarning, match=r"parametrizations\.weight_norm"):
        weight_norm(layer)
    assert set(layer.state_dict()) == {"bias", "weight_g", "weight_v"}
    layer(x).sum().backward()
    assert layer.weight_g.grad is not None and layer.weight_v.grad is not None
    other = parametrized_weight_norm(nn.Linear(2, 3))
    other.load_state_dict(layer.state_dict())
    np.testing.assert_allclose(other(x).detach().numpy(), before, rtol=1e-5, atol=1e-6)
    remove_weight_norm(layer)
    assert isinstance(layer.weight, nn.Parameter)
    np.testing.assert_allclose(layer(x).detach().numpy(), before, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="not found"):
        remove_weight_norm(layer)


def test_spectral_norm_makes_the_largest_singular_value_one():
    graphc.manual_seed(0)
    for layer in (nn.Linear(4, 3), nn.ConvTranspose2d(3, 2, 2)):
        spectral_norm(layer, n_power_iterations=30)
        weight = layer.weight.detach().numpy()
        if weight.ndim > 2:
            weight = np.moveaxis(weight, 1, 0)
        largest = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)[0]
        assert largest == pytest.approx(1.0, rel=1e-4)
        vectors = [name for name, _ in layer.named_buffers()]
        assert vectors == ["parametrizations.weight.0._u", "parametrizations.weight.0._v"]
        layer.eval()
        assert layer.weight.tolist() == layer.weight.tolist()
    with pytest.raises(ValueError, match="n_power_iterations"):
        spectral_norm(nn.Linear(2, 2), n_power_iterations=0)


def test_functional_call_uses_the_given_tensors():
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1).eval())
    own = net[0].weight
    weight = graphc.tensor([[2.0]], requires_grad=True)
    given = {"0.weight": weight, "0.bias": graphc.tensor([1.0])}
    output = stateless.functional_call(net, given, graphc.tensor([[3.0]]))
    assert output.item() == pytest.approx(7.0, rel=1e-4)
    output.backward()
    assert weight.grad.item() == pytest.approx(3.0, rel=1e-4)
    assert net[0].weight is own and own.grad is None
    parts = ({"0.weight": weight}, {"0.bias": graphc.tensor([0.0])})
    output = stateless.functional_call(net, parts, (), {"input": graphc.tensor([[3.0]])})
    assert output.item() == pytest.approx(6.0, rel=1e-4)


def test_functional_call_ties_and_checks():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    net[1].weight = net[0].weight
    two, three, x = graphc.tensor([[2.0]]), graphc.tensor([[3.0]]), graphc.ones(1, 1)
    call = stateless.functional_call
    assert call(net, {"0.weight": two}, x).item() == 4.0
    untied = call(net, {"0.weight": two, "1.weight": three}, x, tie_weights=False)
    assert untied.item() == 6.0
    with pytest.raises(ValueError, match="which are tied"):
        call(net, {"0.weight": two, "1.weight": three}, x)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): \['2.weight'\]"):
        call(net, {"2.weight": two}, x)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\): \['0.weight', '1.weight'\]"):
        call(net, {}, x, strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        call(net, ({"0.weight": two}, {"0.weight": two}), x)
