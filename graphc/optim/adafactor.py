"""Adafactor and Muon: optimizers that use the shape of matrices."""

import math

import graphc as torch
from graphc.optim.per_parameter import PerParameterOptimizer, check_lr, number

__all__ = ["Adafactor", "Muon"]


def _check(condition, text):
    if not condition:
        raise ValueError(text)


class Adafactor(PerParameterOptimizer):
    """Adam whose squares of a matrix are kept as one average for each row and column.

    The step is relative to the size of the parameter.

    Args:
        params: parameters, or dictionaries of groups.
        lr: largest relative step.
        beta2_decay: exponent with which the decay of the squares approaches 1.
        eps: smallest square (None: the dtype's machine epsilon) and smallest parameter size.
        d: largest root mean square of an update.
        weight_decay: share by which parameters are made smaller, times ``lr``.
        foreach: accepted; it changes nothing.
        maximize: whether the objective is maximized.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        beta2_decay=-0.8,
        eps=(None, 1e-3),
        d=1.0,
        weight_decay=0.0,
        *,
        foreach=None,
        maximize=False,
    ):
        if isinstance(lr, torch.Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        _check(lr >= 0.0, f"Learning rate should be >= 0 but is: {lr}")
        _check(beta2_decay <= 0.0, f"beta2_decay should be <= 0 but is: {beta2_decay}")
        _check(eps[0] is None or eps[0] >= 0.0, f"epsilon1 should be >= 0 but is: {eps[0]}")
        _check(eps[1] >= 0.0, f"epsilon2 should be >= 0 but is: {eps[1]}")
        _check(d >= 1.0, f"Clipping threshold d should be >= 1 but is: {d}")
        _check(weight_decay >= 0.0, f"weight_decay should be >= 0 but is: {weight_decay}")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        if param.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        if param.dim() > 1:
            *outer, rows, columns = param.shape
            state["row_var"] = param.grad.new_zeros((*outer, rows, 1))
            state["col_var"] = param.grad.new_zeros((*outer, 1, columns))
        else:
            state["variance"] = torch.zeros_like(param.grad)

    def _update(self, param, grad, state, group, step):
        lr, (smallest, smallest_size) = number(group["lr"]), group["eps"]
        if smallest is None:
            smallest = torch.finfo(param.dtype).eps
        new_share = step ** group["beta2_decay"]
        size = param.norm(2).item() / param.numel() ** 0.5
        length = max(smallest_size, size) * min(lr, 1 / step**0.5)
        if group["weight_decay"] != 0:
            param.mul_(1 - lr * group["weight_decay"])
        if grad.dim() > 1:
            rows, columns = state["row_var"], state["col_var"]
            rows.lerp_(grad.norm(dim=-1, keepdim=True).square() / grad.size(-1), new_share)
            columns.lerp_(grad.norm(dim=-2, keepdim=True).square() / grad.size(-2), new_share)
            variance = rows @ columns / rows.mean(dim=-2, keepdim=True).clamp(min=smallest)
        else:
            variance = state["variance"]
            variance.lerp_(grad * grad, new_share)
        update = variance.clamp(min=smallest * smallest).rsqrt() * grad
        spread = update.norm(2).item() / (update.numel() ** 0.5 * group["d"])
        param.add_(update, alpha=-length / max(1.0, spread))


class Muon(PerParameterOptimizer):
    """Momentum descent whose updates are made orthogonal; for matrices only.

    Args:
        params: parameters of two dimensions, or dictionaries of groups.
        lr: learning rate.
        weight_decay: share by which parameters are made smaller, times ``lr``.
        momentum: decay of the momentum buffer.
        nesterov: whether the gradient is taken where the momentum leads.
        ns_coefficients: of the Newton-Schulz iteration.
        eps: smallest norm.
        ns_steps: iterations, less than 100.
        adjust_lr_fn: how the rate depends on the shape: "original" (None) or "match_rms_adamw".

    Raises:
        ValueError: an option is out of its range, or a parameter is no matrix.
    """

    _counts_steps = False

    def __init__(
        self,
        params,
        lr=1e-3,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        ns_coefficients=(3.4445, -4.775, 2.0315),
        eps=1e-7,
        ns_steps=5,
        adjust_lr_fn=None,
    ):
        check_lr(lr)
        _check(momentum >= 0.0, f"momentum should be >= 0 but is: {momentum}")
        _check(weight_decay >= 0.0, f"weight decay should be >= 0 but is: {weight_decay}")
        _check(
            adjust_lr_fn in (None, "original", "match_rms_adamw"),
            f"Adjust learning rate function {adjust_lr_fn} is not supported",
        )
        _check(ns_steps < 100, "Number of steps must be less than 100")
        _check(len(ns_coefficients) == 3, "Coefficients must be a tuple of exactly 3 values")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for param in self._all_params():
            if param.ndim != 2:
                raise ValueError(
                    "Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{param.size()}"
                )

    def _init_state(self, param, state, group):
        state["momentum_buffer"] = torch.zeros_like(param.grad)

    def _update(self, param, grad, state, group, step):
        buffer, momentum = state["momentum_buffer"], group["momentum"]
        buffer.lerp_(grad, 1 - momentum)
        update = grad.lerp(buffer, momentum) if group["nesterov"] else buffer
        update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = param.shape
        lr = number(group["lr"])
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        else:
            ratio = math.sqrt(max(1, rows / columns))
        param.mul_(1 - lr * group["weight_decay"])
        param.add_(update.to(param.dtype), alpha=-lr * ratio)


def _orthogonal(matrix, coefficients, steps, eps):
    """Return the orthogonal factor of ``matrix``, nearly, by a quintic iteration in bfloat16."""
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.bfloat16()
    x = x.t() if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.t()
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    return x.t() if tall else x
