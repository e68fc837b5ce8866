"""Weight and spectral normalisation as parametrizations."""

import graphc as torch
from graphc.nn import functional as F
from graphc.nn.modules.conv import _ConvTransposeNd
from graphc.nn.modules.module import Module
from graphc.nn.utils.parametrize import register_parametrization

__all__ = ["spectral_norm", "weight_norm"]


def norm_except_dim(tensor, dim):
    """Return the 2-norms over all dimensions but ``dim``, kept; -1: of the whole tensor."""
    if dim == -1:
        return torch.linalg.vector_norm(tensor)
    others = [d for d in range(tensor.dim()) if d != dim]
    return torch.linalg.vector_norm(tensor, 2, others, keepdim=True)


class _WeightNorm(Module):
    """``g * v / norm(v)``."""

    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight):
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """Learn a weight's length and direction apart.

    Args:
        module: has the weight.
        name: its name.
        dim: the dimension along which each slice has a length; None: one length for all.

    Returns:
        The module; its lengths are ``parametrizations.weight.original0``.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def from_old_names(state, prefix, *rest):
        # Checkpoints of the function of the same name in nn.utils.
        inner = f"{prefix}parametrizations.{name}.original"
        for place, suffix in enumerate("gv"):
            old = f"{prefix}{name}_{suffix}"
            if old in state:
                state[f"{inner}{place}"] = state.pop(old)

    module._register_load_state_dict_pre_hook(from_old_names)
    return module


class _SpectralNorm(Module):
    """The weight over its largest singular value, which power iterations follow."""

    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                "Dimension out of range (expected to be in range of "
                f"[-{weight.ndim}, {weight.ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got "
                f"n_power_iterations={n_power_iterations}"
            )
        self.dim = dim % weight.ndim
        self.eps = eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            with torch.no_grad():
                matrix = self._as_matrix(weight)
                rows, columns = matrix.size()
                left = matrix.new_empty(rows).normal_(0, 1)
                right = matrix.new_empty(columns).normal_(0, 1)
                self.register_buffer("_u", F.normalize(left, dim=0, eps=eps))
                self.register_buffer("_v", F.normalize(right, dim=0, eps=eps))
                self._iterate(matrix, 15)

    def _as_matrix(self, weight):
        if self.dim != 0:
            others = [d for d in range(weight.dim()) if d != self.dim]
            weight = weight.permute(self.dim, *others)
        return weight.flatten(1)

    @torch.no_grad()
    def _iterate(self, matrix, count):
        for _ in range(count):
            left = torch.mv(matrix, self._v)
            self._u.copy_(F.normalize(left, dim=0, eps=self.eps))
            right = torch.mv(matrix.t(), self._u)
            self._v.copy_(F.normalize(right, dim=0, eps=self.eps))

    def forward(self, weight):
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._as_matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        # Copies, so that several forwards before one backward do not write what it needs.
        left, right = self._u.clone(), self._v.clone()
        return weight / torch.dot(left, torch.mv(matrix, right))

    def right_inverse(self, value):
        return value


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value.

    Args:
        module: has the weight.
        name: its name.
        n_power_iterations: iterations at each forward in training.
        eps: smallest norm in the iterations.
        dim: the dimension of the outputs; None: 1 for transposed convolutions, else 0.

    Returns:
        The module.

    Raises:
        ValueError: there is no such tensor.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, _ConvTransposeNd) else 0
    parametrization = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return register_parametrization(module, name, parametrization)
