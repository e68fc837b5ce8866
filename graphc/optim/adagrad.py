"""Optimizers that divide by the size of past gradients: Adagrad, Adadelta, RMSprop."""

import graphc as torch
from graphc.optim.per_parameter import (
    PerParameterOptimizer,
    check_fused,
    check_lr,
    check_option,
    decayed,
    number,
)

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(PerParameterOptimizer):
    """``param -= lr * grad / (sqrt(sum) + eps)``, sum of the squares of all gradients so far.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        lr_decay: the rate is divided by ``1 + (step - 1) * lr_decay``.
        weight_decay: multiple of the parameter that is added to its gradient.
        initial_accumulator_value: first value of the sum.
        eps: added to the denominator.
        foreach, fused: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        lr_decay=0,
        weight_decay=0,
        initial_accumulator_value=0,
        eps=1e-10,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        fused=None,
    ):
        check_lr(lr)
        check_option(lr_decay >= 0.0, "lr_decay value", lr_decay)
        check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)
        first = initial_accumulator_value
        check_option(first >= 0.0, "initial_accumulator_value value", first)
        check_option(eps >= 0.0, "epsilon value", eps)
        check_fused(fused, foreach, differentiable)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                self._start_state(param, self.state[param], group)

    def share_memory(self):
        """Move the sums to shared memory."""
        for param in self._all_params():
            self.state[param]["sum"].share_memory_()

    def _init_state(self, param, state, group):
        first = self.defaults["initial_accumulator_value"]
        first = complex(first, first) if param.is_complex() else first
        state["sum"] = torch.full_like(param, first)

    def _check_grad(self, grad):
        """Sparse gradients have an update of their own."""

    def _update(self, param, grad, state, group, step):
        rate = number(group["lr"]) / (1 + (step - 1) * group["lr_decay"])
        if grad.is_sparse:
            self._update_sparse(param, grad, state, group, rate)
            return
        grad = decayed(param, grad, group)
        total = state["sum"]
        total.addcmul_(grad, grad, value=1)
        param.addcdiv_(grad, total.sqrt() + group["eps"], value=-rate)

    @staticmethod
    def _update_sparse(param, grad, state, group, rate):
        if group["weight_decay"] != 0:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        grad = grad.coalesce()
        indices, values = grad.indices(), grad.values()

        def spread(rows):
            return torch.sparse_coo_tensor(indices, rows, grad.size())

        state["sum"].add_(spread(values.pow(2)))
        root = state["sum"].sparse_mask(grad).values().sqrt() + group["eps"]
        param.add_(spread(values / root), alpha=-rate)


class Adadelta(PerParameterOptimizer):
    """``param -= lr * grad * rms(past updates) / rms(past gradients)``.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        rho: decay of both averages of squares.
        eps: added to both averages.
        weight_decay: multiple of the parameter that is added to its gradient.
        foreach, capturable: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1.0,
        rho=0.9,
        eps=1e-6,
        weight_decay=0,
        foreach=None,
        *,
        capturable=False,
        maximize=False,
        differentiable=False,
    ):
        check_lr(lr)
        check_option(0.0 <= rho <= 1.0, "rho value", rho)
        check_option(eps >= 0.0, "epsilon value", eps)
        check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["square_avg"] = torch.zeros_like(param)
        state["acc_delta"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        rho, eps = group["rho"], group["eps"]
        squares, deltas = state["square_avg"], state["acc_delta"]
        squares.mul_(rho).addcmul_(grad, grad, value=1 - rho)
        delta = (deltas + eps).sqrt() / (squares + eps).sqrt() * grad
        deltas.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        param.add_(delta, alpha=-number(group["lr"]))


class RMSprop(PerParameterOptimizer):
    """``param -= lr * grad / (sqrt(v) + eps)``, v the average of the squared gradients.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        alpha: decay of the average.
        eps: added to the denominator.
        weight_decay: multiple of the parameter that is added to its gradient.
        momentum: decay of a momentum buffer; 0 for none.
        centered: whether the variance is used instead of the mean square.
        capturable, foreach: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0,
        momentum=0,
        centered=False,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        check_lr(lr)
        check_option(eps >= 0.0, "epsilon value", eps)
        check_option(momentum >= 0.0, "momentum value", momentum)
        check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)
        check_option(alpha >= 0.0, "alpha value", alpha)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["square_avg"] = torch.zeros_like(param)
        if group["momentum"] > 0:
            state["momentum_buffer"] = torch.zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        alpha, lr = group["alpha"], number(group["lr"])
        squares = state["square_avg"]
        squares.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"]
            mean.lerp_(grad, 1 - alpha)
            root = squares.addcmul(mean, mean, value=-1).sqrt()
        else:
            root = squares.sqrt()
        root = root + group["eps"]
        if group["momentum"] > 0:
            buffer = state["momentum_buffer"]
            buffer.mul_(group["momentum"]).addcdiv_(grad, root)
            param.add_(buffer, alpha=-lr)
        else:
            param.addcdiv_(grad, root, value=-lr)
