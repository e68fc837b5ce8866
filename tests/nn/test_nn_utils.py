"""Functions on gradients and parameters, and folding of batch norms."""

import numpy as np
import pytest

import graphc
from graphc import nn
from graphc.nn import utils


def with_grad(*values):
    param = nn.Parameter(graphc.zeros(len(values)))
    param.grad = graphc.tensor(values)
    return param


def test_gradients_are_scaled_to_a_norm():
    params = [with_grad(3.0, 0.0), with_grad(4.0), nn.Parameter(graphc.zeros(1))]
    assert utils.get_total_norm([p.grad for p in params[:2]]).item() == 5.0
    assert utils.clip_grad_norm_(params, 1.0).item() == 5.0
    np.testing.assert_allclose(params[0].grad.numpy(), [0.6, 0.0], rtol=1e-5)
    np.testing.assert_allclose(params[1].grad.numpy(), [0.8], rtol=1e-5)
    before = params[1].grad.tolist()
    assert utils.clip_grad_norm_(params, 10.0).item() == pytest.approx(1.0, rel=1e-5)
    assert params[1].grad.tolist() == before and params[2].grad is None


@pytest.mark.parametrize("norm_type, expected", [(1.0, 7.0), (float("inf"), 4.0), ("inf", 4.0)])
def test_other_norms(norm_type, expected):
    params = [with_grad(-3.0), with_grad(4.0)]
    assert utils.clip_grad_norm_(params, 2 * expected, norm_type).item() == expected


def test_norms_that_are_not_finite():
    param = with_grad(float("inf"))
    assert utils.clip_grad_norm_(param, 1.0).item() == float("inf")
    with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped"):
        utils.clip_grad_norm_(with_grad(float("nan")), 1.0, error_if_nonfinite=True)
    assert utils.get_total_norm([]).item() == 0.0
    with pytest.warns(UserWarning, match="empty generator"):
        utils.clip_grad_norm_((p for p in ()), 1.0)
    with pytest.warns(FutureWarning, match="clip_grad_norm_"):
        utils.clip_grad_norm([with_grad(1.0)], 1.0)


def test_gradients_are_clamped():
    params = [with_grad(-3.0, 0.5), nn.Parameter(graphc.zeros(1))]
    utils.clip_grad_value_(params, 1)
    assert params[0].grad.tolist() == [-1.0, 0.5]


def test_parameters_as_one_vector():
    net = nn.Linear(2, 1)
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.tolist() == net.weight.flatten().tolist() + net.bias.tolist()
    utils.vector_to_parameters(graphc.tensor([1.0, 2.0, 3.0]), net.parameters())
    assert net.weight.tolist() == [[1.0, 2.0]] and net.bias.tolist() == [3.0]
    with pytest.raises(TypeError, match="expected torch.Tensor"):
        utils.vector_to_parameters([1.0], net.parameters())


def trained_norm(norm, *shape):
    """A batch norm in evaluation mode with statistics and parameters of its own."""
    norm(2 * graphc.randn(8, *shape) + 1)
    with graphc.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-1.0, 1.0)
    return norm.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norms_are_folded(bias):
    graphc.manual_seed(0)
    norm = trained_norm(nn.BatchNorm2d(4), 4, 5, 5)
    x = graphc.randn(2, 3, 6, 6)
    for conv, transpose in (
        (nn.Conv2d(3, 4, 3, bias=bias), False),
        (nn.ConvTranspose2d(3, 4, 3, bias=bias), True),
    ):
        fused = utils.fuse_conv_bn_eval(conv.eval(), norm, transpose)
        wanted = norm(conv(x)).detach().numpy()
        np.testing.assert_allclose(fused(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    linear = nn.Linear(3, 4, bias=bias).eval()
    norm = trained_norm(nn.BatchNorm1d(4), 4)
    x = graphc.randn(5, 3)
    fused = utils.fuse_linear_bn_eval(linear, norm)
    wanted = norm(linear(x)).detach().numpy()
    np.testing.assert_allclose(fused(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="only for eval"):
        utils.fuse_linear_bn_eval(linear.train(), norm)


def test_skipping_the_initialisation():
    graphc.manual_seed(0)
    before = graphc.get_rng_state()
    linear = utils.skip_init(nn.Linear, 3, 2)
    assert linear.weight.shape == (2, 3) and linear.weight.device.type == "cpu"
    assert graphc.equal(graphc.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        utils.skip_init(nn.ReLU)
