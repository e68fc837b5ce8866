"""Functions of torch, torch.linalg and torch.special against torch: values and gradients."""

import warnings

import numpy as np
import pytest

import graphc
from tests.functional.peer_expressions import evaluate, same

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(2)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


NAN = array(3, 4)
NAN[1, 2] = np.nan
ARRAYS = {
    "x": array(3, 4), "y": array(3, 4), "z": array(2, 3, 5), "v": array(6), "u": array(6),
    "a": array(3, 3), "b": array(4, 3), "n": NAN, "i": RNG.integers(-20, 20, (3, 4)),
    "j": RNG.integers(-6, 7, (3, 4)), "p": np.abs(array(3, 4)) / 4, "w": np.arange(1, 5),
    "q": np.array([0.1, 0.5, 1.0], np.float32), "im": array(1, 3, 8, 8), "k": array(4, 3, 3, 3),
    "c": array(4), "m": array(3), "var": np.abs(array(3)) + 1, "s": array(5, 2, 3),
    "h": array(2, 4), "wi": array(16, 3), "wh": array(16, 4), "bi": array(16),
    "t": np.array([0, 2, 1]),
}  # fmt: skip

DIFFERENTIABLE = [
    *[f"torch.{name}(x)" for name in ("angle", "conj", "conj_physical", "corrcoef", "cov")],
    "torch.clamp_min(x, 0.1)", "torch.clamp_max(x, 0.1)", "torch.clamp_min(x, y)",
    "x.clone().clamp_min_(0.1)", "torch.float_power(p, 2.5).float()", "torch.logaddexp2(x, y)",
    "torch.logcumsumexp(x, 1)", "torch.logcumsumexp(x, 0)", "torch.renorm(x, 2, 0, 1.0)",
    "torch.cov(x, correction=0)", "torch.cov(x, aweights=torch.tensor([0.2, 0.1, 0.5, 0.7]))",
    "torch.cov(x, fweights=w)", "torch.cov(v)", "torch.vdot(v, u)", "torch.ger(v, u)",
    "torch.cross(a, b[:3])", "torch.cross(z, z * 2 + 1, 1)", "torch.linalg.cross(a, b[1:])",
    *[f"torch.quantile(x, 0.3, {d}, interpolation='{how}')" for d in (0, 1, None)
      for how in ("linear", "lower", "higher", "midpoint", "nearest")],
    "torch.quantile(x, q.detach(), 1, True)", "torch.nanquantile(n, 0.4, 1)",
    "torch.trapezoid(x)", "torch.trapezoid(x, dx=0.5, dim=0)", "torch.trapz(x, y)",
    "torch.trapezoid(x, torch.arange(4.))", "torch.cumulative_trapezoid(x, dx=2.0)",
    "torch.gradient(v)[0]", "torch.gradient(x, spacing=2.0)[1]",
    "torch.gradient(x, spacing=(torch.tensor([0., 1., 3.]),), dim=0, edge_order=2)[0]",
    "torch.gradient(x, dim=1, edge_order=2)[0]", "torch.dropout(x, 0.5, False)",
    *[f"torch.linalg.vector_norm(x, {p})" for p in ("2", "1", "0.5", "float('inf')", "3")],
    "torch.linalg.vector_norm(z, dim=(0, 2), keepdim=True)", "torch.linalg.norm(x)",
    *[f"torch.linalg.matrix_norm(z, {o})" for o in
      ("'fro'", "1", "-1", "float('inf')", "-float('inf')")],
    "torch.linalg.norm(x, 1)", "torch.linalg.norm(x, 'fro', (0, 1), True)",
    "torch.linalg.norm(z, 3, 1)", "torch.linalg.vecdot(x, y)", "torch.linalg.vander(v)",
    "torch.linalg.multi_dot([x, b, a, x, c])", "torch.linalg.multi_dot([a, x])",
    "torch.linalg.matrix_power(a, 5)", "torch.matrix_power(a, 0) + a", "torch.linalg.diagonal(z)",
    *[f"torch.special.{f}(p)" for f in
      ("entr", "ndtr", "ndtri", "expit", "gammaln", "erf", "log1p", "sinc")],
    "torch.special.xlog1py(x, p)", "torch.special.multigammaln(p + 3, 2)",
    "torch.special.softmax(x, 0)", "torch.special.logit(p, 1e-6)",
    "torch.batch_norm(im, c[:3], m, m.detach() * 0, var.detach(), True, 0.1, 1e-5, False)",
    "torch.layer_norm(x, (4,), c)", "torch.group_norm(im, 3)", "torch.conv2d(im, k)",
    "torch.kl_div(x.log_softmax(1), p, 1)", "torch.max_pool2d(im, 2)", "torch.rms_norm(x, (4,))",
    "torch.triplet_margin_loss(x, y, p, reduction=2)", "torch.frobenius_norm(x, 1)",
    "torch.lstm(s, (torch.zeros(1, 2, 4), torch.ones(1, 2, 4)), (wi, wh, bi, bi), True, 1, 0.0, "
    "False, False, False)[0]",
    "torch.lstm_cell(s[0], (h, h), wi, wh)[1]", "torch.gru_cell(s[0], h, wi[:12], wh[:12])",
    "torch.rnn_tanh_cell(s[0], h, wi[:4], wh[:4])", "torch.grid_sampler(im, im[:, :, :2, :2]"
    ".permute(0, 2, 3, 1)[..., :2], 0, 0, False)",
]  # fmt: skip

