"""Adam and its kin: averages of gradients and of their squares, with bias correction."""

import graphc as torch
from graphc.frontends.updates import update
from graphc.optim.per_parameter import (
    PerParameterOptimizer,
    can_go_together,
    check_betas,
    check_fused,
    check_lr,
    check_option,
    count_dtype,
    decayed,
    number,
)
from graphc.optim.together import adam, adam_options

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


def _update_averages(grad, state, betas):
    """Move both averages towards the gradient; return them."""
    beta1, beta2 = betas
    average, square = state["exp_avg"], state["exp_avg_sq"]
    average.lerp_(grad, 1 - beta1)
    square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    return average, square


def _check_adam(lr, betas, eps, weight_decay):
    check_lr(lr)
    check_option(eps >= 0.0, "epsilon value", eps)
    check_betas(betas)
    check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)


class Adam(PerParameterOptimizer):
    """``param -= lr * m / (sqrt(v) + eps)``, m and v the bias-corrected averages.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: multiple of the parameter that is added to its gradient.
        amsgrad: whether the largest average of squares so far is used.
        foreach, capturable, fused: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
        decoupled_weight_decay: whether the decay acts on the parameter, as in AdamW.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        amsgrad=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
        fused=None,
        decoupled_weight_decay=False,
    ):
        _check_adam(lr, betas, eps, weight_decay)
        if isinstance(betas[0], torch.Tensor) != isinstance(betas[1], torch.Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        check_fused(fused, foreach, differentiable)
        defaults = {
            "lr": lr,
            "betas": tuple(number(beta) for beta in betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check_grad(self, grad):
        if grad.is_sparse:
            raise RuntimeError(
                "Adam does not support sparse gradients, please consider SparseAdam instead"
            )

    def _init_state(self, param, state, group):
        state["exp_avg"] = torch.zeros_like(param)
        state["exp_avg_sq"] = torch.zeros_like(param)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(param)

    def _step_together(self, params, group, counters):
        if not can_go_together(params, group):
            return False
        self._start_missing(params, group)
        states = [self.state[param] for param in params]
        steps = {id(state["step"]): state["step"] for state in states}  # one object, as a rule
        if len({counters.read(step) for step in steps.values()}) != 1:
            return False
        step = max(counters.advance(state) for state in states)
        averages = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        largest = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else []
        (beta1, beta2), lr, decay = group["betas"], group["lr"], number(group["weight_decay"])
        options = adam_options(
            beta1, beta2, group["eps"], group["amsgrad"], group["maximize"],
            group["decoupled_weight_decay"], decay,
        )  # fmt: skip
        grads = [param._grad for param in params]
        update(
            adam, (params, averages, squares, largest), (params, grads, averages, squares, largest),
            options, 1 - lr * decay, (1 - beta2**step) ** 0.5, -lr / (1 - beta1**step),
        )  # fmt: skip
        return True

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        beta1, beta2 = group["betas"]
        average, square = _update_averages(grad, state, group["betas"])
        step_size = number(group["lr"]) / (1 - beta1**step)
        if group["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            largest.copy_(torch.maximum(largest, square))
            square = largest
        denominator = square.sqrt() / (1 - beta2**step) ** 0.5 + group["eps"]
        param.addcdiv_(average, denominator, value=-step_size)


class AdamW(Adam):
    """:class:`Adam` whose weight decay acts on the parameter instead of the gradient."""

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        foreach=None,
        capturable=False,
        differentiable=False,
        fused=None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class Adamax(PerParameterOptimizer):
    """Adam with the decayed largest absolute gradient in place of the root mean square.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        betas: decay rates of the average and of the largest absolute gradient.
        eps: added to absolute gradients.
        weight_decay: multiple of the parameter that is added to its gradient.
        foreach, capturable: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=2e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        _check_adam(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["exp_avg"] = torch.zeros_like(param)
        state["exp_inf"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        beta1, beta2 = group["betas"]
        grad = decayed(param, grad, group)
        average, largest = state["exp_avg"], state["exp_inf"]
        average.lerp_(grad, 1 - beta1)
        largest.copy_(torch.maximum(largest * beta2, grad.abs() + group["eps"]))
        step_size = number(group["lr"]) / (1 - beta1**step)
        param.addcdiv_(average, largest, value=-step_size)


class NAdam(PerParameterOptimizer):
    """Adam with Nesterov momentum.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: multiple of the parameter that is added to its gradient.
        momentum_decay: rate at which the momentum grows towards ``betas[0]``.
        decoupled_weight_decay: whether the decay acts on the parameter, as in AdamW.
        foreach, capturable: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=2e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        momentum_decay=4e-3,
        decoupled_weight_decay=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
    ):
        _check_adam(lr, betas, eps, weight_decay)
        check_option(momentum_decay >= 0.0, "momentum_decay value", momentum_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["mu_product"] = torch.tensor(1.0, dtype=count_dtype())
        state["exp_avg"] = torch.zeros_like(param)
        state["exp_avg_sq"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        beta1, beta2 = group["betas"]
        lr, decay = number(group["lr"]), group["momentum_decay"]
        momentum = beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))
        next_momentum = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * decay))
        # A tensor of its own, so that the product is rounded as it is saved.
        state["mu_product"] = torch.tensor(
            number(state["mu_product"]) * momentum, dtype=state["mu_product"].dtype
        )
        product = number(state["mu_product"])
        average, square = _update_averages(grad, state, group["betas"])
        denominator = (square / (1 - beta2**step)).sqrt() + group["eps"]
        param.addcdiv_(grad, denominator, value=-lr * (1.0 - momentum) / (1.0 - product))
        ahead = -lr * next_momentum / (1.0 - product * next_momentum)
        param.addcdiv_(average, denominator, value=ahead)


class RAdam(PerParameterOptimizer):
    """Adam that starts as momentum descent until the average of squares can be relied on.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: multiple of the parameter that is added to its gradient.
        decoupled_weight_decay: whether the decay acts on the parameter, as in AdamW.
        foreach, capturable: accepted; they change nothing.
        maximize: whether the objective is maximized.
        differentiable: whether autograd records the step.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        decoupled_weight_decay=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
    ):
        _check_adam(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _init_state(self, param, state, group):
        state["exp_avg"] = torch.zeros_like(param)
        state["exp_avg_sq"] = torch.zeros_like(param)

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        beta1, beta2 = group["betas"]
        average, square = _update_averages(grad, state, group["betas"])
        correction2 = 1 - beta2**step
        update = average / (1 - beta1**step) * number(group["lr"])
        # Length of the simple moving average that the exponential one stands for.
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction2
        if length > 5.0:
            rectify = (length - 4) * (length - 2) * longest
            rectify = (rectify / ((longest - 4) * (longest - 2) * length)) ** 0.5
            update = update * (correction2**0.5 / (square.sqrt() + group["eps"])) * rectify
        param.add_(update, alpha=-1.0)
