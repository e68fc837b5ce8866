"""Losses of several labels, CTC, bags of rows, distances and noise, against torch."""

import numpy as np
import pytest

import graphc
import graphc.nn.functional
from tests.functional.peer_expressions import evaluate, same

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(1)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


ARRAYS = {
    "x": array(4, 5), "v": array(5), "w": np.abs(array(5)), "t": np.array([1, 0, 4, 2]),
    "u": np.array([[3, 0, -1, 1, 2], [-1, 0, 1, 2, 3], [0, 1, 2, 3, 4], [2, 2, -1, 0, 0]]),
    "b": (RNG.random((4, 5)) > 0.5).astype(np.float32),
    "p": array(7, 3, 4), "y": np.array([[1, 2, 2], [3, 1, 0], [1, 1, 1]]),
    "flat": np.array([1, 2, 2, 3, 1]), "table": array(6, 3), "i": RNG.integers(0, 6, (4, 3)),
    "j": np.array([0, 5, 2, 2, 1, 3, 4]), "o": np.array([0, 2, 2, 5]), "s": array(7),
    "q": array(4, 3), "points": array(2, 4, 3), "others": array(2, 5, 3),
}  # fmt: skip

EXPRESSIONS = [
    "F.multi_margin_loss(x, t)", "F.multi_margin_loss(x, t, p=2, margin=0.5, weight=w.detach())",
    "F.multi_margin_loss(x, t, reduction='none')", "F.multi_margin_loss(v, t[0])",
    "F.multilabel_margin_loss(x, u)", "F.multilabel_margin_loss(x, u, reduction='none')",
    "F.multilabel_margin_loss(v, u[0], reduction='sum')", "F.multilabel_soft_margin_loss(x, b)",
    "F.multilabel_soft_margin_loss(x, b, w, reduction='none')",
    "F.linear_cross_entropy(q, table, t)",
    *[f"F.ctc_loss(p.log_softmax(2), {y}, {n}, {m}, reduction='{r}')" for r in
      ("mean", "sum", "none") for y, n, m in
      (("y", "(7, 5, 6)", "(3, 2, 3)"),
       ("flat", "torch.tensor([7, 5, 6])", "torch.tensor([3, 2, 0])"),
       ("y", "(7, 7, 7)", "(1, 0, 2)"))],
    "F.ctc_loss(p.log_softmax(2), y, (7, 5, 3), (3, 2, 3), blank=3, zero_infinity=True)",
    "F.ctc_loss(p[:, 0].log_softmax(1), y[0], torch.tensor(7), torch.tensor(3))",
    *[f"F.embedding_bag(i, table, mode='{m}')" for m in ("sum", "mean", "max")],
    *[f"F.embedding_bag(j, table, o, mode='{m}')" for m in ("sum", "mean", "max")],
    *[f"F.embedding_bag(j, table, o, mode='{m}', padding_idx=2)" for m in ("sum", "mean", "max")],
    "F.embedding_bag(j, table, o, mode='sum', per_sample_weights=s)",
    "F.embedding_bag(j, table, torch.tensor([0, 2, 7]), include_last_offset=True)",
    "F.pdist(x)", "F.pdist(x, 1)", "F.pdist(x, float('inf'))", "torch.cdist(points, others)",
    "torch.cdist(points, others, 1.0)", "torch.cdist(points, points)",
    "torch.cdist(torch.cat([points] * 9, 1), others)",
    "torch.cdist(points, others, compute_mode='use_mm_for_euclid_dist')",
    "torch.cdist(points, torch.cat([others] * 9, 1), compute_mode='donot_use_mm_for_euclid_dist')",
    "torch.cdist(points[:1], others, compute_mode='use_mm_for_euclid_dist')",
    "F.conv_tbc(p, torch.ones(2, 4, 3) / 3, torch.zeros(3), 1)",
    "F.rrelu(x)", "torch.manual_seed(0); F.rrelu(x, training=True)",
    "torch.manual_seed(0); F.feature_alpha_dropout(p, 0.4, True)",
    "torch.manual_seed(0); F.gumbel_softmax(x, 0.7)",
    "torch.manual_seed(0); F.gumbel_softmax(x, hard=True, dim=0)",
    *[f"y = x * 1; F.{name}; y" for name in
      ("relu_(y)", "elu_(y)", "selu_(y)", "celu_(y)", "leaky_relu_(y)", "hardtanh_(y)",
       "threshold_(y, 0.2, 3.0)", "rrelu_(y)")],
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_agrees_with_torch(expression):
    results, gradients = [], []
    for module in (graphc, torch):
        result, inputs = evaluate(expression, module, grad=True, arrays=ARRAYS)
        results.append(result)
        weights = np.cos(np.arange(result.numel())).reshape(tuple(result.shape))
        (result * module.tensor(weights.astype(np.float32))).sum().backward()
        gradients.append([None if t.grad is None else t.grad.numpy() for t in inputs.values()])
    same(*results, expression, tolerance=2e-6)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None), expression
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-6, err_msg=expression)


def test_a_target_longer_than_its_input_is_impossible():
    losses = []
    for module in (graphc, torch):
        x = module.tensor(ARRAYS["p"]).log_softmax(2)
        y = module.tensor(ARRAYS["y"])
        losses.append(module.nn.functional.ctc_loss(x, y, (7, 1, 3), (3, 2, 3), reduction="none"))
    np.testing.assert_allclose(*[x.numpy() for x in losses], rtol=1e-5)
    assert losses[0][1].item() == float("inf")


def test_cdist_by_products_near_and_at_zero():
    """Points that are equal are at distance zero, or nearly, and have finite gradients."""
    gradients = []
    for module in (graphc, torch):
        x = module.tensor(np.tile(ARRAYS["points"][0], (8, 1)), requires_grad=True)
        found = module.cdist(x, x.detach())
        assert found.shape[0] > 25 and bool(module.isfinite(found).all())
        found.sum().backward()
        gradients.append(x.grad.numpy())
    assert np.isfinite(gradients[0]).all()
    with pytest.raises(ValueError, match="is not a valid value for compute_mode"):
        graphc.cdist(graphc.ones(2, 2), graphc.ones(2, 2), compute_mode="fast")