PLAIN = [
    "torch.gcd(i, j)", "torch.lcm(i, j)", "torch.isreal(x)", "torch.angle(n)",
    "torch.quantile(n, 0.5, 0)", "torch.range(0, 2, 0.5)", "torch.special.psi(p)",
    "torch.is_signed(i)",
    "torch.asarray([1, 2.5])", "torch.empty_strided((2, 3), (1, 2)).stride()",
    "torch.empty_permuted((2, 3, 4), (2, 0, 1)).stride()", "torch.is_nonzero(i[0, 0])",
    *[f"torch.{w}_window(7)" for w in ("bartlett", "blackman", "hamming", "hann", "kaiser")],
    *[f"torch.{w}_window(6, False)" for w in ("bartlett", "blackman", "hamming", "hann", "kaiser")],
    "torch.hamming_window(5, True, 0.5, 0.4)", "torch.hann_window(1)", "torch.exp_(x.clone())",
    "torch.histogramdd(z.reshape(-1, 2), [2, 3])", "x.clone().resize_(2, 2)",
    "y = torch.ones(2); y.resize_(3)[:2]", "x.new([1, 2])", "x.new(2, 3).shape",
    "i.new_empty_strided((2, 2), (1, 2)).dtype == torch.int64", "x.to_dense()",
    "torch.finfo(torch.float16).max", "torch.iinfo(torch.int8).min", "torch.is_same_size(x, y)",
]  # fmt: skip


def both(expression, grad):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [evaluate(expression, module, grad=grad, arrays=ARRAYS) for module in
                (graphc, torch)]  # fmt: skip


@pytest.mark.parametrize("expression", PLAIN)
def test_agrees_with_torch(expression):
    (ours, _), (theirs, _) = both(expression, False)
    same(ours, theirs, expression)


@pytest.mark.parametrize("expression", DIFFERENTIABLE)
def test_agrees_with_torch_and_so_do_gradients(expression):
    results = both(expression, True)
    gradients = []
    for module, (result, inputs) in zip((graphc, torch), results, strict=True):
        weights = np.cos(np.arange(result.numel())).reshape(tuple(result.shape))
        (result * module.tensor(weights.astype(np.float32))).sum().backward()
        gradients.append([None if t.grad is None else t.grad.numpy() for t in inputs.values()])
    same(results[0][0], results[1][0], expression, tolerance=5e-6)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None), expression
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5, err_msg=expression)


@pytest.mark.parametrize("name", ["lu", "lstsq", "eig", "matrix_exp", "solve_triangular", "cond"])
def test_factorisations_say_what_they_need(name):
    with pytest.raises(NotImplementedError, match=f"linalg.{name} is not offered yet: it needs"):
        getattr(graphc.linalg, name)(graphc.ones(2, 2))
