"""Averaged stochastic gradient descent and resilient backpropagation."""

import graphc as torch
from graphc.optim.per_parameter import (
    PerParameterOptimizer,
    check_lr,
    check_option,
    count_dtype,
    decayed,
    number,
)

__all__ = ["ASGD", "Rprop"]


class ASGD(PerParameterOptimizer):
    """Gradient descent that also keeps the average of the parameters (``state["ax"]``).

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        lambd: decay term.
        alpha: exponent of the decay of the rate.
        t0: step at which averaging begins.
        weight_decay: multiple of the parameter that is added to its gradient.
        foreach, capturable: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        lambd=1e-4,
        alpha=0.75,
        t0=1e6,
        weight_decay=0,
        foreach=None,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        check_lr(lr)
        check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["eta"] = torch.tensor(number(group["lr"]), dtype=count_dtype())
        state["mu"] = torch.tensor(1.0, dtype=count_dtype())
        state["ax"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        lr, lambd = number(group["lr"]), group["lambd"]
        rate, share = number(state["eta"]), number(state["mu"])
        param.mul_(1 - lambd * rate)
        param.add_(grad, alpha=-rate)
        average = state["ax"]
        if share == 1:
            average.copy_(param)
        else:
            average.add_((param - average) * share)
        rate = lr / (1 + lambd * lr * step) ** group["alpha"]
        state["eta"] = torch.tensor(rate, dtype=state["eta"].dtype)
        state["mu"] = torch.tensor(1 / max(1, step - group["t0"]), dtype=state["mu"].dtype)


class Rprop(PerParameterOptimizer):
    """Steps of a size that grows while the gradient keeps its sign and shrinks when it turns.

    Args:
        params: parameters, or dictionaries of groups.
        lr: first step size.
        etas: factors of shrinking and growing.
        step_sizes: smallest and largest step size.
        capturable, foreach: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        etas=(0.5, 1.2),
        step_sizes=(1e-6, 50),
        *,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        check_lr(lr)
        check_option(0.0 < etas[0] < 1.0 < etas[1], "eta values", f"{etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        lr = number(group["lr"])
        state["prev"] = torch.zeros_like(param)
        state["step_size"] = torch.full_like(param, complex(lr, lr) if param.is_complex() else lr)

    def _update(self, param, grad, state, group, step):
        shrink, grow = group["etas"]
        smallest, largest = group["step_sizes"]
        agreement = grad * state["prev"]
        turned = agreement < 0
        factor = torch.ones_like(grad)
        factor = torch.where(turned, shrink, torch.where(agreement > 0, grow, factor))
        size = state["step_size"]
        size.mul_(factor).clamp_(smallest, largest)
        # Where the sign has turned, this step is left out.
        grad = torch.where(turned, 0.0, grad)
        param.addcmul_(grad.sign(), size, value=-1)
        state["prev"].copy_(grad)
