"""Functions of the namespace torch whose arguments are not those of torch.nn.functional."""

from __future__ import annotations

from typing import Any

from ..ir.errors import UnsupportedError
from . import activation, bag, ctc, layers, loss, pooling, resize

_REDUCTIONS = ("none", "mean", "sum")
_BAG_MODES = ("sum", "mean", "max")
_GRID_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")

# The same under both namespaces.
SHARED: dict[Any, str] = {
    layers: "bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "rms_norm",
    pooling: "adaptive_avg_pool1d avg_pool1d",
    loss: "cosine_similarity pairwise_distance",
}


def batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps,
               cudnn_enabled):  # fmt: skip
    """nn.functional.batch_norm, its arguments in another order."""
    return layers.batch_norm(
        input, running_mean, running_var, weight, bias, training, momentum, eps
    )


def instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps,
                  cudnn_enabled):  # fmt: skip
    """nn.functional.instance_norm, its arguments in another order."""
    return layers.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05, cudnn_enable=True):
    """Normalises the last axes, then scales and shifts."""
    return layers.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-05, cudnn_enabled=True):
    """Normalises groups of channels of each example."""
    return layers.group_norm(input, num_groups, weight, bias, eps)


def dropout(input, p, train):
    """Sets elements to 0 with probability p, and scales the rest by 1 / (1 - p)."""
    return activation.dropout(input, p, train)


def dropout_(input, p, train):
    """dropout, written into the input."""
    return activation.dropout(input, p, train, inplace=True)


def feature_dropout(input, p, train):
    """dropout of whole channels."""
    if not train:
        return input
    return activation._channel_dropout(input, p, True, False, len(input.shape) - 2)


def alpha_dropout(input, p, train):
    """Dropout that keeps mean and variance of self-normalising activations."""
    return activation.alpha_dropout(input, p, train)


def selu(input):
    """scale * elu(input), for self-normalising networks."""
    return activation.selu(input)


def celu(input, alpha=1.0):
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    return activation.celu(input, alpha)


def threshold(input, threshold, value, *, out=None):
    """The input where it is above threshold, else value."""
    made = activation.threshold(input, threshold, value)
    return made if out is None else out._write_out(made)


def rrelu(input, lower=0.125, upper=1.0 / 3, training=False, generator=None):
    """leaky_relu with random slopes in training."""
    from .noise import rrelu as with_noise

    if generator is not None:
        raise UnsupportedError("rrelu with a generator of its own")
    return with_noise(input, lower, upper, training)


def max_pool1d(input, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """The largest in each window of a sequence."""
    return pooling.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(input, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """The largest in each window of an image."""
    return pooling.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(input, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """The largest in each window of a volume."""
    return pooling.max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool1d_with_indices(input, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """max_pool1d, and where each maximum stands."""
    return pooling.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def adaptive_max_pool1d(input, output_size):
    """The maxima over windows such that the output has a given size, and where they stand."""
    return pooling.adaptive_max_pool1d(input, output_size, True)


def grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners):
    """nn.functional.grid_sample, with numbers for its modes."""
    return resize.grid_sample(
        input, grid, _GRID_MODES[interpolation_mode], _PADDING_MODES[padding_mode], align_corners
    )


def affine_grid_generator(theta, size, align_corners):
    """nn.functional.affine_grid."""
    return resize.affine_grid(theta, size, align_corners)


def embedding_bag(weight, indices, offsets, scale_grad_by_freq=False, mode=0, sparse=False,
                  per_sample_weights=None, include_last_offset=False,
                  padding_idx=None):  # fmt: skip
    """(bags,) of nn.functional.embedding_bag, with a number for its mode."""
    made = bag.embedding_bag(
        indices, weight, offsets, None, 2, scale_grad_by_freq, _BAG_MODES[mode], sparse,
        per_sample_weights, include_last_offset, padding_idx,
    )  # fmt: skip
    return (made,)


# --- losses, whose reductions are numbers here ---------------------------------------------------


def _named(reduction: int) -> str:
    if reduction not in (0, 1, 2):
        raise RuntimeError(f"{reduction} is no reduction: 0 is none, 1 the mean, 2 the sum")
    return _REDUCTIONS[reduction]


def binary_cross_entropy_with_logits(input, target, weight=None, pos_weight=None, reduction=1):
    """nn.functional.binary_cross_entropy_with_logits."""
    return loss.binary_cross_entropy_with_logits(
        input, target, weight, None, None, _named(reduction), pos_weight
    )


def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction=1):
    """nn.functional.cosine_embedding_loss."""
    return loss.cosine_embedding_loss(input1, input2, target, margin, reduction=_named(reduction))


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction=1,
             zero_infinity=False):  # fmt: skip
    """nn.functional.ctc_loss."""
    return ctc.ctc_loss(
        log_probs, targets, input_lengths, target_lengths, blank, _named(reduction), zero_infinity
    )


def hinge_embedding_loss(input, target, margin=1.0, reduction=1):
    """nn.functional.hinge_embedding_loss."""
    return loss.hinge_embedding_loss(input, target, margin, reduction=_named(reduction))


def kl_div(input, target, reduction=1, *, log_target=False):
    """nn.functional.kl_div."""
    return loss.kl_div(input, target, reduction=_named(reduction), log_target=log_target)


def margin_ranking_loss(input1, input2, target, margin=0.0, reduction=1):
    """nn.functional.margin_ranking_loss."""
    return loss.margin_ranking_loss(input1, input2, target, margin, reduction=_named(reduction))


def poisson_nll_loss(input, target, log_input, full, eps, reduction):
    """nn.functional.poisson_nll_loss."""
    return loss.poisson_nll_loss(
        input, target, log_input, full, eps=eps, reduction=_named(reduction)
    )


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False,
                        reduction=1):  # fmt: skip
    """nn.functional.triplet_margin_loss."""
    return loss.triplet_margin_loss(
        anchor, positive, negative, margin, p, eps, swap, reduction=_named(reduction)
    )


