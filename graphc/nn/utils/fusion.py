"""Folding a batch norm in evaluation mode into the layer before it."""

import copy

import graphc as torch
from graphc.nn.parameter import Parameter

__all__ = [
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
]


def _fold(weight, bias, mean, var, eps, gamma, beta, channel_dim):
    """Return parameters of the layer that computes gamma * (y - mean) / sqrt(var + eps) + beta."""
    scale = torch.rsqrt(var + eps)
    if gamma is not None:
        scale = scale * gamma
    bias = torch.zeros_like(mean) if bias is None else bias
    shape = [1] * weight.dim()
    shape[channel_dim] = -1
    fused_bias = (bias - mean) * scale
    if beta is not None:
        fused_bias = fused_bias + beta
    return (weight * scale.reshape(shape)).to(weight.dtype), fused_bias.to(bias.dtype)


def _as_parameters(fused, weight, bias):
    needs_grad = bias.requires_grad if bias is not None else False
    return Parameter(fused[0], weight.requires_grad), Parameter(fused[1], needs_grad)


def fuse_conv_bn_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, transpose=False):
    """Return (weight, bias) of a convolution with a batch norm folded in.

    Args:
        conv_w: weight of the convolution.
        conv_b: bias of the convolution, or None.
        bn_rm: running mean.
        bn_rv: running variance.
        bn_eps: eps of the batch norm.
        bn_w: weight of the batch norm, or None.
        bn_b: bias of the batch norm, or None.
        transpose: whether the convolution is transposed.
    """
    fused = _fold(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)
    return _as_parameters(fused, conv_w, conv_b)


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b):
    """Return (weight, bias) of a linear layer with a batch norm folded in."""
    fused = _fold(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)
    return _as_parameters(fused, linear_w, linear_b)


def _check_eval(*modules):
    if any(module.training for module in modules):
        raise AssertionError("Fusion only for eval!")


def fuse_conv_bn_eval(conv, bn, transpose=False):
    """Return a copy of ``conv`` that computes ``bn(conv(x))``; both in evaluation mode."""
    _check_eval(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight,
        fused.bias,
        bn.running_mean,
        bn.running_var,
        bn.eps,
        bn.weight,
        bn.bias,
        transpose,
    )
    return fused


def fuse_linear_bn_eval(linear, bn):
    """Return a copy of ``linear`` that computes ``bn(linear(x))``; both in evaluation mode."""
    _check_eval(linear, bn)
    if bn.num_features not in (1, linear.out_features):
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1"
        )
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused
