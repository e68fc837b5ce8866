"""Normalisation over the batch, and over each instance, with running statistics."""

import warnings

import graphc as torch
from graphc.nn import functional as F
from graphc.nn import init
from graphc.nn.modules.module import Module
from graphc.nn.parameter import Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
]


class _NormBase(Module):
    """Affine parameters and running statistics, one each a feature."""

    _version = 2
    # The numbers of dimensions that an input may have; None: any.
    _input_dims = None

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        kind = {"device": device, "dtype": dtype}
        weight = Parameter(torch.empty(num_features, **kind)) if affine else None
        shift = Parameter(torch.empty(num_features, **kind)) if affine and bias else None
        self.register_parameter("weight", weight)
        self.register_parameter("bias", shift)
        mean = var = count = None
        if track_running_stats:
            mean = torch.zeros(num_features, **kind)
            var = torch.ones(num_features, **kind)
            count = torch.tensor(0, dtype=torch.long, device=device)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget the statistics: mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        """Forget the statistics; set weight to 1 and bias to 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_input_dim(self, input):
        allowed = self._input_dims
        if allowed is not None and input.dim() not in allowed:
            wanted = " or ".join(f"{n}D" for n in allowed)
            raise ValueError(f"expected {wanted} input (got {input.dim()}D input)")

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        # Version 2 added num_batches_tracked.
        key = prefix + "num_batches_tracked"
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.track_running_stats:
            if key not in state_dict:
                count = self.num_batches_tracked
                if count is None or count.is_meta:
                    count = torch.tensor(0, dtype=torch.long)
                state_dict[key] = count
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


_DETAILS = """

    In training the statistics of the batch are used, and the running ones move by
    ``momentum`` towards them (None: they are the average over all batches); in evaluation the
    running ones are used, where there are any.

    Args:
        num_features: size C of dimension 1 of the input.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics, or None.
        affine: whether there are a weight and a bias of shape (C,).
        track_running_stats: whether there are running statistics.
        bias: whether there is a bias, where there is a weight.

    Raises:
        ValueError: the input has another number of dimensions.
    """


class _BatchNorm(_NormBase):
    def forward(self, input):
        self._check_input_dim(input)
        average_factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                average_factor = 1.0 / float(self.num_batches_tracked)
        has_running = self.running_mean is not None or self.running_var is not None
        use_running = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if use_running else None,
            self.running_var if use_running else None,
            self.weight,
            self.bias,
            self.training or not has_running,
            average_factor,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C) or (N, C, L)." + _DETAILS
    _input_dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C, H, W)." + _DETAILS
    _input_dims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C, D, H, W)." + _DETAILS
    _input_dims = (5,)


class _InstanceNorm(_NormBase):
    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        if local_metadata.get("version") is None and not self.track_running_stats:
            names = [n for n in ("running_mean", "running_var") if prefix + n in state_dict]
            if names:
                listed = " and ".join(f'"{prefix}{name}"' for name in names)
                error_msgs.append(
                    f"Unexpected running stats buffer(s) {listed} for {type(self).__name__} with "
                    "track_running_stats=False. If the running stats are actually needed, "
                    "set track_running_stats=True to enable them."
                )
                for name in names:
                    state_dict.pop(prefix + name)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def forward(self, input):
        self._check_input_dim(input)
        batched = input.dim() == self._input_dims[1]
        channel = 1 if batched else 0
        if input.size(channel) != self.num_features:
            if self.affine:
                raise ValueError(
                    f"expected input's size at dim={channel} to match num_features "
                    f"({self.num_features}), but got: {input.size(channel)}."
                )
            warnings.warn(
                f"input's size at dim={channel} does not match num_features. You can silence this "
                "warning by not passing in num_features, which is not used because affine=False",
                stacklevel=2,
            )
        if batched:
            return self._apply_instance_norm(input)
        return self._apply_instance_norm(input.unsqueeze(0)).squeeze(0)

    def _apply_instance_norm(self, input):
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum if self.momentum is not None else 0.0,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    __doc__ = "Normalisation of each channel of (N, C, L) or (C, L)." + _DETAILS
    _input_dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = "Normalisation of each channel of (N, C, H, W) or (C, H, W)." + _DETAILS
    _input_dims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = "Normalisation of each channel of (N, C, D, H, W) or (C, D, H, W)." + _DETAILS
    _input_dims = (4, 5)