# --- norms ---------------------------------------------------------------------------------------


def frobenius_norm(input, dim, keepdim=False, *, out=None):
    """The root of the sum of squares over `dim`."""
    made = input.norm(2, dim, keepdim)
    return made if out is None else out._write_out(made)


# --- recurrent networks --------------------------------------------------------------------------


def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of nn.RNNCell: the next h, from the weights of the input and of h."""
    from ..nn import recurrent

    return recurrent.rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih, b_hh)


def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """relu(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)."""
    from ..nn import recurrent

    return recurrent.rnn_relu_cell(input, hx, w_ih, w_hh, b_ih, b_hh)


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an LSTM: the new (h, c)."""
    from ..nn import recurrent

    return recurrent.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of a GRU: the new h."""
    from ..nn import recurrent

    return recurrent.gru_cell(input, hx, w_ih, w_hh, b_ih, b_hh)


def _layers(mode: str, args: tuple, states: int) -> tuple:
    """A stack of layers: (input, hx, params, ..., batch_first), or packed
    (data, batch_sizes, hx, params, ...)."""
    from ..nn import recurrent

    packed = isinstance(args[3], (list, tuple))
    data, sizes, hx, params, has_biases, _, dropout, train, two_ways = (
        args if packed else (args[0], None, *args[1:8])
    )
    batch_first = not packed and args[8]
    state = tuple(hx) if states == 2 else (hx,)
    count = len(params) // (len(state[0]) if len(state[0]) else 1)
    weights = [tuple(params[i : i + count]) for i in range(0, len(params), count)]
    if not has_biases:
        weights = [(w[0], w[1], None, None, *w[2:]) for w in weights]
    made, last = recurrent.recurrent_layers(
        mode, data.transpose(0, 1) if batch_first else data, state, weights,
        bidirectional=two_ways, dropout=dropout if train else 0.0,
        batch_sizes=None if sizes is None else sizes.tolist(),
    )  # fmt: skip
    return (made.transpose(0, 1) if batch_first else made, *last)


def lstm(*args):
    """An LSTM of several layers: (output, h, c).

    (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or
    for packed sequences (data, batch_sizes, hx, params, has_biases, num_layers, dropout, train,
    bidirectional).
    """
    return _layers("LSTM", args, 2)


def gru(*args):
    """A GRU of several layers: (output, h), with the arguments of lstm."""
    return _layers("GRU", args, 1)


def rnn_tanh(*args):
    """An Elman network of several layers: (output, h), with the arguments of lstm."""
    return _layers("RNN_TANH", args, 1)


def rnn_relu(*args):
    """A relu network of several layers: (output, h), with the arguments of lstm."""
    return _layers("RNN_RELU", args, 1)


OWN = (
    rnn_tanh_cell, rnn_relu_cell, lstm_cell, gru_cell, lstm, gru, rnn_tanh, rnn_relu,
    batch_norm, instance_norm, layer_norm, group_norm, dropout, dropout_, feature_dropout,
    alpha_dropout, selu, celu, threshold, rrelu, max_pool1d, max_pool2d, max_pool3d,
    max_pool1d_with_indices, adaptive_max_pool1d, grid_sampler, affine_grid_generator,
    embedding_bag, binary_cross_entropy_with_logits, cosine_embedding_loss, ctc_loss,
    hinge_embedding_loss, kl_div, margin_ranking_loss, poisson_nll_loss, triplet_margin_loss,
    frobenius_norm,
)  # fmt: skip


def names() -> dict[str, Any]:
    """Name -> function."""
    found = {name: getattr(m, name) for m, listed in SHARED.items() for name in listed.split()}
    found.update({function.__name__: function for function in OWN})
    return found
